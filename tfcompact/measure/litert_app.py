"""The back end `litert_app`: our Android app, LiteRT's `CompiledModel` on the CPU, the GPU or the NPU.

The app is `android_harness/app`. It is started by `am start`, runs the file, and leaves a `Measurement` as JSON in
its own folder, or an error; this module waits for that, and takes what the host cannot know from it. What proves the
accelerator: the app asks LiteRT for that one alone, so compilation fails where an operator is not taken, and the log
tells how many were; one that LiteRT gave back to the CPU all the same, as it does without an error, is a flag. The
app has no profile of operators, and cannot pin itself to cores. No TensorFlow here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure import benchmark_log
from tfcompact.measure.backends import Job, Outcome
from tfcompact.types import SCHEMA, Measurement

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
        if apk is not None and not _is_zip(apk):
            raise UserError(f"{apk} is not an APK; {BUILD}")

    def prepare(self, phone: Any) -> None:
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

    def run(self, phone: Any, job: Job) -> Outcome:
        """Runs the file. Raises `UserError`, with the app's own words, where it could not, or ran another file."""
        if phone.serial not in self._accelerators:
            self.prepare(phone)
        available = self._accelerators[phone.serial]
        if job.delegate not in available:
            raise UnknownName(f"accelerator of the app on {phone.serial}", job.delegate, available)
        if job.profile:
            raise UserError("the app cannot profile operators; take the back end native or benchmark_model")
        model = f"{FILES}/{job.artifact.sha256[:12]}.tflite"
        extras = {
            "model": model,
            "accelerator": job.delegate,
            "threads": str(job.threads),
            "warmup": str(job.warmup),
            "warmup_seconds": f"{job.warmup_seconds:g}",
            "runs": str(job.repeats),
            "min_seconds": f"{job.min_seconds:g}",
            "max_seconds": f"{job.max_seconds:g}",
        }
        _copy(phone, job.remote, model)
        if job.image:
            extras["image"] = f"{model}.image"
            with tempfile.TemporaryDirectory() as scratch:
                image = Path(scratch) / "input.bin"
                image.write_bytes(job.image)
                _copy(phone, phone.push_by_sha256(image), extras["image"])
        answer = self._started(phone, extras, job.max_seconds + job.warmup_seconds + 2.0 * job.warmup + SLACK_S)
        row = _row(answer.json, job)
        flags = dict(row.validity) | {"fell_back": False}
        took = _took(job.delegate, answer.log)
        if took is None:
            flags["delegation_unproven"] = True
        elif job.delegate != "cpu":
            flags["partly_delegated"] = took.complete is False
        return Outcome(
            runtime=row.runtime,
            delegate=row.delegate,
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
            flags=flags,
        )

    def _install(self, phone: Any) -> None:
        done = phone.adb.call("install", "-r", "-t", str(self.apk), serial=phone.serial, timeout_s=INSTALL_S)
        said = f"{done.out}\n{done.err}"
        failure = re.search(r"INSTALL_[A-Z_]+", said)
        if done.code == 0 and not failure:
            return
        why = failure[0] if failure else benchmark_log.last_words(said)
        remedy = "look at the phone's screen for a question, and try again"
        if why in ("INSTALL_FAILED_UPDATE_INCOMPATIBLE", "INSTALL_FAILED_VERSION_DOWNGRADE"):
            remedy = f"remove the other build first: adb -s {phone.serial} uninstall {PACKAGE}"
        raise UserError(f"{self.apk} could not be installed on {phone.serial} ({why}); {remedy}")

    def _started(self, phone: Any, extras: Mapping[str, str], timeout_s: float) -> _Answer:
        """Starts the app anew, waits for what it writes, and takes that and the log away from the phone."""
        out = f"{FILES}/{uuid.uuid4().hex}.json"
        words = " ".join(f"--es {name} {shlex.quote(value)}" for name, value in (*extras.items(), ("out", out)))
        command = f"am start -W -n {ACTIVITY} {words}"
        since = phone.shell("date '+%m-%d %H:%M:%S.000'", timeout_s=START_S).out.strip()
        started = phone.shell(f"am force-stop {PACKAGE}; {command}", timeout_s=START_S)
        said = f"{started.out}\n{started.err}"
        if started.code != 0 or re.search(r"^(Error|Exception|java\.)", said, re.MULTILINE):
            raise UserError(f"the app did not start on {phone.serial} ({benchmark_log.last_words(said)}); {BUILD}")
        wait = (
            f"n=0; while [ ! -f {out} ] && [ $n -lt {int(timeout_s)} ] && pidof {PACKAGE} >/dev/null; "
            f"do sleep 1; n=$((n+1)); done; [ -f {out} ] && base64 {out}"
        )
        written = phone.shell(wait, timeout_s=timeout_s + START_S)
        tags = "tflite:V litert:V tfcompact:V AndroidRuntime:E '*:S'"
        log = phone.shell(f"logcat -d -v threadtime -T '{since}' {tags}", timeout_s=START_S)
        output = phone.shell(f"[ -f {out}.output ] && base64 {out}.output", timeout_s=START_S)
        given = [extras[name] for name in ("model", "image") if name in extras]
        phone.shell(f"rm -f {' '.join([out, f'{out}.output', *given])}; am force-stop {PACKAGE}", timeout_s=START_S)
        if written.code != 0:
            raise UserError(_silence(phone.serial, log.out, timeout_s))
        answer = _json(written.out, phone.serial)
        if "error" in answer:
            raise UserError(f"the app on {phone.serial}: {answer['error']}")
        whole = f"$ {command}\n{said.strip()}\n{log.out}"
        return _Answer(answer, _decoded(output.out) if output.code == 0 else None, command, whole)


@dataclass(frozen=True)
class _Answer:
    """What one start of the app left. `output` is the raw answer to an image."""

    json: dict[str, Any]
    output: bytes | None
    command: str
    log: str


def _row(answer: dict[str, Any], job: Job) -> Measurement:
    """The app's row. Raises `UserError` where it is none, or one of another file or accelerator."""
    if answer.get("schema") != SCHEMA:
        raise UserError(f"the app writes schema {answer.get('schema')}, not {SCHEMA}; {BUILD}")
    row = Measurement.from_json(answer)
    if row.artifact_sha256 != job.artifact.sha256:
        raise UserError(f"the app ran another file than {job.path.name}; remove {FILES} on the phone, and try again")
    if row.delegate != job.delegate:
        raise UserError(f"the app ran {job.path.name} on {row.delegate} instead of {job.delegate}; {BUILD}")
    return row


def _took(accelerator: str, log: str) -> benchmark_log.Delegation | None:
    """What the log proves of the accelerator; on the CPU, of XNNPACK."""
    kind = "xnnpack" if accelerator == "cpu" else accelerator
    return next((found for found in benchmark_log.delegations(log) if found.delegate == kind), None)


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


def _copy(phone: Any, source: str, target: str) -> None:
    """Copies a pushed file into the app's folder: an app may not read where adb pushes to on every phone."""
    done = phone.shell(f"cp {shlex.quote(source)} {shlex.quote(target)}", timeout_s=START_S)
    if done.code != 0:
        raise UserError(
            f"{source} cannot be copied into the app's folder on {phone.serial} "
            f"({benchmark_log.last_words(done.err)}); free some space, and unlock the phone"
        )


def _json(text: str, serial: str) -> dict[str, Any]:
    try:
        value = json.loads(_decoded(text) or b"")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"the app on {serial} wrote no JSON; {BUILD}")
    return value


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return None


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PK\3\4"
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give --apk PATH") from None
