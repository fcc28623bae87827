"""The back end `litert_app`: our Android app, LiteRT's `CompiledModel` on the CPU, the GPU or the NPU.

The app is `android_harness/app`. It is started by `am start`, runs the file, and leaves a `Measurement` as JSON in
its own folder, or an error; this module waits for that, and takes what the host cannot know from it. What proves the
accelerator: the app asks LiteRT for that one alone, and Android's log tells which delegate took how many operators.
LiteRT gives a file back to the CPU without an error in some cases; where the log names XNNPACK alone, the row is
XNNPACK's and a fallback, and where it names none, nothing is proved. The app has no profile of operators, and cannot
pin itself to cores.

Of two things it depends on the phone whether they work. The app reads the file where adb pushed it: Android's rules
(AOSP, system/sepolicy, private/untrusted_app_all.te) allow that, and where a phone does not, the app says so and gets
a copy in its own folder on the shared storage, which from Android 11 on may not be readable either, as another user
made it: the app's own words are the error then. And adb's shell reads what the app wrote to that folder. The tests
run all of it against a stand-in; on a phone it has not been run. No TensorFlow here.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import shlex
import tempfile
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android import adb
from tfcompact.measure.android.phone import DIRECTORY, Phone
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.backends import benchmark_log, install_errors
from tfcompact.measure.backends.backend import Job, Outcome, RunFailed
from tfcompact.measure.backends.delegation_log import Delegation, delegations, judged
from tfcompact.records.measurement import SCHEMA, Measurement

PACKAGE = "io.github.tfcompact.harness"
ACTIVITY = f"{PACKAGE}/.BenchmarkActivity"
FILES = f"/sdcard/Android/data/{PACKAGE}/files"
"""The app's own folder on the shared storage: the app may use it without a permission, and so may adb's shell."""
INSTALL_S = 180.0
START_S = 60.0
SLACK_S = 180.0
"""Seconds beyond warm-up and runs for reading and compiling: a GPU's programs can take a minute."""
BUILD = "build it with Gradle (android_harness/README.md), then give --apk PATH"


class LitertApp:
    """Runs files in the app, which is installed from `apk` first, or is on the phone already."""

    name = "litert_app"
    delegates = ("cpu", "gpu", "npu")

    def __init__(self, apk: Path | None = None) -> None:
        self.apk = apk
        self._accelerators: dict[str, tuple[str, ...]] = {}
        self._takes_copies: set[str] = set()  # phones on which the app may not read what was pushed
        if apk is not None and not zipfile.is_zipfile(apk):
            raise UserError(f"{apk} is not an APK; {BUILD}")

    def prepare(self, phone: Phone) -> None:
        """Installs the app where an APK was given, starts it once, and asks which accelerators it has.

        Raises `UserError` where it is not installed, does not start, or has no LiteRT.
        """
        if self.apk is not None:
            self._install(phone)
        elif phone.shell(f"pm path {PACKAGE}", timeout_s=START_S).code != 0:
            raise UserError(f"the app {PACKAGE} is not on {phone.serial}; {BUILD}")
        found = self._started(phone, {"probe": "true"}, START_S).json.get("accelerators")
        if not isinstance(found, list):
            raise UserError(f"the app on {phone.serial} is of another version; {BUILD}")
        self._accelerators[phone.serial] = tuple(map(str, found))

    def run(self, phone: Phone, job: Job) -> Outcome:
        """Runs the file. Raises `RunFailed`, with the app's own words, where it could not, or ran another file."""
        if phone.serial not in self._accelerators:
            self.prepare(phone)
        available = self._accelerators[phone.serial]
        if job.delegate not in available:
            raise UnknownName(f"accelerator of the app on {phone.serial}", job.delegate, available)
        answer = self._answer(phone, job)
        row = _row(answer, job)
        ran, took, flags = _judged(job.delegate, answer)
        return Outcome(
            runtime=row.runtime + (f", {took.api}" if took and took.api else ""),
            delegate=ran,
            command=answer.command,
            log=answer.log,
            wall_ms=row.wall_ms,
            warmup_runs=row.warmup_runs,
            cold=row.cold,
            partitions=took.pieces if took else None,
            delegated_nodes=took.replaced if took else None,
            total_nodes=took.total if took else None,
            peak_memory_mb=row.peak_memory_mb,
            output=answer.output,
            flags=dict(row.validity) | flags | {"answer_lost": bool(job.image) and answer.output is None},
        )

    def _answer(self, phone: Phone, job: Job) -> _Answer:
        """Starts the app with the files as pushed, or with copies in its own folder if it cannot read those."""
        extras = {
            "accelerator": job.delegate,
            "threads": str(job.threads),
            "warmup": str(job.warmup),
            "warmup_seconds": f"{job.warmup_seconds:g}",
            "runs": str(job.repeats),
            "min_seconds": f"{job.min_seconds:g}",
            "max_seconds": f"{job.max_seconds:g}",
        }
        timeout_s = job.max_seconds + job.warmup_seconds + 2.0 * job.warmup + SLACK_S
        pushed = {"model": job.remote}
        if job.image:
            with tempfile.TemporaryDirectory() as scratch:
                image = Path(scratch) / "input.bin"
                image.write_bytes(job.image)
                pushed["image"] = phone.push_by_sha256(image)
        if phone.serial not in self._takes_copies:
            _let_all_read(phone, pushed.values())
            try:
                return self._started(phone, pushed | extras, timeout_s)
            except _Unreadable:
                self._takes_copies.add(phone.serial)
        copies = {name: f"{FILES}/{job.artifact.sha256[:12]}.{name}" for name in pushed}
        try:
            for name, path in copies.items():
                _copy(phone, pushed[name], path)
            return self._started(phone, copies | extras, timeout_s)
        finally:
            _try(phone, f"rm -f {' '.join(copies.values())}")

    def _install(self, phone: Phone) -> None:
        done = phone.adb.call("install", "-r", "-t", str(self.apk), serial=phone.serial, timeout_s=INSTALL_S)
        said = f"{done.out}\n{done.err}"
        failure = re.search(r"INSTALL_[A-Z_]+", said)
        if done.code == 0 and not failure:
            return
        why = failure[0] if failure else benchmark_log.last_words(said)
        remedy = install_errors.remedy(why, phone.serial, PACKAGE)
        raise UserError(f"{self.apk} could not be installed on {phone.serial} ({why}); {remedy}")

    def _started(self, phone: Phone, extras: Mapping[str, str], timeout_s: float) -> _Answer:
        """Starts the app anew, waits for what it writes, and takes that and the log away from the phone.

        However it ends, the app does not run on, and what it wrote is gone.
        """
        out = f"{FILES}/{uuid.uuid4().hex}.json"
        words = " ".join(f"--es {name} {shlex.quote(value)}" for name, value in (*extras.items(), ("out", out)))
        command = f"am start -W -n {ACTIVITY} {words}"
        since = phone.shell("date '+%m-%d %H:%M:%S.000'", timeout_s=START_S).out.strip()
        wait = (
            f"n=0; while [ ! -f {out} ] && [ $n -lt {int(timeout_s)} ] && pidof {PACKAGE} >/dev/null; "
            f"do sleep 1; n=$((n+1)); done; [ -f {out} ] && base64 {out}"
        )
        tags = "tflite:V litert:V tfcompact:V AndroidRuntime:E '*:S'"
        try:
            started = phone.shell(f"am force-stop {PACKAGE}; {command}", timeout_s=START_S)
            said = f"{started.out}\n{started.err}".strip()
            if started.code != 0 or re.search(r"^(Error|Exception|java\.)", said, re.MULTILINE):
                why = f"the app did not start on {phone.serial} ({benchmark_log.last_words(said)}); {BUILD}"
                raise RunFailed(why, command=command, log=said)
            try:
                written = phone.shell(wait, timeout_s=timeout_s + START_S)
            except adb.TimedOut:
                written = None
            log = _try(phone, f"logcat -d -v threadtime -T '{since}' {tags}")
            output = _try(phone, f"base64 {out}.output") if "image" in extras else None
        finally:
            _try(phone, f"rm -f {out} {out}.part {out}.output {out}.output.part; am force-stop {PACKAGE}")
        whole = f"$ {command}\n{said}\n{log or '# the log could not be fetched'}"
        if written is None or written.code != 0:
            raise RunFailed(_silence(phone.serial, log or "", timeout_s), command=command, log=whole)
        answer = _json(written.out)
        if answer is None:
            why = f"the app on {phone.serial} wrote no JSON; {BUILD}"
            raise RunFailed(why, command=command, log=f"{whole}\n{written.out}")
        if "error" in answer:
            kind = _Unreadable if answer.get("unreadable") in extras.values() else RunFailed
            raise kind(f"the app on {phone.serial}: {answer['error']}", command=command, log=whole)
        pid = answer.pop("pid", None)
        if "accelerators" not in answer and not isinstance(pid, int):
            raise RunFailed(f"the app on {phone.serial} is another version; {BUILD}", command=command, log=whole)
        return _Answer(answer, None if output is None else _decoded(output), command, whole, pid)


def from_options(config: Config) -> LitertApp:
    """The back end as the options ask for it. Raises `UserError` where what it needs is not there."""
    return LitertApp(config.apk)


class _Unreadable(RunFailed):
    """The app may not read a file where it was told to."""


@dataclass(frozen=True)
class _Answer:
    """What one start of the app left: `output`, the raw answer to an image, and `pid`, the process it ran in."""

    json: dict[str, Any]
    output: bytes | None
    command: str
    log: str
    pid: int | None


def _row(answer: _Answer, job: Job) -> Measurement:
    """The app's row. Raises `RunFailed` where it is none, or one of another file or accelerator."""
    name, schema = job.path.name, answer.json.get("schema")
    try:
        if schema != SCHEMA:
            raise UserError(f"the app writes schema {schema}, not {SCHEMA}; {BUILD}")
        row = Measurement.from_json(answer.json)
        if row.artifact_sha256 != job.artifact.sha256:
            raise UserError(f"the app ran another file than {name}; remove {FILES} on the phone, and try again")
        if row.delegate != job.delegate:
            raise UserError(f"the app ran {name} on {row.delegate} instead of {job.delegate}; {BUILD}")
    except UserError as error:
        raise RunFailed(str(error), command=answer.command, log=answer.log) from None
    return row


def _judged(accelerator: str, answer: _Answer) -> tuple[str, Delegation | None, dict[str, bool]]:
    """What ran by the log, what it took, and the flags: as `benchmark_model.judged`, but that silence proves nothing.

    That tool's log is whole, and Android's may have lost lines. On the CPU, XNNPACK is what was asked for.
    """
    found = delegations(answer.log, answer.pid)
    if not found:
        return accelerator, None, {"delegation_unproven": True}
    try:
        ran, took, flags = judged("xnnpack" if accelerator == "cpu" else accelerator, found)
    except UserError as error:
        raise RunFailed(str(error), command=answer.command, log=answer.log) from None
    return "cpu" if accelerator == "cpu" and ran == "xnnpack" else ran, took, flags


def _silence(serial: str, log: str, timeout_s: float) -> str:
    """Why the app wrote nothing: it crashed, was killed, or is still at it."""
    crash = re.search(r"AndroidRuntime\s*: ((?:[\w$]+\.)+[\w$]*(?:Exception|Error).*)", log)
    if crash:
        return f"the app crashed on {serial} ({crash[1].strip()[:200]}); try another accelerator or file"
    if "AndroidRuntime" in log:
        return f"the app crashed on {serial}; look at: adb -s {serial} logcat -d -s AndroidRuntime"
    return (
        f"the app on {serial} wrote no result within {timeout_s:g} s, or was ended by Android; keep the screen on "
        "and unlocked, and try again"
    )


def _let_all_read(phone: Phone, paths: Iterable[str]) -> None:
    """Lets any user of the phone, which the app is one of, read pushed files, as far as their modes go."""
    folders = {folder for path in paths for folder in PurePosixPath(path).parents}
    own = sorted(str(folder) for folder in folders if folder.is_relative_to(DIRECTORY))
    phone.shell(f"chmod 755 {shlex.join(own)}; chmod 644 {shlex.join(paths)}", timeout_s=START_S)


def _copy(phone: Phone, source: str, target: str) -> None:
    """Copies a pushed file into the app's folder."""
    done = phone.shell(f"cp {shlex.quote(source)} {shlex.quote(target)}", timeout_s=START_S)
    if done.code != 0:
        raise UserError(
            f"{source} cannot be copied into the app's folder on {phone.serial} "
            f"({benchmark_log.last_words(done.err)}); free some space, and unlock the phone"
        )


def _try(phone: Phone, command: str) -> str | None:
    """What a command put out that comes after the times, which its failure must not take away; None if it failed."""
    with contextlib.suppress(UserError):
        done = phone.shell(command, timeout_s=START_S)
        if done.code == 0:
            return str(done.out)
    return None


def _json(text: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        if isinstance(value := json.loads(_decoded(text) or b""), dict):
            return value
    return None


def _decoded(text: str) -> bytes | None:
    with contextlib.suppress(binascii.Error):
        return base64.b64decode("".join(text.split()), validate=True)
    return None
