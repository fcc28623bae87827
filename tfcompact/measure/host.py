"""Latency, memory and accuracy of exported files on this machine, through `ai_edge_litert`.

What is timed is the run of the network alone, on random pixels that are already in its input: speed does not depend
on what a photograph shows, and reading, resizing and normalizing are the caller's. Files to be compared are measured
in turns within one process, so that what disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tfcompact.errors import UserError
from tfcompact.options import opt, require, require_choice
from tfcompact.records.artifact import Artifact
from tfcompact.records.device import Device
from tfcompact.records.measurement import SCHEMA, Accuracy, Measurement
from tfcompact.tflite import flatbuffer, runtime
from tfcompact.tflite.pieces import up_to_logits

FEWEST_RUNS = 50
TURN = 5
"""Timed runs of one file in a row before the next has its turn, after one untimed run that fills the caches."""


@dataclass(frozen=True)
class Config:
    """How a machine is measured."""

    threads: tuple[int, ...] = opt((1,), "numbers of threads to measure with, one row for each")
    delegate: str = opt("xnnpack", "what runs the network: xnnpack, builtin or reference")
    warmup: int = opt(10, "untimed runs before the first timed one")
    repeats: int = opt(100, f"timed runs at least, {FEWEST_RUNS} or more")
    min_seconds: float = opt(1.0, "timed seconds at least, for each file")
    softmax: bool = opt(True, "time the softmax at the end too; without it the timed runs end at the logits")
    images: int | None = opt(None, "test images to judge accuracy on; all unless given")

    def __post_init__(self) -> None:
        require(len(self.threads) > 0 and min(self.threads) >= 1, "threads", self.threads, "numbers of at least 1")
        require_choice("delegate", self.delegate, runtime.DELEGATES)
        require(self.warmup >= 1, "warmup", self.warmup, "at least 1")
        require(self.repeats >= FEWEST_RUNS, "repeats", self.repeats, f"at least {FEWEST_RUNS}")
        require(self.min_seconds >= 0, "min_seconds", self.min_seconds, "0 or more")
        require(self.images is None or self.images >= 1, "images", self.images, "at least 1")


@dataclass(frozen=True, eq=False)
class TestImages:
    """What accuracy is judged on, with where it comes from. Each call of `batches` begins anew to give uint8
    `[n, px, px, 3]` and class indices `[n]`: only one batch need be in memory."""

    __test__ = False  # pytest would take the name for a test's

    batches: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
    split: str
    data_digest: str


@dataclass(frozen=True, eq=False)
class Subject:
    """One file to measure, with a number of threads; no `test` images, no accuracy. Without `softmax`, accuracy and
    memory are the whole file's, and what is timed ends at the logits."""

    path: Path
    artifact: Artifact
    threads: int = 1
    delegate: str = "xnnpack"
    test: TestImages | None = None
    softmax: bool = True


def measure(subject: Subject, config: Config | None = None) -> Measurement:
    """One file alone. The options used are `config`'s `warmup`, `runs` and `min_seconds`."""
    return measure_interleaved([subject], config)[0]


def measure_interleaved(subjects: Sequence[Subject], config: Config | None = None) -> list[Measurement]:
    """Every subject, in turns of `TURN` runs that begin with another subject each round; one row each, same order.

    Rounds go on until each subject has `config.repeats` timed runs and `config.min_seconds` of them. No sample is
    dropped. `wall_ms` is elapsed time, `process_ms` the processor time of all threads of the process. Accuracy,
    memory and partitions are found before the first timed run. Raises `UserError` where a file cannot be run, or is
    not the one its artifact describes.
    """
    config = config or Config()
    prepared = [_prepare(subject) for subject in subjects]
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for timed in prepared:
        for _ in range(config.warmup):
            timed.model.invoke()
    others = _OtherWork()
    turn = 0
    while any(not timed.enough(config) for timed in prepared):
        for k in range(len(prepared)):
            prepared[(turn + k) % len(prepared)].take_turn()
        turn += 1
    others_cores = others.cores()
    return [timed.row(config, started, others_cores) for timed in prepared]


@functools.cache
def this_device() -> Device:
    """This machine. Its name is fit for a file name: `host-` and the processor's, in lower case."""
    processor = _processor()
    words = re.sub(r"\((r|tm)\)|@.*|\b(cpu|processor|\d+-core)\b", " ", processor.lower())
    name = re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "unknown"
    return Device("host", f"host-{name}", processor, os.cpu_count() or 1, platform.platform())


def accuracy(model: runtime.LiteModel, test: TestImages) -> Accuracy:
    """The shares of `test` whose label is the model's first, and among its first five.

    Equal probabilities, frequent in 8 bits, count in the order of the classes.
    """
    first = among_five = count = 0
    for images, labels in test.batches():
        order = np.argsort(-model(images), axis=1, kind="stable")
        hits = order[:, :5] == labels[:, np.newaxis]
        first, among_five, count = first + hits[:, 0].sum(), among_five + hits.any(axis=1).sum(), count + len(labels)
    return Accuracy(float(first / count), float(among_five / count), count, test.split, test.data_digest)


def peak_memory_mb(path: Path, *, threads: int = 1, delegate: str = "xnnpack") -> float | None:
    """The most memory a fresh process ever held that loaded this file and ran it five times, in MB of 10^6 bytes.

    It is the peak resident set (`VmHWM`), so Python, NumPy and the runtime are in it: some 50 MB that any file pays.
    None where the system has no `/proc`. (`ru_maxrss` will not do: across fork and exec a child inherits its
    parent's peak, and the parent may have TensorFlow loaded.)
    """
    if not Path("/proc/self/status").exists():
        return None
    resolver = runtime.DELEGATES[delegate].name
    command = [sys.executable, "-c", _MEMORY_PROBE, str(path), str(threads), resolver]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        last = child.stderr.strip().rpartition("\n")[2]
        raise UserError(f"{path} could not be run in a process of its own ({last}); export it again")
    return int(child.stdout) * 1024 / 1e6


# Nothing of tfcompact is imported: it would be counted.
_MEMORY_PROBE = """
import re, sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType
path, threads, resolver = sys.argv[1:]
interpreter = Interpreter(
    path, num_threads=int(threads), experimental_op_resolver_type=OpResolverType[resolver]
)
interpreter.allocate_tensors()
for _ in range(5):
    interpreter.invoke()
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@dataclass
class _Timed:
    """A subject with its loaded model, and the samples taken so far in ns."""

    subject: Subject
    model: runtime.LiteModel
    pieces: runtime.Partitions | None
    memory_mb: float | None
    accuracy: Accuracy | None
    wall_ns: list[int] = field(default_factory=list)
    process_ns: list[int] = field(default_factory=list)

    def take_turn(self) -> None:
        self.model.invoke()
        for _ in range(TURN):
            process, wall = time.process_time_ns(), time.perf_counter_ns()
            self.model.invoke()
            self.wall_ns.append(time.perf_counter_ns() - wall)
            self.process_ns.append(time.process_time_ns() - process)

    def enough(self, config: Config) -> bool:
        return len(self.wall_ns) >= config.repeats and sum(self.wall_ns) >= config.min_seconds * 1e9

    def row(self, config: Config, started: str, others_cores: float) -> Measurement:
        subject, artifact, device = self.subject, self.subject.artifact, this_device()
        return Measurement(
            schema=SCHEMA,
            **artifact.measured,
            device=device,
            runtime=f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}",
            delegate=subject.delegate,
            threads=subject.threads,
            warmup_runs=config.warmup,
            wall_ms=tuple(ns / 1e6 for ns in self.wall_ns),
            process_ms=tuple(ns / 1e6 for ns in self.process_ns),
            xnnpack_partitions=self.pieces.count if self.pieces else None,
            delegated_nodes=self.pieces.delegated_nodes if self.pieces else None,
            total_nodes=self.pieces.total_nodes if self.pieces else None,
            peak_memory_mb=self.memory_mb,
            accuracy=self.accuracy,
            started=started,
            softmax=subject.softmax,
            validity=_validity(self.wall_ns, subject.threads, device.cores, others_cores),
        )


def _prepare(subject: Subject) -> _Timed:
    path, artifact = subject.path, subject.artifact
    if not path.is_file() or path.stat().st_size != artifact.bytes:
        raise UserError(f"{path} is not the file its artifact describes ({artifact.bytes} bytes); export it again")
    model = runtime.LiteModel(path, threads=subject.threads, delegate=subject.delegate)
    px = model.image_px
    pixels = np.random.default_rng(0).integers(0, 256, (1, px, px, 3), np.uint8)
    model.set(model.prepared(pixels))
    found = accuracy(model, subject.test) if subject.test is not None else None
    prepared = model.prepared(pixels)
    timed: flatbuffer.Source = path
    if not subject.softmax:
        timed = up_to_logits(path)
        model = runtime.LiteModel(timed, threads=subject.threads, delegate=subject.delegate)
    model.set(prepared)
    return _Timed(
        subject,
        model,
        runtime.partitions(timed, threads=subject.threads) if subject.delegate == "xnnpack" else None,
        peak_memory_mb(path, threads=subject.threads, delegate=subject.delegate),
        found,
    )


def steadiness(wall: Sequence[float]) -> dict[str, bool]:
    """`noisy` where p90 is half as much again as p50, `drifting` where the second half of the runs took a tenth
    longer than the first. `wall` are times in any unit; empty where there are fewer than two."""
    if len(wall) < 2:
        return {}
    half = len(wall) // 2
    p50, p90 = np.percentile(wall, (50, 90))
    return {
        "noisy": bool(p90 > 1.5 * p50),
        "drifting": bool(np.median(wall[half:]) > 1.1 * np.median(wall[:half])),
    }


def _validity(wall_ns: Sequence[int], threads: int, cores: int, others_cores: float) -> dict[str, bool]:
    """What could mislead a reader of the row, and whether it was so."""
    return steadiness(wall_ns) | {
        "others_running": others_cores > 0.25 * cores,
        "threads_exceed_cores": threads > cores,
        "frequency_scaled": _governor() not in (None, "performance"),
        "virtual_machine": "hypervisor" in _cpuinfo("flags").split(),
    }


class _OtherWork:
    """How many cores were busy on average with anything but this process since this was made.

    The load average would answer for the minutes before, which in `make train` are our own training.
    """

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float:
        wall, busy, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return max(0.0, (busy - own) / wall)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # On Linux guest time is also in user time: counted once.
        counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return time.perf_counter(), counted - idle, time.process_time()


def _processor() -> str:
    return _cpuinfo("model name") or _cpuinfo("Hardware") or platform.processor() or platform.machine()


@functools.cache
def _cpuinfo(name: str) -> str:
    """The first line of that name in `/proc/cpuinfo`, or an empty string."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    return next(
        (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name), ""
    )


def _governor() -> str | None:
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return file.read_text().strip() if file.exists() else None
