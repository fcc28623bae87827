"""What could mislead about a run on a phone: waiting until it is cool before, and naming what was not right after.

Nothing is dropped for it: flags go into the row's `validity`, and only those that could be found out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfcompact.measure.android.phone_facts import Reading
from tfcompact.records.device import DeviceState

LOW_PERCENT = 20
"""Below this Android's battery saver may switch itself on, and some makers lower the frequencies."""
POLL_S = 5.0
NO_HEADROOM = 1.0
"""Android's thermal headroom at which it throttles severely."""


@dataclass(frozen=True)
class Cooled:
    """How a wait for cool-down ended: the last reading, the seconds it took, and whether the device is cool.

    That is None where it tells neither status nor temperature, and so cannot be waited for.
    """

    reading: Reading
    seconds: float
    cool: bool | None


def is_cool(state: DeviceState, celsius: float) -> bool | None:
    """Whether Android names no throttling, has headroom before it, and the battery is at most `celsius`.

    None where it tells nothing of all that.
    """
    known = (
        None if state.thermal_status is None else state.thermal_status == 0,
        None if state.thermal_headroom is None else state.thermal_headroom < NO_HEADROOM,
        None if state.battery_celsius is None else state.battery_celsius <= celsius,
    )
    told = [value for value in known if value is not None]
    return all(told) if told else None


def cool_down(
    read: Callable[[], Reading],
    *,
    seconds: float,
    celsius: float,
    waiting: Callable[[DeviceState], None] = lambda state: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], bool | None] = time.sleep,
) -> Cooled:
    """Waits until the device is cool, for at most so many seconds, and says how that ended.

    `read` asks the device; `waiting` is told once that it is not cool. The wait ends where `sleep` says True, as
    `threading.Event.wait` does when the event is set.
    """
    start = clock()
    told = False
    while True:
        reading = read()
        cool, waited = is_cool(reading.state, celsius), clock() - start
        if cool is not False or waited >= seconds:
            return Cooled(reading, waited, cool)
        if not told:
            waiting(reading.state)
            told = True
        if sleep(min(POLL_S, max(0.0, seconds - waited))):
            return Cooled(reading, waited, cool)


def flags(before: Reading, after: Reading, cool: bool | None) -> dict[str, bool]:
    """What could mislead, and whether it was so; a flag that cannot be judged is not there.

    `throttled`: a thermal status other than none before or after. `frequency_dropped`: a core was allowed less after
    than before. `frequency_scaled`: a governor other than performance,
    as on this computer. `charging`, `battery_saver`, `screen_on`, `airplane_mode_off`: at either end. `low_battery`:
    less than `LOW_PERCENT`. `not_cooled`: the wait before was not long enough.
    """
    ends = (before.state, after.state)
    found: dict[str, bool | None] = {
        "throttled": _any([None if s.thermal_status is None else s.thermal_status > 0 for s in ends]),
        "frequency_dropped": _dropped(before.caps_khz, after.caps_khz),
        "frequency_scaled": _any([_scaled(s) for s in ends]),
        "charging": _any([s.charging for s in ends]),
        "battery_saver": _any([s.battery_saver for s in ends]),
        "screen_on": _any([s.screen_on for s in ends]),
        "airplane_mode_off": _any([None if s.airplane_mode is None else not s.airplane_mode for s in ends]),
        "low_battery": _any([None if s.battery_percent is None else s.battery_percent < LOW_PERCENT for s in ends]),
        "not_cooled": None if cool is None else not cool,
    }
    return {name: value for name, value in found.items() if value is not None}


def _any(values: Sequence[bool | None]) -> bool | None:
    known = [value for value in values if value is not None]
    return any(known) if known else None


def _scaled(state: DeviceState) -> bool | None:
    known = [governor for governor in state.governors if governor]
    return any(governor != "performance" for governor in known) if known else None


def _dropped(before: Sequence[int], after: Sequence[int]) -> bool | None:
    pairs = [(then, now) for then, now in zip(before, after, strict=False) if then and now]
    return any(now < then for then, now in pairs) if pairs else None
