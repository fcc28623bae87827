"""Latency, memory and accuracy of exported files on this machine, through `ai_edge_litert`.

What is timed is the run of the network alone, on random pixels that are already in its input: speed does not depend
on what a photograph shows, and reading, resizing and normalizing are the caller's. Files to be compared are measured
in turns within one process, so that what disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfcompact.errors import UserError
from tfcompact.measure import this_computer
from tfcompact.measure.accuracy import TestImages, accuracy_of
from tfcompact.measure.measurer import File, Keep, Log, Measured
from tfcompact.measure.samples import FEWEST_RUNS, steadiness
from tfcompact.options import opt, require, require_choice
from tfcompact.records.artifact import Artifact
from tfcompact.records.formats import FORMATS
from tfcompact.records.measurement import SCHEMA, Accuracy, Measurement
from tfcompact.tflite import flatbuffer, runtime
from tfcompact.tflite.first_run import first_run
from tfcompact.tflite.pieces import up_to_logits

TURN = 5
"""Timed runs of one file in a row before the next has its turn, after one untimed run that fills the caches."""


@dataclass(frozen=True)
class Config:
    """How this computer is measured."""

    formats: tuple[str, ...] = opt((), "only files of these formats; all of the export")
    threads: tuple[int, ...] = opt((1,), "numbers of threads to measure with, one row for each")
    delegate: str = opt("xnnpack", "what runs the network: xnnpack, builtin or reference")
    warmup: int = opt(10, "untimed runs before the first timed one")
    repeats: int = opt(100, f"timed runs at least, {FEWEST_RUNS} or more")
    min_seconds: float = opt(1.0, "timed seconds at least, for each file")
    softmax: bool = opt(True, "time the softmax at the end too; without it the timed runs end at the logits")
    images: int | None = opt(None, "test images to judge accuracy on; all unless given")

    def __post_init__(self) -> None:
        for format in self.formats:
            require_choice("format", format, FORMATS)
        require(len(self.threads) > 0 and min(self.threads) >= 1, "threads", self.threads, "numbers of at least 1")
        require_choice("delegate", self.delegate, runtime.DELEGATES)
        require(self.warmup >= 1, "warmup", self.warmup, "at least 1")
        require(self.repeats >= FEWEST_RUNS, "repeats", self.repeats, f"at least {FEWEST_RUNS}")
        require(self.min_seconds >= 0, "min_seconds", self.min_seconds, "0 or more")
        require(self.images is None or self.images >= 1, "images", self.images, "at least 1")


@dataclass(frozen=True, eq=False)
class Subject:
    """One file to measure, with a number of threads; no `test` images, no accuracy.

    Without `softmax`, accuracy and memory are the whole file's, and what is timed ends at the logits.
    """

    path: Path
    artifact: Artifact
    threads: int = 1
    delegate: str = "xnnpack"
    test: TestImages | None = None
    softmax: bool = True


@dataclass(frozen=True, eq=False)
class ThisComputer:
    """The `Measurer` of this computer. `test` opens the images that accuracy is judged on; without, there is none."""

    config: Config
    test: Callable[[], TestImages] | None = None

    def measure(self, files: Sequence[File], keep: Keep, log: Log) -> Measured:
        """The rows of every file with every number of threads, in turns; a file that does not run is a failure."""
        config = self.config
        test = self.test().first(config.images) if self.test else None
        prepared, failures = [], []
        for threads in config.threads:
            for path, artifact in files:
                subject = Subject(path, artifact, threads, config.delegate, test, config.softmax)
                try:
                    prepared.append(_prepare(subject))
                except UserError as error:
                    failures.append(str(error))
                    log(f"failed: {error}")
        rows = _in_turns(prepared, config)
        for row in rows:
            keep.row(row)
        return Measured(tuple(rows), tuple(failures))


def measure_interleaved(subjects: Sequence[Subject], config: Config | None = None) -> list[Measurement]:
    """One row for each subject, in the same order, measured in turns.

    Accuracy, memory and partitions are found before the first timed run. Raises `UserError` where a file cannot be
    run, or is not the one its artifact describes.
    """
    return _in_turns([_prepare(subject) for subject in subjects], config or Config())


def _in_turns(prepared: Sequence[_Timed], config: Config) -> list[Measurement]:
    """One row for each, in turns of `TURN` runs that begin with another in each round.

    Rounds go on until each has `config.repeats` timed runs and `config.min_seconds` of them. No sample is dropped.
    `wall_ms` is elapsed time, `process_ms` the processor time of all threads of the process.
    """
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for timed in prepared:
        for _ in range(config.warmup):
            timed.model.invoke()
    others = this_computer.OtherWork()
    turn = 0
    while any(not timed.enough(config) for timed in prepared):
        for k in range(len(prepared)):
            prepared[(turn + k) % len(prepared)].take_turn()
        turn += 1
    others_cores = others.cores()
    return [timed.row(config, started, others_cores) for timed in prepared]


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
        """Times `TURN` runs, after one that is not timed."""
        self.model.invoke()
        for _ in range(TURN):
            process, wall = time.process_time_ns(), time.perf_counter_ns()
            self.model.invoke()
            self.wall_ns.append(time.perf_counter_ns() - wall)
            self.process_ns.append(time.process_time_ns() - process)

    def enough(self, config: Config) -> bool:
        """Whether it has the runs and the seconds asked for."""
        return len(self.wall_ns) >= config.repeats and sum(self.wall_ns) >= config.min_seconds * 1e9

    def row(self, config: Config, started: str, others_cores: float) -> Measurement:
        """The row of all samples. `others_cores` is how many cores other work kept busy."""
        subject = self.subject
        return Measurement(
            schema=SCHEMA,
            **subject.artifact.measured,
            device=this_computer.this_device(),
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
            validity=steadiness(self.wall_ns) | this_computer.flags(subject.threads, others_cores),
        )


def _prepare(subject: Subject) -> _Timed:
    """The subject loaded, with all that is not timed. Raises `UserError` where it is not as described, or not run."""
    path, artifact = subject.path, subject.artifact
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != artifact.sha256:
        raise UserError(f"{path} is not the file its artifact describes; export it again")
    model = runtime.LiteModel(path, threads=subject.threads, delegate=subject.delegate)
    px = model.image_px
    pixels = np.random.default_rng(0).integers(0, 256, (1, px, px, 3), np.uint8)
    model.set(model.prepared(pixels))
    found = accuracy_of(model, subject.test) if subject.test is not None else None
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
        first_run(path, threads=subject.threads, delegate=subject.delegate),
        found,
    )
