"""What Android's own programs print, taken apart: functions of text alone.

Each says which of Android's forms it knows, and gives None, or nothing, where the device did not say. No TensorFlow
here.
"""

from __future__ import annotations

import math
import re


def parse_properties(text: str) -> dict[str, str]:
    """The properties in `getprop`'s lines `[name]: [value]`; a value may go on over several lines."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]\s*$(?=\n\[|\n*\Z)", text, re.MULTILINE | re.DOTALL))


def core_count(text: str) -> int:
    """The number of cores in the kernel's list `present` (`0-7`, `0,2-3`), the first line; else of those named."""
    present = text.partition("\n")[0].strip()
    if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", present):
        return max(int(number) for number in re.findall(r"\d+", present)) + 1
    named = [int(number) for number in re.findall(r"^cpu(\d+)/", text, re.MULTILINE)]
    return max(named) + 1 if named else 1


def parse_cores(text: str, file: str) -> dict[int, str]:
    """What each core's cpufreq file of that name holds, by core: lines `cpu4/cpufreq/scaling_governor:schedutil`.

    A core that is switched off has no such file; a value that is not a number is left out where one is due.
    """
    found = re.findall(rf"^cpu(\d+)/cpufreq/{file}:\s*(\S+)\s*$", text, re.MULTILINE)
    return {int(core): value for core, value in found if value.isdigit() or file == "scaling_governor"}


def parse_thermal_status(text: str) -> int | None:
    """Android's thermal status, 0 to 6, of `dumpsys thermalservice` (Android 10 on).

    None where there is no such, and where somebody has set it by hand (`cmd thermalservice override-status`).
    """
    if re.search(r"^\s*IsStatusOverride:\s*true\s*$", text, re.MULTILINE):
        return None
    found = re.search(r"^\s*Thermal Status:\s*(\d+)\s*$", text, re.MULTILINE)
    return int(found[1]) if found and int(found[1]) <= 6 else None


def parse_thermal_headroom(text: str) -> float | None:
    """The thermal headroom now, 1.0 at severe throttling, of `dumpsys thermalservice`; None without thresholds.

    What Android's `getThermalHeadroom(0)` computes (AOSP, ThermalManagerService: `normalizeTemperature`): the hottest
    skin sensor's temperature, where 1.0 is its threshold for severe throttling and 0.0 is 30 degrees below.
    """
    current = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    current = current or text.partition("Cached temperatures:")[2].partition("HAL Ready")[0]
    degrees = r"(-?[\d.]+)"
    celsius = dict(
        (name, float(value))
        for value, name in re.findall(rf"Temperature\{{mValue={degrees}, mType=3, mName=([^,]+),", current)
    )
    severe = {}
    for name, thresholds in re.findall(
        r"TemperatureThreshold\{mType=3, mName=([^,]+), mHotThrottlingThresholds=\[([^\]]*)\]", text
    ):
        values = [float(value) for value in re.findall(r"-?[\d.]+|NaN", thresholds)]
        if len(values) > 3 and math.isfinite(values[3]):  # none, light, moderate, severe, ...
            severe[name] = values[3]
    rooms = [max(0.0, (celsius[name] - (severe[name] - 30.0)) / 30.0) for name in celsius.keys() & severe.keys()]
    return round(max(rooms), 4) if rooms else None


def parse_battery(text: str) -> tuple[int | None, float | None, bool | None]:
    """The battery's percent and degrees and whether it charges, of `dumpsys battery`.

    The status is Android's BatteryManager's: 2 charging, 3 discharging, 4 not charging, 5 full. Where a build does
    not give it (1 is unknown), what is powered tells. A device without a battery has no degrees, though it writes 0;
    one whose values were set by hand (`cmd battery set`, UPDATES STOPPED) tells nothing.
    """
    if "UPDATES STOPPED" in text:
        return None, None, None
    numbers = {
        name: int(value) for name, value in re.findall(r"^\s*([a-z]+):\s*(-?\d+)\s*$", text, re.MULTILINE | re.I)
    }
    level, scale = numbers.get("level"), numbers.get("scale", 100)
    percent = round(100 * level / scale) if level is not None and level >= 0 and scale > 0 else None
    absent = re.search(r"^\s*present:\s*false\s*$", text, re.MULTILINE) is not None
    tenths = None if absent else numbers.get("temperature")
    percent = None if absent else percent
    status = numbers.get("status", 1)
    powered = re.findall(r"^\s*\w+ powered:\s*(true|false)\s*$", text, re.MULTILINE)
    charging = ("true" in powered) if powered else None
    return percent, None if tenths is None else tenths / 10, charging if status == 1 else status == 2


def parse_screen(text: str) -> bool | None:
    """Whether the screen is on, of `dumpsys power`.

    Most builds write `Display Power: state=ON`; some write an object's name there, and what is left then is whether
    the device is awake: `mWakefulness=Awake`, Dozing, Asleep or Dreaming. Android 4 wrote `mScreenOn=true`.
    """
    state = re.search(r"^\s*Display Power: state=([A-Z_]+)", text, re.MULTILINE)
    if state:
        return state[1] in ("ON", "VR")
    awake = re.search(r"^\s*mWakefulness=([A-Za-z]+)", text, re.MULTILINE)
    if awake:
        return awake[1] in ("Awake", "Dreaming")
    old = re.search(r"\bmScreenOn=(true|false)", text)
    return old[1] == "true" if old else None


def parse_setting(text: str) -> bool | None:
    """Whether a switch of `settings get global` is on: 1 or 0 there; None where it was never set."""
    return {"1": True, "0": False, "true": True, "false": False}.get(text.strip())
