"""What an Android device says of itself: its chip and system, and its state just before or after a run.

One call reads everything that a question needs; what it says is taken apart by functions of text alone. Each says
which of Android's forms it knows, and gives None, or nothing, where the device did not say. No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tfcompact.errors import UserError
from tfcompact.measure.android.adb import AdbError, Result
from tfcompact.records.device import Device, DeviceState

AFFINITIES = ("big", "little", "all")


class Asked(Protocol):
    """What is needed of `adb.Phone` here."""

    serial: str

    def ask(self, command: str, timeout_s: float = ...) -> Result:
        """Runs a command that only looks."""


One = TypeVar("One", bound=Asked)


@dataclass(frozen=True)
class Facts:
    """What does not change of a device. `max_khz` has one entry a core, 0 where the kernel does not tell."""

    device: Device
    abi: str
    sdk: int | None
    max_khz: tuple[int, ...]

    @property
    def all_cores(self) -> int:
        """The mask of all cores."""
        return (1 << self.device.cores) - 1

    @property
    def tells_speeds(self) -> bool:
        """Whether it is known of every core how fast it is."""
        return bool(self.max_khz) and all(self.max_khz)


@dataclass(frozen=True)
class Reading:
    """The state of a device at a time. `caps_khz`: the highest frequency each core was allowed then, 0 if unknown."""

    state: DeviceState
    caps_khz: tuple[int, ...] = ()


_CORES = (
    "cd /sys/devices/system/cpu && cat present; grep -sH '' cpu[0-9]*/cpufreq/cpuinfo_max_freq "
    "cpu[0-9]*/cpufreq/scaling_max_freq cpu[0-9]*/cpufreq/scaling_cur_freq cpu[0-9]*/cpufreq/scaling_governor"
)
_FACTS = {"properties": "getprop", "cores": _CORES}
_STATE = {
    "cores": _CORES,
    "thermal": "dumpsys thermalservice",
    "battery": "dumpsys battery",
    "power": "dumpsys power",
    "airplane": "settings get global airplane_mode_on",
    "saver": "settings get global low_power",
}


def facts(phone: Asked) -> Facts:
    """The device's chip, system and cores. Raises `adb.AdbError` where it cannot be asked."""
    said = _asked(phone, _FACTS)
    return facts_of(phone.serial, parse_properties(said["properties"]), said["cores"])


def read(phone: Asked) -> Reading:
    """The device's state now. Raises `adb.AdbError` where it cannot be asked."""
    return reading_of(_asked(phone, _STATE))


def distinct(phones: Sequence[One], tell: Callable[[str], None] = lambda line: None) -> tuple[One, ...]:
    """The phones, each once: one that adb lists by cable and by network is taken by cable; `tell` hears of the other.

    One that cannot be asked now is kept: what it is used for says why.
    """
    if len(phones) < 2:
        return tuple(phones)
    taken: dict[str, One] = {}
    for one in sorted(phones, key=lambda one: _by_network(one.serial)):
        try:
            name = facts(one).device.name
        except AdbError:
            name = one.serial
        if name in taken:
            tell(f"left out: {one.serial}, since it is {name} too, which is taken as {taken[name].serial}")
        else:
            taken[name] = one
    return tuple(one for one in phones if one in taken.values())


def _by_network(serial: str) -> bool:
    """Whether it is an address, or a name on the network: `adb-NUMBER-abc._adb-tls-connect._tcp`."""
    return re.search(r":\d+$|\._adb[a-z-]*\._tcp\.?$", serial) is not None


def facts_of(serial: str, properties: Mapping[str, str], cores: str) -> Facts:
    """The facts in a device's properties and in `parse_cores`' text.

    Its name is `android-`, the model and four hexadecimal digits of the serial number's hash: two phones of one model
    have two names, and the number itself is not in files that are given on. The number is the phone's own, the same
    by cable and by network, where it tells it; else `serial`, adb's.
    """

    def first(*names: str) -> str:
        return next((properties[name] for name in names if properties.get(name)), "")

    model = first("ro.product.model", "ro.product.vendor.model", "ro.product.system.model")
    maker = first("ro.soc.manufacturer", "ro.product.manufacturer", "ro.product.brand")
    soc = first("ro.soc.model", "ro.board.platform", "ro.hardware")
    number = first("ro.serialno", "ro.boot.serialno") or serial
    digits = hashlib.sha256(number.encode()).hexdigest()[:4]
    words = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "unknown"
    frequencies = parse_cores(cores, "cpuinfo_max_freq")
    count = core_count(cores)
    max_khz = tuple(int(frequencies.get(core, 0)) for core in range(count))
    release, sdk = first("ro.build.version.release"), first("ro.build.version.sdk")
    abi = first("ro.product.cpu.abi", "ro.product.cpu.abilist").partition(",")[0]
    speeds = clusters(max_khz)
    device = Device(
        kind="android",
        name=f"android-{words}-{digits}",
        processor=" ".join(
            filter(None, (maker if maker.lower() not in soc.lower() else "", soc, f"({speeds})" if speeds else ""))
        ),
        cores=count,
        system=", ".join(filter(None, (f"Android {release} (SDK {sdk})" if release else "Android", abi))),
        soc=soc,
        fingerprint=first("ro.build.fingerprint", "ro.system.build.fingerprint", "ro.vendor.build.fingerprint"),
    )
    return Facts(device, abi, int(sdk) if sdk.isdigit() else None, max_khz)


def reading_of(said: Mapping[str, str]) -> Reading:
    """The reading in the answers to the six questions: cores, thermal, battery, power, airplane, saver."""
    cores = said["cores"]
    current, caps = parse_cores(cores, "scaling_cur_freq"), parse_cores(cores, "scaling_max_freq")
    governors = parse_cores(cores, "scaling_governor")
    percent, celsius, charging = parse_battery(said["battery"])
    state = DeviceState(
        governors=tuple(governors.get(core, "") for core in range(core_count(cores))) if governors else (),
        frequencies_khz=tuple(int(current.get(core, 0)) for core in range(core_count(cores))) if current else (),
        thermal_status=parse_thermal_status(said["thermal"]),
        thermal_headroom=parse_thermal_headroom(said["thermal"]),
        battery_percent=percent,
        battery_celsius=celsius,
        charging=charging,
        battery_saver=parse_setting(said["saver"]),
        screen_on=parse_screen(said["power"]),
        airplane_mode=parse_setting(said["airplane"]),
    )
    return Reading(state, tuple(int(caps.get(core, 0)) for core in range(core_count(cores))) if caps else ())


def parse_properties(text: str) -> dict[str, str]:
    """`getprop`'s lines `[name]: [value]`; a value may go on over several lines."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]\s*$(?=\n\[|\n*\Z)", text, re.MULTILINE | re.DOTALL))


def core_count(text: str) -> int:
    """The number of cores in the kernel's list `present` (`0-7`, `0,2-3`), the first line; else of those named."""
    present = text.partition("\n")[0].strip()
    if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", present):
        return max(int(number) for number in re.findall(r"\d+", present)) + 1
    named = [int(number) for number in re.findall(r"^cpu(\d+)/", text, re.MULTILINE)]
    return max(named) + 1 if named else 1


def parse_cores(text: str, file: str) -> dict[int, str]:
    """By core, what its cpufreq file of that name holds: lines `cpu4/cpufreq/scaling_governor:schedutil`.

    A core that is switched off has no such file; a value that is not a number is left out where one is due.
    """
    found = re.findall(rf"^cpu(\d+)/cpufreq/{file}:\s*(\S+)\s*$", text, re.MULTILINE)
    return {int(core): value for core, value in found if value.isdigit() or file == "scaling_governor"}


def parse_thermal_status(text: str) -> int | None:
    """Android's thermal status, 0 to 6, of `dumpsys thermalservice` (Android 10 on). None where there is no such."""
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
    """Percent, degrees and whether it charges, of `dumpsys battery`.

    The status is Android's BatteryManager's: 2 charging, 3 discharging, 4 not charging, 5 full. Where a build does
    not give it (1 is unknown), what is powered tells.
    """
    numbers = {
        name: int(value) for name, value in re.findall(r"^\s*([a-z]+):\s*(-?\d+)\s*$", text, re.MULTILINE | re.I)
    }
    level, scale = numbers.get("level"), numbers.get("scale", 100)
    percent = round(100 * level / scale) if level is not None and level >= 0 and scale > 0 else None
    tenths = numbers.get("temperature")
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
    """A switch of `settings get global`: 1 or 0; `null` where it was never set."""
    return {"1": True, "0": False, "true": True, "false": False}.get(text.strip())


def clusters(max_khz: Sequence[int]) -> str:
    """`2 x 2.85 + 6 x 1.80 GHz`, fastest first; empty where the frequencies are not known."""
    known = sorted({khz for khz in max_khz if khz}, reverse=True)
    return " + ".join(f"{list(max_khz).count(khz)} x {khz / 1e6:.2f}" for khz in known) + " GHz" if known else ""


def pinning(wanted: str | None, facts: Facts, tell: Callable[[str], None] = lambda line: None) -> tuple[str, bool]:
    """The mask of `affinity`, and whether there is none because nobody chose and the device does not help to.

    Without a wish (None) it is that of `big`; where the device does not tell how fast its cores are, runs are not
    pinned, which `tell` hears. Raises `UserError` as `affinity` does, for a wish that cannot be met.
    """
    if wanted is None and not facts.tells_speeds:
        tell(
            f"{facts.device.name} does not tell how fast its cores are, so its runs are not pinned to the fast ones; "
            "a mask as --affinity f0 does that"
        )
        return "", True
    return affinity(wanted or "big", facts), False


def affinity(wanted: str, facts: Facts) -> str:
    """The mask of cores in hexadecimal, as `taskset` takes it, or empty for no pinning.

    `wanted` is `big` (all cores but those with the lowest maximum frequency), `little` (those), `all` (no pinning) or
    a mask itself. Where all cores are alike, `big` and `little` are no pinning. Raises `UserError` where frequencies
    are needed and not known, and for a mask of cores that the device does not have.
    """
    if wanted == "all":
        return ""
    if wanted in ("big", "little"):
        if not facts.tells_speeds:
            raise UserError(
                f"{facts.device.name} does not tell how fast its cores are; give --affinity all, or a mask as f0"
            )
        lowest = min(facts.max_khz)
        if max(facts.max_khz) == lowest:
            return ""
        chosen = [core for core, khz in enumerate(facts.max_khz) if (khz > lowest) == (wanted == "big")]
        return f"{sum(1 << core for core in chosen):x}"
    mask = parse_mask(wanted)
    if mask & ~facts.all_cores:
        raise UserError(
            f"affinity {wanted} has cores that {facts.device.name} lacks; its {facts.device.cores} are "
            f"{facts.all_cores:x}"
        )
    return f"{mask:x}"


def parse_mask(text: str) -> int:
    """The mask of cores that a hexadecimal number says. Raises `UserError` for anything else, and for none."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", text) or int(text, 16) == 0:
        raise UserError(f"affinity must be {', '.join(AFFINITIES)} or a mask of cores as f0, not {text!r}")
    return int(text, 16)


def _asked(phone: Asked, questions: Mapping[str, str]) -> dict[str, str]:
    """The answers to all questions, in one call; what a device does not know has an empty answer."""
    mark = "--- tfcompact asks: "
    line = "; ".join(f"echo; echo '{mark}{name}'; ( {command} ) 2>/dev/null" for name, command in questions.items())
    answers = dict.fromkeys(questions, "")
    for part in phone.ask(line).out.split(f"\n{mark}")[1:]:
        name, _, answer = part.partition("\n")
        answers[name.strip()] = answer.strip("\n")
    return answers
