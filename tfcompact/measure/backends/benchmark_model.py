"""The back end `benchmark_model`: TensorFlow Lite's, or LiteRT's, own tool, which the user supplies as a file.

Both dialects are spoken, told apart by what the binary's `--help` lists: TensorFlow Lite's takes delegates by
`--use_xnnpack`, `--use_gpu`, `--use_nnapi`; LiteRT 2.x's takes accelerators by `--use_cpu`, `--use_gpu`, `--use_npu`.
The tool keeps no samples, so a row from it has a summary. Whether a delegate ran, and on how much of the network, is
read in its log, and in the file about nodes where its build writes one: the tool itself ends well after a silent
fallback. Its input is random, and its answer is not looked at. No TensorFlow here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tfcompact.errors import UserError
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.backends import benchmark_log, runtime_info
from tfcompact.measure.backends.backend import Job, Outcome, RunFailed
from tfcompact.measure.backends.benchmark_command import (
    CLASSIC,
    LITERT,
    RESULT,
    RUNTIME_INFO,
    Tool,
    checked,
    command_line,
)
from tfcompact.measure.backends.benchmark_result import read_result_file
from tfcompact.measure.backends.delegation_log import EXTERNAL, delegations, judged
from tfcompact.records.measurement import OperatorTime, Summary

Read = TypeVar("Read")
MACHINES = {3: "x86", 40: "ARM", 62: "x86-64", 183: "ARM64", 243: "RISC-V"}
"""`e_machine` of the ELF header, in the words of an error: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html"""
SLACK_S = 180.0
"""Seconds beyond warm-up and runs in which a file must be read and compiled: a GPU's programs can take a minute."""


class BenchmarkModel:
    """Runs files with a `benchmark_model` binary for the phone's processor, given by its path on this computer.

    Without `require_full_delegation` a delegate may leave operators to the CPU: the row says so in `validity`, and
    says what ran where it took none. With it, such a file is an error. `arguments` are more flags of the tool's,
    as typed (`--gpu_backend=cl --xnnpack_force_fp16=true`); `libraries` is a folder of what the tool loads, an NPU's
    above all, which is brought to the phone with it. Raises `UserError` for a flag that is given already, and for a
    folder without libraries.
    """

    name = "benchmark_model"
    delegates = ("xnnpack", "builtin", "gpu", "nnapi", "npu", EXTERNAL)

    def __init__(
        self,
        binary: str | Path | None,
        *,
        require_full_delegation: bool = False,
        arguments: str = "",
        libraries: Path | None = None,
    ) -> None:
        if binary is None or not str(binary):
            raise UserError(
                "the back end benchmark_model needs the tool's binary for Android; give it: --benchmark-model PATH"
            )
        self.binary = Path(binary)
        self.require_full_delegation = require_full_delegation
        self.arguments = checked(arguments)
        self.libraries = _libraries(libraries) if libraries else ()
        self._tools: dict[str, Tool] = {}
        self._kind = _kind(self.binary)
        self._sha256 = hashlib.sha256(self.binary.read_bytes()).hexdigest()

    def prepare(self, phone: Phone) -> None:
        """Brings the binary to the device and asks it what it can do. Raises `UserError` where it does not start."""
        together = {path.name: path for path in (self.binary, *self.libraries)}
        remote = f"{phone.push_files_by_sha256(together)}/{self.binary.name}"
        tool = Tool(remote, CLASSIC, frozenset(), bool(self.libraries))
        asked = phone.shell(f"chmod 755 {shlex.quote(remote)} && {tool.start} --help", timeout_s=60)
        said = f"{asked.out}\n{asked.err}"
        flags = frozenset(re.findall(r"^\s*--(\w+)=", said, re.MULTILINE))
        if "graph" not in flags:
            raise UserError(
                f"{self.binary}, {self._kind}, does not run on {phone.serial} as a benchmark_model "
                f"({benchmark_log.last_words(said)}); give the build for Android and this phone's processor"
            )
        dialect = LITERT if "use_npu" in flags else CLASSIC
        self._tools[phone.serial] = replace(tool, dialect=dialect, flags=flags)

    def run(self, phone: Phone, job: Job) -> Outcome:
        """Runs the file once for its times, and once more for its operators' where they are asked for.

        Raises `UserError` where the tool has no such delegate, or gives no result.
        """
        if phone.serial not in self._tools:
            self.prepare(phone)
        tool = self._tools[phone.serial]
        saved = f"{tool.remote}.{job.artifact.sha256[:8]}"
        command = command_line(tool, job, full=self.require_full_delegation, more=self.arguments, saved=saved)
        # What an earlier run saved must not be taken for this one's.
        phone.shell(f"rm -f {shlex.quote(saved)}.result {shlex.quote(saved)}.runtime", timeout_s=30)
        timeout_s = job.max_seconds + job.warmup_seconds + job.warmup * 2 + SLACK_S
        done = phone.shell(command, timeout_s=timeout_s)
        said = f"{done.out}\n{done.err}"
        if done.code != 0:
            raise self._failure(job, done.code, said, command)
        try:
            log = benchmark_log.read(said)
        except UserError as error:
            raise RunFailed(str(error), command=command, log=said) from None
        nodes_taken = _saved(phone, f"{saved}.runtime", runtime_info.read) if RUNTIME_INFO in tool.flags else None
        try:
            ran, nodes, flags = judged(job.delegate, delegations(said), nodes_taken)
        except UserError as error:
            raise RunFailed(str(error), command=command, log=said) from None
        if self.require_full_delegation and job.delegate not in ("xnnpack", "builtin") and any(flags.values()):
            wanting = "not all operators were taken by the delegate"
            raise self._failure(job, 0, wanting, command, said)
        # From here on there are times, which nothing that fails later may take away.
        told = _saved(phone, f"{saved}.result", read_result_file) if RESULT in tool.flags else None
        summary = log.summary if told is None else _filled(log.summary, told.summary)
        operators: tuple[OperatorTime, ...] = ()
        profile_log = ""
        if job.profile:
            try:
                operators, profile_log = self._profile(phone, tool, job, timeout_s)
            except UserError as error:
                profile_log = f"\n# no profile: {error}\n{getattr(error, 'log', '')}"
            flags |= {} if operators else {"profile_failed": True}
        return Outcome(
            runtime=f"benchmark_model of {tool.dialect}, sha256 {self._sha256[:12]}"
            + (f", {nodes.api}" if nodes and nodes.api else ""),
            delegate=ran,
            command=command,
            log=said + profile_log,
            warmup_runs=log.warmup_runs,
            summary=summary,
            cold=log.cold,
            operators=operators,
            partitions=nodes.pieces if nodes else None,
            delegated_nodes=nodes.replaced if nodes else None,
            total_nodes=nodes.total if nodes else None,
            peak_memory_mb=log.memory_mb or (told.memory_mb if told else None),
            flags=flags,
        )

    def _profile(self, phone: Phone, tool: Tool, job: Job, timeout_s: float) -> tuple[tuple[OperatorTime, ...], str]:
        """The operators' times from a run of their own: being watched makes every operator slower."""
        fewer = replace(job, repeats=50, min_seconds=0.0)
        command = command_line(tool, fewer, more=self.arguments)
        command += " --use_profiler=true" if tool.dialect == LITERT else " --enable_op_profiling=true"
        done = phone.shell(command, timeout_s=timeout_s)
        said = f"{done.out}\n{done.err}"
        if done.code != 0:
            raise self._failure(job, done.code, said, command)
        return benchmark_log.operators(said), f"\n$ {command}\n{said}"

    def _failure(self, job: Job, code: int, why: str, command: str, said: str | None = None) -> RunFailed:
        status = f" with status {code}" if code else ""
        remedy = "; try another of --delegates" if job.delegate not in ("xnnpack", "builtin") else ""
        return RunFailed(
            f"benchmark_model did not run {job.path.name} with {job.delegate}{status} "
            f"({benchmark_log.last_words(why)}){remedy}",
            command=command,
            log=why if said is None else said,
        )


def from_options(config: Config) -> BenchmarkModel:
    """The back end as the options ask for it. Raises `UserError` where what it needs is not there."""
    return BenchmarkModel(
        config.benchmark_model,
        require_full_delegation=config.require_full_delegation,
        arguments=config.benchmark_args,
        libraries=config.benchmark_libs,
    )


def _libraries(folder: Path) -> tuple[Path, ...]:
    """The libraries in a folder. Raises `UserError` where it is none, or holds none."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of libraries; give --benchmark-libs FOLDER")
    found = tuple(path for path in sorted(folder.iterdir()) if re.search(r"\.so(\.\d+)*$", path.name))
    if not found:
        raise UserError(f"{folder} holds no library (.so); give --benchmark-libs the folder that has them")
    return found


def _saved(phone: Phone, path: str, read: Callable[[bytes], Read]) -> Read | None:
    """What the tool saved, or None where it saved nothing of use: its log has the same, less exactly."""
    quoted = shlex.quote(path)
    try:
        got = phone.shell(f"base64 {quoted} && rm -f {quoted}", timeout_s=30)
        return read(base64.b64decode("".join(got.out.split()), validate=True)) if got.code == 0 else None
    except (UserError, binascii.Error):
        return None


def _filled(summary: Summary, more: Summary) -> Summary:
    """The log's summary, with what only the result file tells; that of another number of runs tells nothing."""
    if more.count != summary.count:
        return summary
    missing = {
        name: getattr(more, name)
        for name in ("min_ms", "max_ms", "mean_ms", "std_ms", "p5_ms", "p50_ms", "p95_ms")
        if getattr(summary, name) is None
    }
    return replace(summary, **missing)


def _kind(path: Path) -> str:
    """What sort of program the file is. Raises `UserError` where it is none, or cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(20)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give --benchmark-model PATH") from None
    if head.startswith(b"#!"):
        return "a script"
    if not head.startswith(b"\x7fELF") or len(head) < 20:
        raise UserError(f"{path} is not a program for Android; give benchmark_model's binary, not a page or an APK")
    machine = int.from_bytes(head[18:20], "little")
    return f"a program for {MACHINES.get(machine, f'machine {machine}')}"
