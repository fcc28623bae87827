"""How phones are measured: the options. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.measure.android import affinity
from tfcompact.measure.samples import FEWEST_RUNS
from tfcompact.options import opt, require, require_choice
from tfcompact.records import backends
from tfcompact.records.formats import FORMATS

OF_PHONES = tuple(backend for backend in backends.TABLE if backend.device == "android")
CHOICES = tuple(backend.name for backend in OF_PHONES)


@dataclass(frozen=True)
class Config:
    """How phones are measured."""

    backend: str = opt(
        backends.default("android").name, f"what runs the files: {', '.join(CHOICES[:-1])} or {CHOICES[-1]}"
    )
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
    benchmark_libs: Path | None = opt(
        None, "a folder of libraries that benchmark_model loads, an NPU's for example: brought to the device with it"
    )
    require_full_delegation: bool = opt(False, "benchmark_model fails where a delegate leaves operators to the CPU")
    apk: Path | None = opt(None, "the app to install first, for the back end litert_app")
    adb: str | None = opt(None, "the adb program; found by itself unless given")
    adb_port: int | None = opt(None, "port of the adb server, 5037 unless given")

    def __post_init__(self) -> None:
        if self.facts.device != "android":
            raise UserError(f"the back end {self.backend} is for --device {self.facts.device}, not for phones")
        require(len(self.threads) > 0 and min(self.threads) >= 1, "threads", self.threads, "numbers of at least 1")
        for format in self.formats:
            require_choice("format", format, FORMATS)
        if self.affinity is not None and self.affinity not in affinity.AFFINITIES:
            affinity.parse_mask(self.affinity)
        if self.affinity not in (None, "all") and not self.facts.pins:
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
        for backend in OF_PHONES:
            for option in backend.options:
                if getattr(self, option) not in (None, False, "") and self.backend != backend.name:
                    said = option.replace("_", "-")
                    raise UserError(f"--{said} is for --backend {backend.name}, not for {self.backend}")
        if self.profile and not self.facts.profiles:
            able = " or ".join(backend.name for backend in OF_PHONES if backend.profiles)
            raise UserError(f"the back end {self.backend} cannot profile operators; take {able}, or no --profile")

    @property
    def facts(self) -> backends.BackendFacts:
        """What is known of the back end."""
        return backends.facts(self.backend)

    @property
    def cores(self) -> str | None:
        """What `affinity.pinning` is asked for: what was chosen, or `all` where the back end cannot choose cores."""
        return self.affinity or (None if self.facts.pins else "all")

    @property
    def turns(self) -> int:
        """The rounds to be run: one where the back end's runs cannot be joined, or are one long one."""
        return self.rounds if self.facts.in_rounds and not self.sustained_seconds else 1
