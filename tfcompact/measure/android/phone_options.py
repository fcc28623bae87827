"""How Android devices are measured: the options, and the back ends they choose from. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfcompact.errors import UserError
from tfcompact.measure.android import phone
from tfcompact.measure.backends.backend import Backend
from tfcompact.measure.host import FEWEST_RUNS
from tfcompact.options import opt, require, require_choice
from tfcompact.records.formats import FORMATS

PROXY = "arm64_insn_proxy"


class Made(NamedTuple):
    """Where a back end is, and how it is made of its class and the options.

    `rounds`: its samples can be joined over several calls. `pins`: it runs on the cores of `Job.affinity`.
    """

    module: str
    name: str
    make: Callable[[Any, Config], Backend]
    rounds: bool = True
    pins: bool = True


BACKENDS: dict[str, Made] = {
    "native": Made("native", "Native", lambda native, c: native()),
    "benchmark_model": Made(
        "benchmark_model",
        "BenchmarkModel",
        lambda tool, c: tool(
            c.benchmark_model, require_full_delegation=c.require_full_delegation, arguments=c.benchmark_args
        ),
        rounds=False,
    ),
    "litert_app": Made("litert_app", "LitertApp", lambda app, c: app(c.apk), pins=False),
    PROXY: Made(
        "emulated", "InstructionProxy", lambda proxy, c: proxy(c.cpu or "cortex-a76"), rounds=False, pins=False
    ),
}
"""By the names of `records.measurement.BACKENDS`. A module is imported when its back end is asked for."""
_OPTION_OF = {
    "benchmark_model": "benchmark_model",
    "benchmark_args": "benchmark_model",
    "require_full_delegation": "benchmark_model",
    "apk": "litert_app",
    "cpu": PROXY,
}


@dataclass(frozen=True)
class Config:
    """How Android devices are measured, or the emulated one."""

    backend: str = opt("native", "what runs the files: native, benchmark_model, litert_app or arm64_insn_proxy")
    serial: tuple[str, ...] = opt(
        (), "serial numbers of devices, as adb devices lists them, or host:port; all that are ready"
    )
    delegates: tuple[str, ...] = opt((), "delegates to measure with, one row for each; the back end's first")
    threads: tuple[int, ...] = opt((1,), "numbers of threads to measure with, one row for each")
    formats: tuple[str, ...] = opt((), "only files of these formats; all of the export")
    affinity: str | None = opt(
        None, "cores to run on: big (unless given; all where it is not known which), little, all, or a mask as f0"
    )
    warmup: int = opt(10, "untimed runs before the first timed one")
    warmup_seconds: float = opt(0.5, "seconds at least of untimed runs")
    repeats: int = opt(100, f"timed runs at least, {FEWEST_RUNS} or more")
    rounds: int = opt(3, "turns that the timed runs of a file are spread over, between those of the others")
    min_seconds: float = opt(1.0, "timed seconds at least, for each file")
    max_seconds: float = opt(150.0, "seconds at most that one turn may be timed")
    cooldown_seconds: float = opt(120.0, "seconds at most to wait before a turn until the device is cool; 0 for none")
    cool_celsius: float = opt(38.0, "temperature of the battery up to which a device is cool")
    sustained_seconds: float = opt(0.0, "run this long without a pause instead, to see throttling; 0 for bursts")
    profile: bool = opt(False, "the times of operators too, in a run of its own")
    benchmark_model: Path | None = opt(None, "the benchmark_model program for the device, for that back end")
    benchmark_args: str = opt("", 'more flags for benchmark_model: --benchmark-args="--gpu_backend=cl"')
    require_full_delegation: bool = opt(False, "benchmark_model fails where a delegate leaves operators to the CPU")
    apk: Path | None = opt(None, "the app to install first, for the back end litert_app")
    cpu: str | None = opt(None, "the emulated processor, cortex-a76 unless given, for --device emulated")
    adb: str | None = opt(None, "the adb program; found by itself unless given")
    adb_port: int | None = opt(None, "port of the adb server, 5037 unless given")

    def __post_init__(self) -> None:
        require_choice("back end", self.backend, BACKENDS)
        require(len(self.threads) > 0 and min(self.threads) >= 1, "threads", self.threads, "numbers of at least 1")
        for format in self.formats:
            require_choice("format", format, FORMATS)
        if self.affinity is not None and self.affinity not in phone.AFFINITIES:
            phone.parse_mask(self.affinity)
        if self.affinity not in (None, "all") and not BACKENDS[self.backend].pins:
            raise UserError(f"the back end {self.backend} cannot choose cores; leave --affinity {self.affinity} away")
        require(self.warmup >= 1, "warmup", self.warmup, "at least 1")
        require(self.warmup_seconds >= 0, "warmup_seconds", self.warmup_seconds, "0 or more")
        require(self.repeats >= FEWEST_RUNS, "repeats", self.repeats, f"at least {FEWEST_RUNS}")
        require(1 <= self.rounds <= self.repeats, "rounds", self.rounds, f"from 1 to {self.repeats}, the repeats")
        require(self.min_seconds >= 0, "min_seconds", self.min_seconds, "0 or more")
        require(
            self.max_seconds >= max(self.min_seconds, 1.0),
            "max_seconds",
            self.max_seconds,
            "1 or more, and min_seconds",
        )
        require(self.cooldown_seconds >= 0, "cooldown_seconds", self.cooldown_seconds, "0 or more")
        require(self.sustained_seconds >= 0, "sustained_seconds", self.sustained_seconds, "0 or more")
        for option, name in _OPTION_OF.items():
            if getattr(self, option) not in (None, False, "") and self.backend != name:
                raise UserError(f"--{option.replace('_', '-')} is for --backend {name}, not for {self.backend}")
        if self.backend == "benchmark_model" and self.benchmark_model is None:
            raise UserError("the back end benchmark_model needs the program: --benchmark-model PATH")
        if self.emulated and self.threads != (1,):
            raise UserError("instructions are counted on one thread, since two do not share work the same way twice")
        if self.emulated and (self.sustained_seconds or self.profile):
            raise UserError("an emulated device has no times, so it takes neither --sustained-seconds nor --profile")

    @property
    def cores(self) -> str | None:
        """What `phone.pinning` is asked for: what the user chose, or `all` where the back end cannot choose cores."""
        return self.affinity or (None if BACKENDS[self.backend].pins else "all")

    @property
    def turns(self) -> int:
        """Rounds to be run: one where the back end's samples cannot be joined, or the runs are one long one."""
        return self.rounds if BACKENDS[self.backend].rounds and not self.sustained_seconds else 1

    @property
    def emulated(self) -> bool:
        """Whether no device is needed."""
        return self.backend == PROXY
