"""Where a measurement was taken, and the state that the device was in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfcompact.records.record import Record

DeviceKind = Literal["host", "android", "emulated"]
"""This computer, a phone, or a processor that is emulated: it has no latency."""


@dataclass(frozen=True)
class Device(Record):
    """Where a measurement was taken.

    `name` is fit for a file name. `soc` and `fingerprint` are an Android device's own words for its chip and its
    system's build; they are empty elsewhere.
    """

    kind: DeviceKind
    name: str
    processor: str
    cores: int
    system: str
    soc: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class DeviceState(Record):
    """What an Android device said of itself just before or after its runs; None, or nothing, where it did not say.

    `governors` and `frequencies_khz` have one entry a core. `thermal_status` is Android's, 0 (none) to 6 (shutdown);
    `thermal_headroom` its forecast, where 1.0 is severe throttling.
    """

    governors: tuple[str, ...] = ()
    frequencies_khz: tuple[int, ...] = ()
    thermal_status: int | None = None
    thermal_headroom: float | None = None
    battery_percent: int | None = None
    battery_celsius: float | None = None
    charging: bool | None = None
    battery_saver: bool | None = None
    screen_on: bool | None = None
    airplane_mode: bool | None = None
