"""What finds the costs of files on a device, for latency tables: this computer, a phone or an emulated processor.

No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tfcompact.errors import UserError
from tfcompact.latency.cost_table import Setting
from tfcompact.latency.phone_meter import PhoneMeter
from tfcompact.latency.probe_files import noise
from tfcompact.measure import this_computer
from tfcompact.measure.android import adb, affinity, connected_phones, fleet, phone_facts, phone_options
from tfcompact.measure.backends import arm_processors, instruction_proxy, runner_answer
from tfcompact.measure.exclusive import exclusive
from tfcompact.measure.measurer import Log, quiet
from tfcompact.options import opt, require
from tfcompact.records import backends
from tfcompact.records.device import DeviceKind
from tfcompact.tflite.runtime import Interpreter, open_interpreter

ROUNDS = 5
ROUND_MS = 4.0  # timed ms of one file in one round, within the bounds below
FEWEST, MOST = 5, 50
OTHER_WORK = 32 << 20
"""Bytes that other work reads and writes before a run: more than a core keeps for itself."""


@dataclass(frozen=True)
class Config:
    """Where costs are found, and how."""

    device: DeviceKind = opt(
        "host", "this machine (host), a phone by adb (android), or ARM64 instructions counted (emulated)"
    )
    delegate: str = opt("xnnpack", "what runs the operators")
    threads: int = opt(1, "number of threads; 1 for emulated")
    cpu: str | None = opt(None, f"emulated: the processor, {arm_processors.DEFAULT_PROCESSOR} unless given")
    serial: str | None = opt(None, "android: serial number, as adb devices lists it; the only phone unless given")
    affinity: str | None = opt(
        None,
        "android: cores to run on: big (unless given; all where it is not known which), little, all, or a mask as f0",
    )
    adb: str | None = opt(None, "android: the adb program; found by itself unless given")
    adb_port: int | None = opt(None, "android: port of the adb server, 5037 unless given")

    def __post_init__(self) -> None:
        require(self.threads >= 1, "threads", self.threads, "at least 1")
        owners = {"cpu": "emulated"} | dict.fromkeys(("serial", "affinity", "adb", "adb_port"), "android")
        for name, device in owners.items():
            if getattr(self, name) is not None and self.device != device:
                option = name.replace("_", "-")
                raise UserError(f"--{option} is an option of --device {device}, not of {self.device}")
        if self.device == "emulated" and self.threads != 1:
            raise UserError("--device emulated counts one thread; leave --threads away")


@contextlib.contextmanager
def meter(config: Config, tell: Log = quiet) -> Iterator[Meter]:
    """What measures as `config` says; while it lasts, no other process of this computer measures on that phone.

    `tell` hears of phones that are left out, and of one that is too warm. Raises `UserError` where the device is not
    there, or something is missing.
    """
    if config.device == "host":
        yield HostMeter(threads=config.threads, delegate=config.delegate)
        return
    if config.device == "emulated":
        yield ProxyMeter(config.cpu or arm_processors.DEFAULT_PROCESSOR, delegate=config.delegate)
        return
    client = adb.Adb(config.adb, config.adb_port)
    found = connected_phones.connected(client, [config.serial] if config.serial else [], tell)
    if len(found) > 1:
        names = ", ".join(one.serial for one in found)
        raise UserError(f"{len(found)} phones are connected; a table is of one: give --serial, of {names}")
    facts = phone_facts.facts(found[0])
    mask = affinity.pinning(config.affinity, facts, tell).mask
    with exclusive(facts.device.name, f"measuring {facts.device.name}"):
        yield PhoneMeter(
            fleet.backend_of(phone_options.Config()),
            found[0],
            facts.device,
            threads=config.threads,
            delegate=config.delegate,
            affinity=mask,
            tell=tell,
        )


class Meter(Protocol):
    """What finds costs of files on one device. `together` is how many files it likes to be given at once."""

    setting: Setting
    together: int

    def costs(self, files: Sequence[Path]) -> list[float]:
        """The cost of one inference of each file, in `setting.unit`."""

    def costs_between(self, files: Sequence[Path]) -> list[float] | None:
        """The same where other work comes between two runs; None where that cannot be arranged."""


class HostMeter:
    """Times files on this machine, in turns: the lowest of `ROUNDS` medians, in ms.

    What disturbs a machine makes runs longer, never shorter, and lasts; a round that it missed tells the truth.
    """

    together = 16

    def __init__(self, *, threads: int = 1, delegate: str = "xnnpack") -> None:
        runtime = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
        self.setting = Setting(
            this_computer.this_device(), backends.default("host").name, runtime, delegate, threads, "ms"
        )

    def costs(self, files: Sequence[Path]) -> list[float]:
        """The lowest median of one inference of each file in ms."""
        return self._lowest(files, _median_ms)

    def costs_between(self, files: Sequence[Path]) -> list[float]:
        """The same where `OTHER_WORK` bytes are read and written before each run."""
        others = np.zeros(OTHER_WORK, np.uint8)

        def between(interpreter: Interpreter) -> float:
            return _median_ms(interpreter, before=lambda: others.__iadd__(1))

        return self._lowest(files, between)

    def _lowest(self, files: Sequence[Path], median: Callable[[Interpreter], float]) -> list[float]:
        """The lowest of `ROUNDS` medians of each file, in turns."""
        loaded = [open_interpreter(file.read_bytes(), self.setting.threads, self.setting.delegate) for file in files]
        for interpreter in loaded:
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], noise(detail["shape"], detail["dtype"]))
            interpreter.invoke()
        rounds = [[median(interpreter) for interpreter in loaded] for _ in range(ROUNDS)]
        return [min(times) for times in zip(*rounds, strict=True)]


class ProxyMeter:
    """Counts the instructions of one inference on an emulated processor: the same number at every repeat.

    Raises `UserError` with the command that installs what is missing.
    """

    def __init__(self, cpu: str = arm_processors.DEFAULT_PROCESSOR, *, delegate: str = "xnnpack") -> None:
        backend = instruction_proxy.InstructionProxy(cpu)
        backend.prepare()
        device = backend.device
        runtime = f"{runner_answer.RUNTIME}, {device.system}"
        self._cpu = cpu
        self.setting = Setting(device, backend.name, runtime, delegate, 1, "instructions")
        self.together = 4 * (os.cpu_count() or 1)

    def costs(self, files: Sequence[Path]) -> list[float]:
        """The instructions of one inference of each file."""

        def count(file: Path) -> int:
            return instruction_proxy.instructions(file, self._cpu, self.setting.delegate)

        with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
            return [float(number) for number in workers.map(count, files)]

    def costs_between(self, files: Sequence[Path]) -> None:  # noqa: ARG002
        """None: instructions know no caches."""


def _median_ms(interpreter: Interpreter, before: Callable[[], object] = lambda: None) -> float:
    """The median of one round, after an untimed run that fills the caches. `before` goes before each timed run."""
    interpreter.invoke()
    times: list[int] = []
    while len(times) < FEWEST or (len(times) < MOST and sum(times) < ROUND_MS * 1e6):
        before()
        start = time.perf_counter_ns()
        interpreter.invoke()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e6
