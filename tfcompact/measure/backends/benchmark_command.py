"""The command line of `benchmark_model`, in each of its two dialects. Everything here is a function of text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.backends.backend import Job
from tfcompact.measure.backends.delegation_log import EXTERNAL

CLASSIC, LITERT = "TensorFlow Lite", "LiteRT"
DELEGATES = {CLASSIC: ("xnnpack", "builtin", "gpu", "nnapi", EXTERNAL), LITERT: ("xnnpack", "gpu", "npu")}
LIBRARY = "external_delegate_path"
OURS = (
    *("graph", "num_threads", "warmup_runs", "warmup_min_secs", "num_runs", "min_secs", "max_secs"),
    *(
        "result_file_path",
        "model_runtime_info_output_file",
        "report_peak_memory_footprint",
        "require_full_delegation",
        "enable_op_profiling",
    ),
    *("use_cpu", "use_gpu", "use_npu", "use_nnapi", "use_xnnpack", "use_profiler"),
)
"""Flags that follow from a `Job`, which the user's own must not contradict."""
COMPANIONS = ("dispatch_library_path", "compiler_plugin_library_path")
"""Flags that take the directory of an NPU's libraries (`litert/tools/benchmark_litert_model.h` of LiteRT)."""
RESULT, RUNTIME_INFO = "result_file_path", "model_runtime_info_output_file"
"""Flags that take a path for a file: its times, and which delegate took which node."""


@dataclass(frozen=True)
class Tool:
    """The binary on one device: where it lies, which dialect it speaks, which flags it lists, and whether libraries
    lie beside it.
    """

    remote: str
    dialect: str
    flags: frozenset[str]
    libraries: bool = False

    @property
    def start(self) -> str:
        """What starts it: its libraries are looked for beside it, those of a Qualcomm DSP too."""
        program = shlex.quote(self.remote)
        if not self.libraries:
            return program
        home = shlex.quote(str(PurePosixPath(self.remote).parent))
        return f"env LD_LIBRARY_PATH={home} ADSP_LIBRARY_PATH={home} {program}"


def checked(arguments: str) -> tuple[str, ...]:
    """The user's own flags, one by one. Raises `UserError` for what is none, and for one that another option sets."""
    try:
        words = tuple(shlex.split(arguments))
    except ValueError as error:
        raise UserError(f"--benchmark-args cannot be read as words ({error}); close its quotes") from None
    for word in words:
        if not re.fullmatch(r"--\w+=.*", word) or word[2:].partition("=")[0] in OURS:
            raise UserError(f"--benchmark-args takes flags as --name=value that no other option sets, not {word!r}")
    return words


def command_line(tool: Tool, job: Job, *, full: bool = False, more: Sequence[str] = (), saved: str = "") -> str:
    """The line of shell for a device that runs the tool on `job`.

    `full` has the tool fail where the delegate leaves an operator to the CPU; `more` are flags of the user's. What
    the tool saves, where its build does, goes to `saved` + `.result` and `saved` + `.runtime`. Raises `UnknownName`
    or `UserError` where the dialect, or the build, has no such delegate, and for an NPU without its libraries.
    """
    dialect, flags = tool.dialect, tool.flags
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
        # Asking for the CPU and for full delegation at once is an abort in the tool, so it is always said. What an
        # accelerator leaves over runs on XNNPACK all the same: the tool adds the CPU where full delegation is not
        # required (litert/tools/benchmark_litert_model.cc).
        words |= {"use_cpu": not accelerated, "use_gpu": job.delegate == "gpu", "use_npu": job.delegate == "npu"}
    else:
        needed = {"builtin": "use_xnnpack", EXTERNAL: LIBRARY}.get(job.delegate, needed)
        # What an accelerator leaves over runs on XNNPACK, as in an app. The tool applies delegates in the order of
        # their flags, so the accelerator's is first; that of a library is among the user's own, which are last.
        words |= {needed: True} if accelerated and job.delegate != EXTERNAL else {}
        words["use_xnnpack"] = job.delegate not in ("builtin", EXTERNAL)
    given_paths = {word[2:].partition("=")[0] for word in more}
    if job.delegate == "npu":
        if tool.libraries:
            home = str(PurePosixPath(tool.remote).parent)
            words |= {flag: home for flag in COMPANIONS if flag not in given_paths}
        elif not given_paths & set(COMPANIONS):
            raise UserError(
                "an NPU needs its libraries beside the tool; give the folder with libLiteRtDispatch_….so, "
                "libLiteRtCompilerPlugin_….so and the maker's: --benchmark-libs FOLDER"
            )
    if needed not in flags:
        raise UserError(f"this benchmark_model has no --{needed}; leave {job.delegate} out, or give another build")
    if full and accelerated:
        words["require_full_delegation"] = True
    if saved:
        words |= {RESULT: f"{saved}.result", RUNTIME_INFO: f"{saved}.runtime"}
    pinned = f"taskset {job.affinity} " if job.affinity else ""
    known = {name: value for name, value in words.items() if name in flags}
    given = [f"--{name}={_word(value)}" for name, value in known.items()] + [shlex.quote(word) for word in more]
    return f"{pinned}{tool.start} {' '.join(given)}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else shlex.quote(str(value))
