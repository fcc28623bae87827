"""What `benchmark_model` says, as numbers: its log in all dialects, and its tables of operators.

Everything here is a function of text. The formats are those of TensorFlow Lite's and LiteRT's sources,
`tflite/tools/benchmark/benchmark_model.cc`, `tflite/profiling/profile_summary_formatter.cc` and
`litert/tools/benchmark_litert_model.h`. Lines may be bare, begin with `INFO: `, with the place in the sources that
wrote them, or with what logcat puts before a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tfcompact.errors import UserError
from tfcompact.records.measurement import ColdStart, OperatorTime, Summary

MIB_IN_MB = 1024 * 1024 / 1e6
"""The tool divides kilobytes by 1024 and writes MB; a `Measurement`'s MB are 10^6 bytes."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\^\[\[[0-9;]*[A-Za-z]")
_TIME = r"\d\d-\d\d \d\d:\d\d:\d\d\.\d+"
_LOGCAT = tuple(
    re.compile(form)
    for form in (
        rf"^{_TIME}\s+(?P<pid>\d+)\s+\d+\s+[VDIWEF]\s+(?P<tag>[^:]*?)\s*: ",  # -v threadtime
        r"^[VDIWEF]/(?P<tag>[^(]*?)\s*\(\s*(?P<pid>\d+)\): ",  # -v brief
        rf"^\d{{4}}-{_TIME}\s+(?P<pid>\d+)-\d+\s+(?P<tag>\S+)\s+\S+\s+[VDIWEF]\s+",  # Android Studio
        rf"^\d{{4}}-{_TIME}\s+(?P<pid>\d+)-\d+/\S+ [VDIWEF]/(?P<tag>[^:]+): ",  # Android Studio before 2022
    )
)
_TAGS = ("tflite", "litert")
"""The names under which the tool and the runtime write to Android's log."""
_PREFIXES = re.compile(
    r"^(?:[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [^\]]*\] "  # Abseil
    r"|(?:VERBOSE|INFO|WARNING|ERROR|DEBUG): "
    r"|\[[\w./-]+:\d+\] )"
)
_SUMMARY = re.compile(rf"^count=(\d+)((?: \w+={_NUMBER})+)(\(all same\))?")
_BEGINS = "Running benchmark for at least"
_FIELD = re.compile(rf"(\w+)=({_NUMBER})")
_BLOCK = re.compile(rf"^([\w ]+(?:\(\w+\))?):\s+({_NUMBER})(?: (ms|MB|MB/s))?(?: \((\d+) runs\))?$")
_WRONG = re.compile(
    r"error|fail|cannot|can't|invalid|not found|denied|abort|no shader|unsupported|unresolved|killed", re.IGNORECASE
)
_FOLLOWS = re.compile(
    r"^Benchmarking failed|Restored original execution plan|failed to prepare|delegate is not initialized"
)
"""What is said because something else was wrong before."""
_REFUSED = re.compile(r"Failed to apply \S+ delegate")
_NEXT = r"[,\s]\s*"


def _row(numbers_before_mean: int) -> re.Pattern[str]:
    """A line of a table of operators, found by its numbers: type and name may hold commas and spaces themselves."""
    before, middle = (_NUMBER + _NEXT) * numbers_before_mean, _NEXT.join((rf"{_NUMBER}%", rf"{_NUMBER}%", _NUMBER))
    return re.compile(
        rf"^\s*(?P<type>\S.*?){_NEXT}{before}(?P<mean>{_NUMBER}){_NEXT}{middle}{_NEXT}\d+(?:{_NEXT}(?P<name>.*))?$"
    )


_ROWS = {False: _row(1), True: _row(2)}  # without and with the column [start] of older builds


@dataclass(frozen=True)
class Log:
    """One run of the tool. Memory is the peak that it watched for, in MB of 10^6 bytes."""

    summary: Summary
    cold: ColdStart | None
    warmup_runs: int
    memory_mb: float | None


def lines(text: str, pid: int | None = None) -> Iterator[str]:
    """The log line by line, without stray escapes and without what a logger puts before a message.

    Of Android's log, only what the tool and the runtime wrote, and of the process `pid` where that is given: other
    apps have a runtime, too.
    """
    for raw in text.splitlines():
        line = _ESCAPES.sub("", raw).rstrip()
        if match := next(filter(None, (form.match(line) for form in _LOGCAT)), None):
            if match["tag"].lower() not in _TAGS or pid not in (None, int(match["pid"])):
                continue
            line = line[match.end() :]
        while (shorter := _PREFIXES.sub("", line, count=1)) != line:
            line = shorter
        yield line


def read(text: str) -> Log:
    """The result of a run. Raises `UserError` that quotes the tool's own last words where there is none."""
    clean = list(lines(text))
    counted = [summary for line in clean if (summary := _counted(line)) is not None]
    block = _block(clean)
    if counted:
        summary = counted[-1]
        if _ended_early(clean):
            raise _no_result(clean)
        if summary.count < 1:
            raise _no_result(clean)
        warmup = counted[0].count if len(counted) > 1 else (block[1].warmup_runs if block else 0)
        cold = _footer(clean) or (block[1].cold if block else None)
        return Log(summary, cold, warmup, _memory(clean) or (block[1].memory_mb if block else None))
    if block is None or block[0] < 1:
        raise _no_result(clean)
    return block[1]


def operators(text: str) -> tuple[OperatorTime, ...]:
    """The operators of an inference in their order, from the table "Run Order" of the regular runs.

    Where a delegate tells of its own operators ("Delegate internal"), they stand in its place. Shares are of the sum
    of all times. Empty where the text has no such table.
    """
    own: list[OperatorTime] = []
    inner: list[OperatorTime] = []
    rows: list[OperatorTime] | None = None
    row = _ROWS[False]
    regular, inside = True, False  # old builds have no headings
    for line in lines(text):
        if "Profiling Info for Benchmark Initialization" in line:
            regular, rows = False, None
        elif "Profiling Info for Regular Benchmark Runs" in line:
            regular, inside, rows, own, inner = True, False, None, [], []
        elif line.startswith("Delegate internal"):
            inside, rows = True, None
        elif line.lstrip().startswith("====") or "Top by Computation Time" in line or "Summary by node type" in line:
            rows = (inner if inside else own) if regular and "Run Order" in line else None
        elif "node type" in line and "times called" in line:
            row = _ROWS["start" in line]
        elif rows is not None and (match := row.match(line)):
            rows.append(OperatorTime((match["name"] or "").strip(), match["type"], float(match["mean"]), 0.0))
    if inner:
        own = [operator for operator in own if "delegate" not in operator.type.lower()] + inner
    total = sum(operator.mean_ms for operator in own)
    return tuple(replace(operator, share=operator.mean_ms / total if total else 0.0) for operator in own)


def last_words(text: str) -> str:
    """The line that tells best why there is no result: the last with an error in it, or else the last at all.

    That a delegate was refused is less than why, and what follows from it is less than that.
    """
    clean = [line.strip() for line in lines(text) if line.strip()]
    wrong = [line for line in clean if _WRONG.search(line)]
    causes = [line for line in wrong if not _FOLLOWS.search(line)]
    reasons = [line for line in causes if not _REFUSED.search(line)]
    said = (reasons or causes or wrong or clean or ["nothing at all"])[-1]
    return said if len(said) <= 200 else said[:199] + "…"


def _ended_early(clean: list[str]) -> bool:
    """Whether runs were begun of which nothing was printed: what there is then is the warm-up's."""
    begun = [i for i, line in enumerate(clean) if _BEGINS in line]
    printed = [i for i, line in enumerate(clean) if _counted(line) is not None]
    return bool(begun and printed) and begun[-1] > printed[-1]


def _no_result(clean: list[str]) -> UserError:
    return UserError(f"benchmark_model gave no result; it said: {last_words(chr(10).join(clean))}")


def _counted(line: str) -> Summary | None:
    """A line `count=50 first=119614 … p95=116620`, in µs, as a summary in ms."""
    match = _SUMMARY.match(line.strip())
    if match is None:
        return None
    us = {name: float(value) / 1e3 for name, value in _FIELD.findall(match[2])}
    count = int(match[1])
    # A single run, or several that took the same, are printed without their own minimum, mean, …
    only = us.get("curr") if count == 1 or match[3] else None
    return Summary(
        count,
        us.get("first", only),
        us.get("min", only),
        us.get("max", only),
        us.get("avg", only),
        us.get("std", 0.0 if only is not None else None),
        p5_ms=us.get("p5", only),
        p50_ms=us.get("median", only),
        p95_ms=us.get("p95", only),
    )


def _footer(clean: list[str]) -> ColdStart | None:
    """`Inference timings in us: Init: …, First inference: …`, or the older line of averages that has no first one."""
    for line in reversed(clean):
        if "nference timings in us:" in line:
            pairs = re.findall(rf"([A-Z][\w ()]*|no stats): ({_NUMBER})", line.partition("in us:")[2])
            us = {name.strip(): float(value) for name, value in pairs}
            if "Init" in us:
                first = us.get("First inference")
                return ColdStart(None, us["Init"] / 1e3, None if first is None else first / 1e3)
    return None


def _memory(clean: list[str]) -> float | None:
    """The peak that was watched for, in MB of 10^6 bytes. What the process grew by is another quantity."""
    watched = None
    for line in clean:
        if match := re.search(rf"via periodic monitoring[^:]*: ({_NUMBER})|peak_mem_mb[=:] ?({_NUMBER})", line):
            watched = float(match[1] or match[2])
    return watched * MIB_IN_MB if watched else None


def _block(clean: list[str]) -> tuple[int, Log] | None:
    """LiteRT's block `BENCHMARK RESULTS`, in ms, with the number of runs in it; of several, the last."""
    starts = [i for i, line in enumerate(clean) if "BENCHMARK RESULTS" in line]
    if not starts:
        return None
    values: dict[str, float] = {}
    runs: dict[str, int] = {}
    for line in clean[starts[-1] + 1 :]:
        if line.strip() and not line.strip("= "):
            break
        if match := _BLOCK.match(line.strip()):
            values[match[1]] = float(match[2])
            if match[4]:
                runs[match[1]] = int(match[4])
    count = runs.get("Inference (avg)", 0)
    summary = Summary(
        count,
        None,
        values.get("Inference (min)"),
        values.get("Inference (max)"),
        values.get("Inference (avg)"),
        values.get("Inference (std)"),
    )
    cold = ColdStart(None, values.get("Model initialization"), values.get("Warmup (first)"))
    held = values.get("Peak memory")
    return count, Log(summary, cold, runs.get("Warmup (avg)", 0), held * MIB_IN_MB if held else None)
