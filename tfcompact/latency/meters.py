"""What finds the costs of files on a device, for latency tables: here, on a phone, or on an emulated processor.

No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.errors import UserError
from tfcompact.latency.cost_table import Setting
from tfcompact.measure import host
from tfcompact.measure.android import adb, fleet, guards, phone, session
from tfcompact.measure.backends import emulated, native
from tfcompact.measure.backends.backend import Backend, Job, Outcome
from tfcompact.options import opt, require
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.device import Device
from tfcompact.tflite import flatbuffer
from tfcompact.tflite.runtime import open_interpreter, partitions

ROUNDS = 5
ROUND_MS = 4.0  # timed ms of one file in one round, within the bounds below
FEWEST, MOST = 5, 50
TRIES = 3
"""How often files are timed on a phone that slows itself down meanwhile, before it is given up."""


@dataclass(frozen=True)
class Config:
    """Where costs are found, and how."""

    device: Literal["host", "android", "emulated"] = opt(
        "host", "this machine (host), a phone by adb (android), or ARM64 instructions counted (emulated)"
    )
    delegate: str = opt("xnnpack", "what runs the operators")
    threads: int = opt(1, "number of threads; 1 for emulated")
    cpu: str | None = opt(None, "emulated: the processor, cortex-a76 unless given")
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
def meter(config: Config, tell: Callable[[str], None] = lambda line: None) -> Iterator[Meter]:
    """What measures as `config` says; while it lasts, no other process of this computer measures on that phone.

    `tell` hears of phones that are left out, and of one that is too warm. Raises `UserError` where the device is not
    there, or something is missing.
    """
    if config.device == "host":
        yield HostMeter(threads=config.threads, delegate=config.delegate)
        return
    if config.device == "emulated":
        yield ProxyMeter(config.cpu or "cortex-a76", delegate=config.delegate)
        return
    client = adb.Adb(config.adb, config.adb_port)
    found = phone.distinct(client.phones([config.serial] if config.serial else [], tell), tell)
    if len(found) > 1:
        names = ", ".join(one.serial for one in found)
        raise UserError(f"{len(found)} phones are connected; a table is of one: give --serial, of {names}")
    facts = phone.facts(found[0])
    mask, _ = phone.pinning(config.affinity, facts, tell)
    with session.alone(facts.device):
        yield PhoneMeter(
            fleet.backend_of(fleet.Config(backend="native")),
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


class HostMeter:
    """Times files on this machine, in turns: the lowest of `ROUNDS` medians, in ms.

    What disturbs a machine makes runs longer, never shorter, and lasts; a round that it missed tells the truth.
    """

    together = 16

    def __init__(self, *, threads: int = 1, delegate: str = "xnnpack") -> None:
        runtime = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
        self.setting = Setting(host.this_device(), "ai_edge_litert", runtime, delegate, threads, "ms")

    def costs(self, files: Sequence[Path]) -> list[float]:
        """See `Meter`."""
        loaded = [open_interpreter(file, self.setting.threads, self.setting.delegate) for file in files]
        for interpreter in loaded:
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], _noise(detail["shape"], detail["dtype"]))
            interpreter.invoke()
        rounds = [[_median_ms(interpreter) for interpreter in loaded] for _ in range(ROUNDS)]
        return [min(times) for times in zip(*rounds, strict=True)]


class ProxyMeter:
    """Counts the instructions of one inference on an emulated processor: the same number at every repeat.

    Raises `UserError` with the command that installs what is missing.
    """

    def __init__(self, cpu: str = "cortex-a76", *, delegate: str = "xnnpack") -> None:
        backend = emulated.InstructionProxy(cpu)
        backend.prepare(None)
        device = backend.device
        runtime = f"{native.RUNTIME}, {device.system}"
        self._cpu = cpu
        self.setting = Setting(device, backend.name, runtime, delegate, 1, "instructions")
        self.together = 4 * (os.cpu_count() or 1)

    def costs(self, files: Sequence[Path]) -> list[float]:
        """See `Meter`."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
            counts = workers.map(lambda file: emulated.instructions(file, self._cpu, self.setting.delegate), files)
            return [float(count) for count in counts]


class PhoneMeter:
    """Times files on a phone through a back end of `measure.android`: the median of all runs of each, in ms.

    Before each call of `costs` the phone is waited for until it is cool, and what it measured while it slowed itself
    down is measured again: a table has no place for a warning.
    """

    together = 16

    def __init__(
        self,
        backend: Backend,
        phone: Any,
        device: Device,
        *,
        threads: int = 1,
        delegate: str = "xnnpack",
        affinity: str = "",
        cooldown_seconds: float = 120.0,
        cool_celsius: float = 38.0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`phone` is an `adb.Phone`. `cooldown_seconds` and `cool_celsius` are as in `android.Config`."""
        self._backend, self._phone, self._affinity = backend, phone, affinity
        self._threads, self._delegate = threads, delegate
        self._name, self._tell = device.name, tell
        self._cooldown_s, self._cool_celsius = cooldown_seconds, cool_celsius
        self._pushed: set[str] = set()
        phone.forget_unused()
        backend.prepare(phone)
        with tempfile.TemporaryDirectory() as scratch:
            probe = Path(scratch) / "probe.tflite"
            probe.write_bytes(chain("MAX_POOL_2D", 1))
            with self._tidy():
                runtime = self._outcome(probe).runtime
        self.setting = Setting(device, backend.name, runtime, delegate, threads, "ms", affinity)

    def costs(self, files: Sequence[Path]) -> list[float]:
        """See `Meter`. The files are removed from the phone afterwards.

        Raises `UserError` where another delegate ran a file than was asked for, or tells no time, and where the phone
        slowed itself down in each of `TRIES` tries.
        """
        with self._tidy():
            for _ in range(TRIES):
                cooled = guards.cool_down(
                    lambda: phone.read(self._phone),
                    seconds=self._cooldown_s,
                    celsius=self._cool_celsius,
                    waiting=lambda state: self._tell(f"{self._name}: waits until it is cool"),
                )
                costs = [_median(self._outcome(file), file) for file in files]
                raised = guards.flags(cooled.reading, phone.read(self._phone), cooled.cool)
                slower = [name for name in ("throttled", "frequency_dropped") if raised.get(name)]
                if not slower:
                    return costs
                said = " and ".join(slower).replace("_", " ")
                self._tell(f"{self._name}: {said} while {len(files)} files were timed, so these times do not count")
        raise UserError(
            f"{self._name} was {said} in each of {TRIES} tries to time the same files; cool it, take it off its "
            "charger, or take --affinity little, then give the same command again: it goes on from there"
        )

    @contextlib.contextmanager
    def _tidy(self) -> Iterator[None]:
        """Removes from the phone, at its end, the files that were brought meanwhile, unless it has gone."""
        self._pushed.clear()
        try:
            yield
        finally:
            with contextlib.suppress(adb.AdbError):
                self._phone.remove(self._pushed)

    def _outcome(self, file: Path) -> Outcome:
        content = file.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        size = len(content)
        remote = self._phone.push_by_sha256(file)
        self._pushed.add(remote)
        artifact = Artifact("operator", "latency-table", file.name, "int8", sha256, size, 0, 0, Normalization())
        job = Job(
            path=file,
            artifact=artifact,
            delegate=self._delegate,
            threads=self._threads,
            image=_image(content),
            remote=remote,
            warmup=5,
            repeats=50,
            min_seconds=0.05,
            max_seconds=10.0,
            affinity=self._affinity,
        )
        outcome = self._backend.run(self._phone, job)
        taken = self._delegate != "xnnpack" or partitions(content).count > 0
        if outcome.delegate != self._delegate and taken:
            raise UserError(f"{self._backend.name} ran an operator by {outcome.delegate} instead of {self._delegate}")
        return outcome


def chain(kind: str, count: int, channels: int = 8) -> bytes:
    """A file of `count` operators in a row, each on int8 `[1, 2, 2, channels]`: MAX_POOL_2D of 2x2, or SOFTMAX.

    XNNPACK takes the first and not the second, and joins neither with its like.
    """
    options = {"MAX_POOL_2D": schema.Pool2DOptionsT, "SOFTMAX": schema.SoftmaxOptionsT}[kind]()
    if kind == "SOFTMAX":
        options.beta = 1.0
    else:
        options.filterHeight, options.filterWidth, options.strideH, options.strideW = 2, 2, 1, 1
        options.padding = schema.Padding.SAME
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [_tensor(f"t{i}", channels) for i in range(count + 1)]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([count], np.int32)
    graph.operators = []
    for i in range(count):
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = np.array([i], np.int32), np.array([i + 1], np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        operator.builtinOptions = options
        graph.operators.append(operator)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 2  # the first with 8 bits, of both
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    return flatbuffer.packed(model)


def _tensor(name: str, channels: int) -> Any:
    """int8 on the grid that TFLite wants of a softmax."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape = name, np.array([1, 2, 2, channels], np.int32)
    tensor.type, tensor.buffer = schema.TensorType.INT8, 0
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array([1 / 256], np.float32)
    tensor.quantization.zeroPoint = np.array([-128], np.int64)
    return tensor


def _median_ms(interpreter: Any) -> float:
    """Of one round, after an untimed run that fills the caches."""
    interpreter.invoke()
    times: list[int] = []
    while len(times) < FEWEST or (len(times) < MOST and sum(times) < ROUND_MS * 1e6):
        start = time.perf_counter_ns()
        interpreter.invoke()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e6


def _median(outcome: Outcome, file: Path) -> float:
    if outcome.wall_ms:
        return float(np.median(outcome.wall_ms))
    if outcome.summary is None or outcome.summary.p50_ms is None:
        raise UserError(f"{outcome.runtime} told no median of {file}; use --backend native")
    return outcome.summary.p50_ms


def _image(content: bytes) -> bytes:
    """Noise for the input of a file with one."""
    (detail,) = open_interpreter(content, 1, "reference").get_input_details()
    return _noise(detail["shape"], detail["dtype"]).tobytes()


def _noise(shape: Sequence[int], dtype: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return rng.random(tuple(shape)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max + 1, tuple(shape), dtype)
