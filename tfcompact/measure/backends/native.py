"""The back end `native`: our own C program, pushed to a device with the runtime, the loader and the C library.

It needs neither an app nor Android's NDK. A *bundle* is one directory of files: `runner` (android_harness/native/
runner.c), `libLiteRt.so` out of the ai-edge-litert wheel for the device's processor, the GNU loader and the libraries
that these two ask for, some 11 MB in all. It is started from within itself, so that nothing of the device's own
libraries is used:

    cd DIRECTORY && ./ld-linux-aarch64.so.1 --library-path . ./runner ./libLiteRt.so MODEL --input FILE ...

`reference` is not among the delegates: the kernel mode of that name is accepted by libLiteRt.so 2.3.0, but runs what
`builtin` runs, instruction for instruction. No TensorFlow here.
"""

from __future__ import annotations

import shlex
import tempfile
import threading
import uuid
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.backends.backend import Job, Outcome, RunFailed
from tfcompact.measure.backends.benchmark_log import last_words
from tfcompact.measure.backends.bundle import RUNTIME_VERSION, TARGETS, Bundle, build_bundle
from tfcompact.measure.backends.runner_answer import events_of_one_run, outcome, parse

DELEGATES = ("xnnpack", "builtin")
PROFILED_RUNS = 20
"""Inferences whose operators are timed, where times of operators are asked for; else one, which shows what ran."""
GRACE_S = 600.0
"""What a run may take beyond its timed seconds: loading, warming up, and a slow device."""


class Native:
    """The back end `native` for the devices of `adb`, one bundle for each kind of processor among them.

    `directory` is where bundles are made and kept (default: the cache).
    """

    name = "native"
    delegates: tuple[str, ...] = DELEGATES

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._homes: weakref.WeakKeyDictionary[Phone, tuple[Bundle, str]] = weakref.WeakKeyDictionary()

    def prepare(self, phone: Phone) -> None:
        """Makes the bundle for the device's processor and brings it there, unless both are there already.

        Raises `UserError` where the processor is not known, with the command that provides what is missing, and where
        the device does not let adb's shell run a program.
        """
        machine = phone.shell("uname -m").out.strip()
        if machine not in TARGETS:
            raise UserError(
                f"the device's processor is {machine or 'unknown'}, and back end {self.name} is for "
                f"{' and '.join(TARGETS)}; take --backend benchmark_model or litert_app"
            )
        with self._lock:  # several devices at once need one bundle, made once
            bundle = build_bundle(self._directory, machine)
        home = phone.push_files_by_sha256(bundle.files)
        _try(phone, bundle, home)
        with self._lock:
            self._homes[phone] = bundle, home

    def run(self, phone: Phone, job: Job) -> Outcome:
        """Runs the file, and once more with its operators looked at. Raises `UserError` where it does not run.

        `ColdStart.load_ms` is reading the file; the runtime itself is open by then. The first inference is not among
        the warm-up runs.
        """
        check_delegate(job.delegate, self.name)
        bundle, home = self._prepared(phone)
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "input.bin"
            image.write_bytes(job.image)
            _check_mask(phone, job.affinity)
            runner = _Runner(phone, job, bundle, home, phone.push_by_sha256(image))
            answer = f"{home}/output-{uuid.uuid4().hex[:12]}.bin"
            timed = runner.timed(answer)
            # From here on there are times, which nothing that fails later may take away.
            output, log = _fetched(phone, answer, Path(folder) / "output.bin"), timed.log
            if isinstance(output, UserError):
                log += f"# the answer was not fetched: {output}\n"
            profile = runner.looked_at()
            if isinstance(profile, UserError):
                log += f"# the operators were not seen: {profile}\n{getattr(profile, 'log', '')}"
            else:
                log += profile.log
        return outcome(
            job,
            timed.data,
            None if isinstance(profile, UserError) else profile.data,
            command=timed.command,
            log=log,
            output=None if isinstance(output, UserError) else output,
        )

    def _prepared(self, phone: Phone) -> tuple[Bundle, str]:
        """The bundle, and the directory on the device that holds it."""
        if phone not in self._homes:
            self.prepare(phone)
        return self._homes[phone]


@dataclass(frozen=True)
class _Said:
    """One call of the C program: its command line, all that was said, and its JSON."""

    command: str
    log: str
    data: dict[str, Any]


@dataclass(frozen=True)
class _Runner:
    """The C program on one phone for one job. `image` is the input's path there."""

    phone: Phone
    job: Job
    bundle: Bundle
    home: str
    image: str

    def timed(self, answer: str) -> _Said:
        """The timed runs; the file's answer to the image goes to the path `answer` there. Raises `RunFailed`."""
        job = self.job
        warmup = ("--warmup", str(job.warmup), "--warmup-seconds", f"{job.warmup_seconds:g}")
        limits = ("--min-seconds", f"{job.min_seconds:g}", "--max-seconds", f"{job.max_seconds:g}")
        return self._call(*warmup, "--runs", str(job.repeats), *limits, "--output", answer)

    def looked_at(self) -> _Said | UserError:
        """Runs whose operators are seen, or why they are not."""
        warmup, runs = ("1", PROFILED_RUNS) if self.job.profile else ("0", 1)
        try:
            said = self._call("--warmup", warmup, "--runs", str(runs), "--min-seconds", "0", "--profile")
            events_of_one_run(said.data["events"], len(said.data["wall_ns"]))
        except UserError as error:
            return error
        return said

    def _call(self, *arguments: str) -> _Said:
        job = self.job
        common = ("--input", self.image, "--threads", str(job.threads), "--kernels", job.delegate)
        command = command_line(self.bundle, self.home, job.affinity, (job.remote, *common, *arguments))
        result = self.phone.shell(command, job.max_seconds + job.warmup_seconds + GRACE_S)
        log = f"$ {command}\n{result.err}{result.out}"
        try:
            data = parse(result.code, result.out, result.err, f"{job.path} on the device")
        except UserError as error:
            raise RunFailed(str(error), command=command, log=log) from None
        return _Said(command, log, data)


def _try(phone: Phone, bundle: Bundle, home: str) -> None:
    """Raises `UserError` unless the runner starts on the phone: asked nothing, it says so itself."""
    done = phone.shell(command_line(bundle, home, "", ()))
    if done.out.lstrip().startswith('{"error"'):
        return
    said = f"{done.out}\n{done.err}"
    words = last_words(said)
    if done.code == 126 or "denied" in said.lower():
        raise UserError(
            f"{phone.serial} does not let adb's shell run a program in {home} ({words}): SELinux, or a file system "
            "mounted without exec; take --backend litert_app"
        )
    raise UserError(f"the runner does not start on {phone.serial} ({words}); take --backend litert_app")


def _check_mask(phone: Phone, mask: str) -> None:
    """Raises `UserError` where the phone does not take the mask of cores."""
    if mask and (done := phone.shell(f"taskset {mask} true")).code != 0:
        raise UserError(
            f"{phone.serial} does not run on the cores {mask} ({last_words(done.err or done.out)}): they are off, or "
            "not for adb's shell; take --affinity all, or a mask of other cores"
        )


def _fetched(phone: Phone, remote: str, local: Path) -> bytes | UserError:
    """The bytes of a file on the phone, which is removed there, or why they cannot be had."""
    try:
        phone.pull(remote, local)
        content = local.read_bytes()
        phone.shell(f"rm -f {shlex.quote(remote)}")
    except UserError as error:
        return error
    return content


def from_options(config: Config) -> Native:
    """The back end as the options ask for it."""
    return Native()


def check_delegate(delegate: str, backend: str) -> None:
    """Raises `UserError` unless the runtime has these kernels."""
    if delegate == "reference":
        raise UserError(
            f"back end {backend} has no reference kernels: LiteRT {RUNTIME_VERSION} runs its builtin ones under that "
            "name; take delegate builtin, or --device host"
        )
    if delegate not in DELEGATES:
        raise UnknownName(f"delegate of back end {backend}", delegate, DELEGATES)


def command_line(bundle: Bundle, home: str, affinity: str, arguments: Sequence[str]) -> str:
    """The line of shell that runs the bundle in `home`, pinned to the cores of the mask `affinity` unless empty."""
    pinned = ["taskset", affinity] if affinity else []
    return f"cd {shlex.quote(home)} && {shlex.join([*pinned, *bundle.start, *arguments])}"
