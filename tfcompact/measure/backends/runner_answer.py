"""What our C program (android_harness/native/runner.c) prints, one line of JSON, as an outcome.

That XNNPACK took a file is not asked of its log but shown by the operators that ran, one by one, in an inference of
its own. No TensorFlow here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfcompact.errors import UserError
from tfcompact.measure.backends.backend import Job, Outcome
from tfcompact.measure.backends.bundle import RUNTIME_VERSION
from tfcompact.records.measurement import ColdStart, OperatorTime
from tfcompact.tflite import flatbuffer

RUNTIME = f"LiteRT {RUNTIME_VERSION} (C API)"


def parse(code: int, out: str, err: str, what: str) -> dict[str, Any]:
    """What the runner printed. Raises `UserError`, in one line, where it failed or did not come to its end."""
    last = out.strip().rpartition("\n")[2]
    try:
        data = json.loads(last)
    except ValueError:
        data = None
    if isinstance(data, dict) and code == 0 and "wall_ns" in data:
        return data
    if isinstance(data, dict) and "error" in data:
        reason = str(data["error"])
    else:
        ended = f"signal {code - 128}" if code > 128 else f"status {code}"
        said = err.strip().rpartition("\n")[2].strip()
        reason = f"the runner ended with {ended}" + (f": {said}" if said else "")
    raise UserError(f"{what} does not run ({reason}); export it again, or try another delegate")


def operators(events: Sequence[Sequence[Any]], runs: int) -> tuple[OperatorTime, ...]:
    """The operators of `runs` inferences in order: mean time of one in ms, and share of all.

    `events` are the runner's `[name, whether a delegate's, index, us]`. Raises `UserError` where the runs differ.
    """
    each = events_of_one_run(events, runs)
    count = len(each)
    times = [sum(float(event[3]) for event in events[i::count]) / runs / 1e3 for i in range(count)]
    total = sum(times)
    return tuple(
        OperatorTime(
            name=f"{name} {i}",
            type=str(name),
            mean_ms=ms,
            share=ms / total if total else 0.0,
        )
        for i, ((name, *_), ms) in enumerate(zip(each, times, strict=True))
    )


def events_of_one_run(events: Sequence[Sequence[Any]], runs: int) -> Sequence[Sequence[Any]]:
    """The first inference's events. Raises `UserError` unless every other has the same operators in that order."""
    count, rest = divmod(len(events), runs)
    first = events[:count]
    same = all(list(event[:3]) == list(first[i % count][:3]) for i, event in enumerate(events)) if count else False
    if rest or not same:
        raise UserError(
            f"the profile holds {len(events)} operators of {runs} runs that differ; run it without profile"
        )
    return first


def delegation(events: Sequence[Sequence[Any]]) -> tuple[int, int, int]:
    """How XNNPACK took a file, by what ran in one inference: its pieces, its own operators, the runtime's operators.

    It numbers its operators anew in each piece. Its operators are not those of the file: it may need several for one.
    """
    pieces = sum(bool(delegated) and index == 0 for _, delegated, index, _ in events)
    own = sum(bool(delegated) for _, delegated, _, _ in events)
    return pieces, own, len(events) - own


@dataclass(frozen=True)
class Ran:
    """Which kernels ran a file: fields of `Outcome`, None where that is not known."""

    delegate: str
    partitions: int | None = None
    delegated_nodes: int | None = None
    total_nodes: int | None = None
    flags: dict[str, bool] = field(default_factory=dict)


def ran(job: Job, profile: Mapping[str, Any]) -> Ran:
    """Which kernels ran, from the runner's line of a profiled run.

    The runtime's own operators are all of the file's that no delegate took, one for one.
    """
    events = events_of_one_run(profile["events"], len(profile["wall_ns"]))
    pieces, _, left = delegation(events)
    total = len(flatbuffer.operators(job.path))
    wanted = job.delegate == "xnnpack"
    return Ran(
        delegate="xnnpack" if pieces else "builtin",
        partitions=pieces if wanted else None,
        delegated_nodes=total - left if wanted else None,
        total_nodes=total,
        flags={"fell_back": wanted and not pieces},
    )


def _other_cores(asked: str, data: Mapping[str, Any]) -> bool:
    """Whether the runs had other cores than those asked for, or others at the end than at the start."""
    before, after = (int(data[key], 16) for key in ("cores_before", "cores"))
    return before != after or bool(asked) and after != int(asked, 16)


def outcome(
    job: Job,
    data: Mapping[str, Any],
    profile: Mapping[str, Any] | None,
    *,
    command: str,
    log: str,
    output: bytes | None,
) -> Outcome:
    """What the runner's two lines of JSON say: that of the timed runs, and that of the runs looked at.

    Without the second nobody knows which kernels ran, and a flag says so; others, that there is no `output`, and that
    the cores were not those asked for.
    """
    seen = ran(job, profile) if profile else Ran(job.delegate)
    lost = {
        "profile_failed": profile is None,
        "answer_lost": output is None,
        "other_cores": _other_cores(job.affinity, data),
    }
    return Outcome(
        runtime=RUNTIME,
        delegate=seen.delegate,
        command=command,
        log=log,
        wall_ms=tuple(ns / 1e6 for ns in data["wall_ns"]),
        process_ms=tuple(ns / 1e6 for ns in data["process_ns"]),
        warmup_runs=int(data["warmup"]),
        cold=ColdStart(load_ms=data["load_ms"], compile_ms=data["compile_ms"], first_ms=data["first_ms"]),
        operators=operators(profile["events"], len(profile["wall_ns"])) if job.profile and profile else (),
        partitions=seen.partitions,
        delegated_nodes=seen.delegated_nodes,
        total_nodes=seen.total_nodes,
        peak_memory_mb=data["peak_memory_kb"] * 1024 / 1e6 if data["peak_memory_kb"] >= 0 else None,
        output=output,
        affinity=data["cores"],
        flags=seen.flags | {name: True for name, raised in lost.items() if raised},
    )
