"""The back end `native`: our own C program, pushed to a device with the runtime, the loader and the C library.

It needs neither an app nor Android's NDK. A *bundle* is one directory of files: `runner` (android_harness/native/
runner.c), `libLiteRt.so` out of the ai-edge-litert wheel for the device's processor, the GNU loader and the libraries
that these two ask for, some 11 MB in all. It is started from within itself, so that nothing of the device's own
libraries is used:

    cd DIRECTORY && ./ld-linux-aarch64.so.1 --library-path . ./runner ./libLiteRt.so MODEL --input FILE ...

The C program prints one line of JSON, which `parse` reads. That XNNPACK took a file is not asked of its log but shown
by the operators that ran, one by one, in an inference of its own.

`reference` is not among the delegates: the kernel mode of that name is accepted by libLiteRt.so 2.3.0, but runs what
`builtin` runs, instruction for instruction. No TensorFlow here.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import threading
import uuid
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.backends.backend import Job, Outcome, RunFailed
from tfcompact.measure.backends.bundle import RUNTIME_VERSION, TARGETS, Bundle, build_bundle
from tfcompact.records.measurement import ColdStart, OperatorTime
from tfcompact.tflite import flatbuffer

RUNTIME = f"LiteRT {RUNTIME_VERSION} (C API)"
DELEGATES = ("xnnpack", "builtin")
PROFILED_RUNS = 20
"""Inferences whose operators are timed, where times of operators are asked for; else one, which shows what ran."""
GRACE_S = 600.0
"""What a run may take beyond its timed seconds: loading, warming up, and a slow device."""


class Result(Protocol):
    """What a command on a device left."""

    @property
    def code(self) -> int:
        """Its exit status."""

    @property
    def out(self) -> str:
        """What it wrote to standard output."""

    @property
    def err(self) -> str:
        """What it wrote to standard error."""


class Phone(Protocol):
    """What this back end needs of a device; `adb.Phone` has it."""

    def shell(self, command: str, timeout_s: float = ...) -> Result:
        """Runs a line of shell, once."""

    def push_by_sha256(self, path: Path) -> str:
        """Brings a file to the device, and returns its path there."""

    def push_files_by_sha256(self, files: Mapping[str, Path]) -> str:
        """Brings files into one directory of the device, and returns its path."""

    def pull(self, remote: str, local: Path) -> None:
        """Copies a file from the device."""


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

        Raises `UserError` where the processor is not known, or with the command that provides what is missing.
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
        with self._lock:
            self._homes[phone] = bundle, home

    def run(self, phone: Phone, job: Job) -> Outcome:
        """Runs the file, and once more with its operators looked at. Raises `UserError` where it does not run.

        `ColdStart.load_ms` is reading the file; the runtime itself is open by then. The first inference is not among
        the warm-up runs.
        """
        check_delegate(job.delegate, self.name)
        bundle, home = self._prepared(phone)
        with tempfile.TemporaryDirectory() as scratch:
            image = Path(scratch) / "input.bin"
            image.write_bytes(job.image)
            remote_image = phone.push_by_sha256(image)
            answer = f"{home}/output-{uuid.uuid4().hex[:12]}.bin"
            limits = ("--min-seconds", f"{job.min_seconds:g}", "--max-seconds", f"{job.max_seconds:g}")
            common = ("--input", remote_image, "--threads", str(job.threads), "--kernels", job.delegate)
            warmup = ("--warmup", str(job.warmup), "--warmup-seconds", f"{job.warmup_seconds:g}")
            timed = (*warmup, "--runs", str(job.repeats), *limits, "--output", answer)
            runs = PROFILED_RUNS if job.profile else 1
            looked_at = (
                "--warmup",
                "1" if job.profile else "0",
                "--runs",
                str(runs),
                "--min-seconds",
                "0",
                "--profile",
            )

            def call(*arguments: str) -> tuple[str, str, dict[str, Any]]:
                command = command_line(bundle, home, job.affinity, (job.remote, *common, *arguments))
                result = phone.shell(command, job.max_seconds + job.warmup_seconds + GRACE_S)
                log = f"$ {command}\n{result.err}{result.out}"
                try:
                    return command, log, parse(result.code, result.out, result.err, f"{job.path} on the device")
                except UserError as error:
                    raise RunFailed(str(error), command=command, log=log) from None

            command, log, data = call(*timed)
            # From here on there are times, which nothing that fails later may take away.
            output, profile = None, None
            try:
                local = Path(scratch) / "output.bin"
                phone.pull(answer, local)
                output = local.read_bytes()
                phone.shell(f"rm -f {shlex.quote(answer)}")
            except UserError as error:
                log += f"# the answer was not fetched: {error}\n"
            try:
                _, profile_log, profile = call(*looked_at)
                log += profile_log
                events_of_one_run(profile["events"], len(profile["wall_ns"]))
            except UserError as error:
                profile = None
                log += f"# the operators were not seen: {error}\n{getattr(error, 'log', '')}"
            return outcome(job, data, profile, command=command, log=log, output=output)

    def _prepared(self, phone: Phone) -> tuple[Bundle, str]:
        """The bundle, and the directory on the device that holds it."""
        if phone not in self._homes:
            self.prepare(phone)
        return self._homes[phone]


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


def parse(code: int, out: str, err: str, what: str) -> dict[str, Any]:
    """What the runner printed. Raises `UserError`, in one line, where it failed or did not come to its end."""
    last = out.strip().rpartition("\n")[2]
    try:
        data = json.loads(last)
    except ValueError:
        data = None
    if isinstance(data, dict) and code == 0 and "wall_ns" in data:
        return data
    if isinstance(data, dict) and "error" in data:
        reason = str(data["error"])
    else:
        ended = f"signal {code - 128}" if code > 128 else f"status {code}"
        said = err.strip().rpartition("\n")[2].strip()
        reason = f"the runner ended with {ended}" + (f": {said}" if said else "")
    raise UserError(f"{what} does not run ({reason}); export it again, or try another delegate")


def operators(events: Sequence[Sequence[Any]], runs: int) -> tuple[OperatorTime, ...]:
    """The operators of `runs` inferences in order: mean time of one in ms, and share of all.

    `events` are the runner's `[name, whether a delegate's, index, us]`. Raises `UserError` where the runs differ.
    """
    each = events_of_one_run(events, runs)
    count = len(each)
    times = [sum(float(event[3]) for event in events[i::count]) / runs / 1e3 for i in range(count)]
    total = sum(times)
    return tuple(
        OperatorTime(
            name=f"{name} {i}",
            type=str(name),
            mean_ms=ms,
            share=ms / total if total else 0.0,
        )
        for i, ((name, *_), ms) in enumerate(zip(each, times, strict=True))
    )


def events_of_one_run(events: Sequence[Sequence[Any]], runs: int) -> Sequence[Sequence[Any]]:
    """The first inference's events. Raises `UserError` unless every other has the same operators in that order."""
    count, rest = divmod(len(events), runs)
    first = events[:count]
    same = all(list(event[:3]) == list(first[i % count][:3]) for i, event in enumerate(events)) if count else False
    if rest or not same:
        raise UserError(
            f"the profile holds {len(events)} operators of {runs} runs that differ; run it without profile"
        )
    return first


def delegation(events: Sequence[Sequence[Any]]) -> tuple[int, int, int]:
    """How XNNPACK took a file, by what ran in one inference: its pieces, its own operators, the runtime's operators.

    It numbers its operators anew in each piece. Its operators are not those of the file: it may need several for one.
    """
    pieces = sum(bool(delegated) and index == 0 for _, delegated, index, _ in events)
    own = sum(bool(delegated) for _, delegated, _, _ in events)
    return pieces, own, len(events) - own


def outcome(
    job: Job,
    data: Mapping[str, Any],
    profile: Mapping[str, Any] | None,
    *,
    command: str,
    log: str,
    output: bytes | None,
) -> Outcome:
    """What the runner's two lines of JSON say: that of the timed runs, and that of the runs looked at.

    Without the second nobody knows which kernels ran, and a flag says so; another, that there is no `output`.
    """
    facts: dict[str, Any] = delegation_facts(job, profile) if profile else {"delegate": job.delegate, "flags": {}}
    lost = {"profile_failed": profile is None, "answer_lost": output is None}
    facts["flags"] |= {name: True for name, raised in lost.items() if raised}
    return Outcome(
        runtime=RUNTIME,
        command=command,
        log=log,
        wall_ms=tuple(ns / 1e6 for ns in data["wall_ns"]),
        process_ms=tuple(ns / 1e6 for ns in data["process_ns"]),
        warmup_runs=int(data["warmup"]),
        cold=ColdStart(load_ms=data["load_ms"], compile_ms=data["compile_ms"], first_ms=data["first_ms"]),
        operators=operators(profile["events"], len(profile["wall_ns"])) if job.profile and profile else (),
        peak_memory_mb=data["peak_memory_kb"] * 1024 / 1e6 if data["peak_memory_kb"] >= 0 else None,
        output=output,
        **facts,
    )


def delegation_facts(job: Job, profile: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Outcome` that tell which kernels ran, from the runner's line of a profiled run.

    The runtime's own operators are all of the file's that no delegate took, one for one.
    """
    events = events_of_one_run(profile["events"], len(profile["wall_ns"]))
    pieces, _, left = delegation(events)
    total = len(flatbuffer.operators(job.path))
    wanted = job.delegate == "xnnpack"
    return {
        "delegate": "xnnpack" if pieces else "builtin",
        "partitions": pieces if wanted else None,
        "delegated_nodes": total - left if wanted else None,
        "total_nodes": total,
        "flags": {"fell_back": wanted and not pieces},
    }
