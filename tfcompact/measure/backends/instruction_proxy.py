"""Instructions that one inference takes on an ARM64 processor, counted under QEMU: the back end `arm64_insn_proxy`.

The program, the runtime and the C library are those that back end `native` pushes to a phone, run by `qemu-aarch64`
as a processor of one kind. A plugin of ours (android_harness/emulated/insn_count.c) counts the instructions between
two marks that the program sets around each inference; what the marks themselves cost is taken off.

It is a proxy for cost, not for time, and never given in ms: an instruction has no duration here, there are no caches,
no pipeline and no memory to wait for. What it is good for: the same file on the same processor, with the same
bundle, takes the same number to the last digit, however busy the computer is. XNNPACK chooses its kernels by the
processor's part number and features, so a Cortex-A53 (no dot product) and a Cortex-A76 run other kernels, as they do
on a phone.

What it needs: `apt-get install qemu-user` with plugins of interface version 1 (QEMU 5 to 8; Debian 12 has 7.2), a C
compiler, and what `bundle` needs. No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.errors import UnknownName, UserError
from tfcompact.files import cache_directory
from tfcompact.measure.backends.arm_processors import DEFAULT_PROCESSOR, PROCESSORS
from tfcompact.measure.backends.backend import Job, Outcome
from tfcompact.measure.backends.bundle import Bundle, appear, build_bundle, compile_c, harness_source
from tfcompact.measure.backends.native import DELEGATES, check_delegate
from tfcompact.measure.backends.runner_answer import RUNTIME, parse, ran
from tfcompact.records import backends
from tfcompact.records.device import Device

EMULATOR = "qemu-aarch64"
COUNTED_RUNS = 3
"""Inferences counted, after one that is not. The last is given; that it is the one before's is checked."""
PLUGIN_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-shared", "-fPIC", "-fvisibility=hidden")
LIMIT_S = 3600.0


@dataclass(frozen=True)
class Count:
    """The instructions of each counted inference, the marks' own taken off, and the answer's bytes if asked for."""

    each: tuple[int, ...]
    output: bytes | None
    command: str
    log: str

    @property
    def instructions(self) -> int:
        """The instructions of one inference: the last."""
        return self.each[-1]

    @property
    def steady(self) -> bool:
        """Whether the last inference took as many as the one before."""
        return len(self.each) > 1 and self.each[-1] == self.each[-2]


def instructions(path: Path | str, cpu: str = DEFAULT_PROCESSOR, delegate: str = "xnnpack") -> int:
    """The instructions that one inference of the file takes on one thread.

    The file may have several inputs; they get fixed pseudo-random values. Raises `UserError` where the file does not
    run, or with the command that installs what is missing.
    """
    return count(Path(path), cpu, delegate).instructions


def count(
    path: Path,
    cpu: str = DEFAULT_PROCESSOR,
    delegate: str = "xnnpack",
    *,
    image: bytes | None = None,
    directory: Path | None = None,
) -> Count:
    """The instructions of `COUNTED_RUNS` inferences of the file in one process, after one that is not counted.

    `image`, the bytes of the file's only input, asks for the output's bytes too. `directory` is where what is needed
    is made and kept (default: the cache).
    """
    check_delegate(delegate, InstructionProxy.name)
    with _Emulator(cpu, directory, path, image) as emulator:
        plugin = ("-plugin", "./insn_count.so,out=counts")
        arguments = ("--kernels", delegate, "--warmup", "0", "--runs", str(COUNTED_RUNS), "--marker")
        _, log = emulator.run(plugin, arguments)
        marks, *counts = [int(line) for line in (emulator.directory / "counts").read_text().split()]
        if len(counts) != COUNTED_RUNS:
            raise UserError(f"{path}: {len(counts)} inferences were counted instead of {COUNTED_RUNS}; try again")
        each = tuple(value - marks for value in counts)
        log += f"instructions: {' '.join(map(str, each))}\n"
        return Count(each, emulator.output(), emulator.command(plugin, arguments), log)


class InstructionProxy:
    """The back end `arm64_insn_proxy` for one kind of processor, which needs no phone.

    `directory` is where what is needed is made and kept (default: the cache).
    """

    name = backends.default("emulated").name
    delegates: tuple[str, ...] = DELEGATES

    def __init__(self, cpu: str = DEFAULT_PROCESSOR, directory: Path | None = None) -> None:
        if cpu not in PROCESSORS:
            raise UnknownName("emulated processor", cpu, PROCESSORS)
        self.cpu, self._directory = cpu, directory

    @property
    def device(self) -> Device:
        """What is emulated, as a device: its `name` says that instructions are counted."""
        version = _emulator_version()
        processor = f"{PROCESSORS[self.cpu].name} (QEMU {version}, instructions only)"
        return Device("emulated", f"arm64-{self.cpu}-insn", processor, 1, f"{EMULATOR} {version}")

    def prepare(self) -> None:
        """Makes all that is needed. Raises `UserError` with the command that provides what is missing."""
        _emulator_version()
        build_bundle(self._directory)
        build_plugin(self.cpu, self._directory)

    def run(self, job: Job) -> Outcome:
        """What one inference of the file takes. Raises `UserError` where it does not run, or for several threads."""
        if job.threads != 1:
            raise UserError(f"back end {self.name} counts one thread, not {job.threads}: with more, counts vary")
        found = count(job.path, self.cpu, job.delegate, image=job.image, directory=self._directory)
        with _Emulator(self.cpu, self._directory, job.path, job.image) as emulator:
            profile, _ = emulator.run((), ("--kernels", job.delegate, "--warmup", "0", "--runs", "1", "--profile"))
        seen = ran(job, profile)
        return Outcome(
            runtime=f"{RUNTIME}, {EMULATOR} {_emulator_version()}",
            delegate=seen.delegate,
            command=found.command,
            log=found.log,
            warmup_runs=1,
            partitions=seen.partitions,
            delegated_nodes=seen.delegated_nodes,
            total_nodes=seen.total_nodes,
            output=found.output,
            instructions=found.instructions,
            flags=seen.flags | {"unsteady": not found.steady},
        )


def build_plugin(cpu: str, directory: Path | None = None) -> Path:
    """The directory with `insn_count.so` and `root`, which has the emulated processor's `/proc/cpuinfo`.

    Made where it is not there yet. Raises `UserError` where there is no C compiler.
    """
    if cpu not in PROCESSORS:
        raise UnknownName("emulated processor", cpu, PROCESSORS)
    source = harness_source("emulated/insn_count.c")
    files = {
        "proc/cpuinfo": PROCESSORS[cpu].cpuinfo,
        # Else those of this computer: one core, so that nothing depends on how many it has.
        "sys/devices/system/cpu/kernel_max": "0\n",
        "sys/devices/system/cpu/possible": "0\n",
        "sys/devices/system/cpu/present": "0\n",
    }
    facts = [source.read_text(), *PLUGIN_FLAGS, *(f"{name}\n{text}" for name, text in files.items())]
    digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    home = (directory or cache_directory()) / "emulated"
    final = home / f"{cpu}-{digest[:16]}"
    if final.is_dir():
        return final
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise UserError("there is no C compiler for QEMU's plugin; install one: apt-get install gcc libc6-dev")
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
        made = Path(scratch) / "plugin"
        for name, text in files.items():
            (made / "root" / name).parent.mkdir(parents=True, exist_ok=True)
            (made / "root" / name).write_text(text)
        compile_c(compiler, source, made / "insn_count.so", *PLUGIN_FLAGS)
        appear(made, final)
    return final


class _Emulator:
    """One file in a directory of its own under fixed names, so that no path's length changes what is counted."""

    def __init__(self, cpu: str, directory: Path | None, path: Path, image: bytes | None) -> None:
        if not path.is_file():
            raise UserError(f"{path} is not there; give the path of a .tflite file")
        self._path = path.resolve()
        self._image = image
        self._cpu = cpu
        self._plugin = build_plugin(cpu, directory)
        self._program = shutil.which(EMULATOR)
        _emulator_version()
        self._bundle: Bundle = build_bundle(directory)

    def __enter__(self) -> _Emulator:
        self._scratch = tempfile.TemporaryDirectory()
        self.directory = Path(self._scratch.name)
        names = {
            **self._bundle.files,
            "insn_count.so": self._plugin / "insn_count.so",
            "root": self._plugin / "root",
            "model.tflite": self._path,
        }
        for name, path in names.items():
            (self.directory / name).symlink_to(path.resolve())
        if self._image is not None:
            (self.directory / "input.bin").write_bytes(self._image)
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def words(self, options: tuple[str, ...], arguments: tuple[str, ...]) -> list[str]:
        """The command line, for `directory` as the working directory."""
        fed = () if self._image is None else ("--input", "input.bin", "--output", "output.bin")
        fixed = ("--threads", "1", "--min-seconds", "0", "--max-seconds", "1e6")
        emulator = [str(self._program), "-L", "root", "-cpu", self._cpu, *options]
        return [*emulator, *self._bundle.start, "model.tflite", *fed, *fixed, *arguments]

    def command(self, options: tuple[str, ...], arguments: tuple[str, ...]) -> str:
        """`words` as a line of shell."""
        return shlex.join(self.words(options, arguments))

    def run(self, options: tuple[str, ...], arguments: tuple[str, ...]) -> tuple[dict[str, Any], str]:
        """The runner's JSON, and a log without it, since its times mean nothing here."""
        command = self.words(options, arguments)
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env={},
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{self._path} took over {LIMIT_S:g} s under {EMULATOR}; take a smaller one") from None
        if "plugin" in done.stderr and done.returncode != 0 and not done.stdout:
            said = done.stderr.strip().rpartition("\n")[2]
            raise UserError(f"{self._program} does not take our plugin ({said}); it must be QEMU 5 to 8 with plugins")
        code = 128 - done.returncode if done.returncode < 0 else done.returncode
        data = parse(code, done.stdout, done.stderr, f"{self._path} under {EMULATOR} -cpu {self._cpu}")
        return data, f"$ {shlex.join(command)}\n{done.stderr}"

    def output(self) -> bytes | None:
        """The bytes of the answer, if an image was given."""
        return None if self._image is None else (self.directory / "output.bin").read_bytes()


def _emulator_version() -> str:
    """The version of QEMU. Raises `UserError` where there is none."""
    program = shutil.which(EMULATOR)
    if program is None:
        raise UserError(f"there is no {EMULATOR}; install it: apt-get install qemu-user")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\S+)", said)
    return found[1] if found else "of unknown version"
