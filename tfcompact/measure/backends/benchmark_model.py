"""The back end `benchmark_model`: TensorFlow Lite's, or LiteRT's, own tool, which the user supplies as a file.

Both dialects are spoken, told apart by what the binary's `--help` lists: TensorFlow Lite's takes delegates by
`--use_xnnpack`, `--use_gpu`, `--use_nnapi`; LiteRT 2.x's takes accelerators by `--use_cpu`, `--use_gpu`, `--use_npu`.
The tool keeps no samples, so a row from it has a summary. Whether a delegate ran, and on how much of the network, is
read in its log and nowhere else: the tool itself ends well after a silent fallback. Its input is random, and its
answer is not looked at. No TensorFlow here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.backends import benchmark_log
from tfcompact.measure.backends.backend import Job, Outcome, RunFailed
from tfcompact.measure.backends.benchmark_result import ResultFile, read_result_file
from tfcompact.measure.backends.delegation_log import EXTERNAL, delegations, judged
from tfcompact.records.measurement import OperatorTime, Summary

CLASSIC, LITERT = "TensorFlow Lite", "LiteRT"
DELEGATES = {CLASSIC: ("xnnpack", "builtin", "gpu", "nnapi", EXTERNAL), LITERT: ("xnnpack", "gpu", "npu")}
MACHINES = {3: "x86", 40: "ARM", 62: "x86-64", 183: "ARM64", 243: "RISC-V"}
"""`e_machine` of the ELF header, in the words of an error: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html"""
LIBRARY = "external_delegate_path"
OURS = (
    *("graph", "num_threads", "warmup_runs", "warmup_min_secs", "num_runs", "min_secs", "max_secs"),
    *("result_file_path", "report_peak_memory_footprint", "require_full_delegation", "enable_op_profiling"),
    *("use_cpu", "use_gpu", "use_npu", "use_nnapi", "use_xnnpack", "use_profiler"),
)
"""Flags that follow from a `Job`, which the user's own must not contradict."""
SLACK_S = 180.0
"""Seconds beyond warm-up and runs in which a file must be read and compiled: a GPU's programs can take a minute."""


@dataclass(frozen=True)
class _Tool:
    """The binary on one device: where it lies, which dialect it speaks, which flags it lists."""

    remote: str
    dialect: str
    flags: frozenset[str]


class BenchmarkModel:
    """Runs files with a `benchmark_model` binary for the phone's processor, given by its path on this computer.

    Without `require_full_delegation` a delegate may leave operators to the CPU: the row says so in `validity`, and
    says what ran where it took none. With it, such a file is an error. `arguments` are more flags of the tool's,
    as typed (`--gpu_backend=cl --xnnpack_force_fp16=true`). Raises `UserError` for a flag that is given already.
    """

    name = "benchmark_model"
    delegates = ("xnnpack", "builtin", "gpu", "nnapi", "npu", EXTERNAL)

    def __init__(
        self, binary: str | Path | None, *, require_full_delegation: bool = False, arguments: str = ""
    ) -> None:
        if binary is None or not str(binary):
            raise UserError(
                "the back end benchmark_model needs the tool's binary for Android; give it: --benchmark-model PATH"
            )
        self.binary = Path(binary)
        self.require_full_delegation = require_full_delegation
        self.arguments = tuple(shlex.split(arguments))
        for word in self.arguments:
            if not re.fullmatch(r"--\w+=.*", word) or word[2:].partition("=")[0] in OURS:
                raise UserError(
                    f"--benchmark-args takes flags as --name=value that no other option sets, not {word!r}"
                )
        self._tools: dict[str, _Tool] = {}
        self._kind = _kind(self.binary)
        self._sha256 = hashlib.sha256(self.binary.read_bytes()).hexdigest()

    def prepare(self, phone: Phone) -> None:
        """Brings the binary to the device and asks it what it can do. Raises `UserError` where it does not start."""
        remote = phone.push_by_sha256(self.binary)
        asked = phone.shell(f"chmod 755 {shlex.quote(remote)} && {shlex.quote(remote)} --help", timeout_s=60)
        said = f"{asked.out}\n{asked.err}"
        flags = frozenset(re.findall(r"^\s*--(\w+)=", said, re.MULTILINE))
        if "graph" not in flags:
            raise UserError(
                f"{self.binary}, {self._kind}, does not run on {phone.serial} as a benchmark_model "
                f"({benchmark_log.last_words(said)}); give the build for Android and this phone's processor"
            )
        self._tools[phone.serial] = _Tool(remote, LITERT if "use_npu" in flags else CLASSIC, flags)

    def run(self, phone: Phone, job: Job) -> Outcome:
        """Runs the file once for its times, and once more for its operators' where they are asked for.

        Raises `UserError` where the tool has no such delegate, or gives no result.
        """
        if phone.serial not in self._tools:
            self.prepare(phone)
        tool = self._tools[phone.serial]
        result_path = f"{tool.remote}.{job.artifact.sha256[:8]}.result"
        command = command_line(
            tool.remote, tool.flags, tool.dialect, job, full=self.require_full_delegation, more=self.arguments
        )
        saved = f" --result_file_path={shlex.quote(result_path)}" if "result_file_path" in tool.flags else ""
        if saved:  # one of an earlier run must not be taken for this one's
            phone.shell(f"rm -f {shlex.quote(result_path)}", timeout_s=30)
        timeout_s = job.max_seconds + job.warmup_seconds + job.warmup * 2 + SLACK_S
        done = phone.shell(command + saved, timeout_s=timeout_s)
        said = f"{done.out}\n{done.err}"
        if done.code != 0:
            raise self._failure(job, done.code, said, command + saved)
        try:
            log = benchmark_log.read(said)
        except UserError as error:
            raise RunFailed(str(error), command=command + saved, log=said) from None
        try:
            ran, nodes, flags = judged(job.delegate, delegations(said))
        except UserError as error:
            raise RunFailed(str(error), command=command + saved, log=said) from None
        if self.require_full_delegation and job.delegate not in ("xnnpack", "builtin") and any(flags.values()):
            wanting = "not all operators were taken by the delegate"
            raise self._failure(job, 0, wanting, command + saved, said)
        # From here on there are times, which nothing that fails later may take away.
        told = self._result_file(phone, result_path) if saved else None
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
            command=command + saved,
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

    def _profile(self, phone: Phone, tool: _Tool, job: Job, timeout_s: float) -> tuple[tuple[OperatorTime, ...], str]:
        """The operators' times from a run of their own: being watched makes every operator slower."""
        fewer = replace(job, repeats=50, min_seconds=0.0)
        command = command_line(tool.remote, tool.flags, tool.dialect, fewer, more=self.arguments)
        command += " --use_profiler=true" if tool.dialect == LITERT else " --enable_op_profiling=true"
        done = phone.shell(command, timeout_s=timeout_s)
        said = f"{done.out}\n{done.err}"
        if done.code != 0:
            raise self._failure(job, done.code, said, command)
        return benchmark_log.operators(said), f"\n$ {command}\n{said}"

    def _result_file(self, phone: Phone, path: str) -> ResultFile | None:
        """What the tool saved, or None where it saved nothing of use: its log has the same, less exactly."""
        quoted = shlex.quote(path)
        try:
            got = phone.shell(f"base64 {quoted} && rm -f {quoted}", timeout_s=30)
            if got.code != 0:
                return None
            return read_result_file(base64.b64decode("".join(got.out.split()), validate=True))
        except (UserError, binascii.Error):
            return None

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
    )


def command_line(
    program: str, flags: frozenset[str], dialect: str, job: Job, *, full: bool = False, more: Sequence[str] = ()
) -> str:
    """The line of shell for a device that runs the tool on `job`. `flags` are those that its `--help` lists.

    `full` has the tool fail where the delegate leaves an operator to the CPU; `more` are flags of the user's. Raises
    `UnknownName` or `UserError` where the dialect, or the build, has no such delegate.
    """
    if job.delegate not in DELEGATES[dialect]:
        raise UnknownName(f"delegate of {dialect}'s benchmark_model", job.delegate, DELEGATES[dialect])
    words = {
        "graph": job.remote,
        "num_threads": job.threads,
        "warmup_runs": job.warmup,
        "warmup_min_secs": job.warmup_seconds,
        "num_runs": job.repeats,
        "min_secs": job.min_seconds,
        "max_secs": job.max_seconds,
        "report_peak_memory_footprint": True,
    }
    accelerated = job.delegate not in ("xnnpack", "builtin")
    needed = f"use_{job.delegate}"
    library = any(word.startswith(f"--{LIBRARY}=") for word in more)
    if library != (job.delegate == EXTERNAL):
        raise UserError(
            f"the delegate {EXTERNAL} is the one of a library: give both, --delegates {EXTERNAL} and "
            f"--benchmark-args=--{LIBRARY}=PATH, with the path on the phone"
        )
    if dialect == LITERT:
        needed = "use_cpu" if job.delegate == "xnnpack" else needed
        # Asking for the CPU and for full delegation at once is an abort in the tool, so it is always said.
        words |= {"use_cpu": not accelerated, "use_gpu": job.delegate == "gpu", "use_npu": job.delegate == "npu"}
    else:
        needed = {"builtin": "use_xnnpack", EXTERNAL: LIBRARY}.get(job.delegate, needed)
        # What an accelerator leaves over runs on XNNPACK, as in an app. The tool applies delegates in the order of
        # their flags, so the accelerator's is first; that of a library is among the user's own, which are last.
        words |= {needed: True} if accelerated and job.delegate != EXTERNAL else {}
        words["use_xnnpack"] = job.delegate not in ("builtin", EXTERNAL)
    if needed not in flags:
        raise UserError(f"this benchmark_model has no --{needed}; leave {job.delegate} out, or give another build")
    if full and accelerated:
        words["require_full_delegation"] = True
    pinned = f"taskset {job.affinity} " if job.affinity else ""
    known = {name: value for name, value in words.items() if name in flags}
    given = [f"--{name}={_word(value)}" for name, value in known.items()] + [shlex.quote(word) for word in more]
    return f"{pinned}{shlex.quote(program)} {' '.join(given)}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else shlex.quote(str(value))


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
