"""The computer that tfcompact runs on, as a device, and what disturbs measurements on it."""

from __future__ import annotations

import functools
import os
import platform
import re
import time
from pathlib import Path

import psutil

from tfcompact.records.device import Device


@functools.cache
def this_device() -> Device:
    """This machine. Its name is fit for a file name: `host-` and the processor's, in lower case."""
    processor = _processor()
    words = re.sub(r"\((r|tm)\)|@.*|\b(cpu|processor|\d+-core)\b", " ", processor.lower())
    name = re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "unknown"
    return Device("host", f"host-{name}", processor, os.cpu_count() or 1, platform.platform())


def flags(threads: int, others_cores: float) -> dict[str, bool]:
    """What of this computer could mislead a reader of a row with that many threads, and whether it was so.

    `others_cores` is how many cores were busy with other work.
    """
    cores = this_device().cores
    return {
        "others_running": others_cores > 0.25 * cores,
        "threads_exceed_cores": threads > cores,
        "frequency_scaled": _governor() not in (None, "performance"),
        "virtual_machine": "hypervisor" in _cpuinfo("flags").split(),
    }


class OtherWork:
    """How many cores were busy on average with anything but this process since this was made.

    The load average would answer for the minutes before, which in `make train` are our own training.
    """

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float:
        """How many cores others kept busy since then."""
        wall, busy, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return max(0.0, (busy - own) / wall)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # On Linux guest time is also in user time: counted once.
        counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return time.perf_counter(), counted - idle, time.process_time()


def _processor() -> str:
    return _cpuinfo("model name") or _cpuinfo("Hardware") or platform.processor() or platform.machine()


@functools.cache
def _cpuinfo(name: str) -> str:
    """The first line of that name in `/proc/cpuinfo`, or an empty string."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    return next(
        (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name), ""
    )


def _governor() -> str | None:
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return file.read_text().strip() if file.exists() else None
