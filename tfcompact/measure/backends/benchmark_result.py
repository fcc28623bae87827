"""What `benchmark_model` saves: its result file, a protocol buffer, as numbers.

The message is `BenchmarkResult` of `tflite/tools/benchmark/proto/benchmark_result.proto`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tfcompact.errors import UserError
from tfcompact.measure.backends.benchmark_log import MIB_IN_MB
from tfcompact.measure.backends.protocol_buffer import fields
from tfcompact.records.measurement import ColdStart, Summary


@dataclass(frozen=True)
class ResultFile:
    """`--result_file_path`: the message `BenchmarkResult`, in ms and MB of 10^6 bytes."""

    summary: Summary
    cold: ColdStart
    warmup_runs: int
    memory_mb: float | None


def read_result_file(content: bytes) -> ResultFile:
    """The result file's numbers. Raises `UserError` where it is not one, or is cut off."""
    try:
        parts = {number: value for number, value in fields(content) if isinstance(value, bytes)}
        latency, memory, misc = (dict(fields(parts.get(number, b""))) for number in (2, 3, 4))
    except (struct.error, IndexError, ValueError):
        raise UserError("benchmark_model's result file is damaged or of another kind; run it again") from None
    if 2 not in parts:
        raise UserError("benchmark_model's result file holds no times; run it again")

    def ms(field: int) -> float | None:
        value = latency.get(field)
        return float(value) if isinstance(value, float) else None

    def number(table: dict[int, int | float | bytes], field: int) -> float | None:
        value = table.get(field)
        return float(value) if isinstance(value, (int, float)) else None

    count, warmup = number(misc, 2), number(misc, 3)
    summary = Summary(int(count or 0), None, ms(2), ms(3), ms(1), ms(4), p5_ms=ms(6), p50_ms=ms(5), p95_ms=ms(7))
    peak = number(memory, 3)
    held = peak * MIB_IN_MB if peak else None
    return ResultFile(summary, ColdStart(None, ms(8), ms(9)), int(warmup or 0), held)
