"""What an Android device says of itself: its chip and system, and its state just before or after a run.

One call reads everything that a question needs. No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tfcompact.measure.android.adb import Result
from tfcompact.measure.android.android_output import (
    core_count,
    parse_battery,
    parse_cores,
    parse_properties,
    parse_screen,
    parse_setting,
    parse_thermal_headroom,
    parse_thermal_status,
)
from tfcompact.records.device import Device, DeviceState


class Asked(Protocol):
    """What is needed of a `Phone` here."""

    serial: str

    def ask(self, command: str, timeout_s: float = ...) -> Result:
        """Runs a command that only looks."""


@dataclass(frozen=True)
class Facts:
    """What does not change of a device. `max_khz` has one entry a core, 0 where the kernel does not tell."""

    device: Device
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


def facts_of(serial: str, properties: Mapping[str, str], cores: str) -> Facts:
    """The facts in a device's properties and in `parse_cores`' text.

    Its name is `android-`, the model and four hexadecimal digits of the serial number's hash: two phones of one model
    have two names, and the number itself is not in files that are given on. The number is the phone's own, the same
    by cable and by network, where it tells it; else `serial`, adb's. One that shares its number with another, or has
    none, is known by its port.
    """

    def first(*names: str) -> str:
        return next((properties[name] for name in names if properties.get(name)), "")

    model = first("ro.product.model", "ro.product.vendor.model", "ro.product.system.model")
    maker = first("ro.soc.manufacturer", "ro.product.manufacturer", "ro.product.brand")
    soc = first("ro.soc.model", "ro.board.platform", "ro.hardware")
    number = first("ro.serialno", "ro.boot.serialno") or serial
    if re.match(r"(usb|transport):", serial):
        number += serial
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
    return Facts(device, max_khz)


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


def clusters(max_khz: Sequence[int]) -> str:
    """The cores in words, `2 x 2.85 + 6 x 1.80 GHz`, fastest first; empty where the frequencies are not known."""
    known = sorted({khz for khz in max_khz if khz}, reverse=True)
    return " + ".join(f"{list(max_khz).count(khz)} x {khz / 1e6:.2f}" for khz in known) + " GHz" if known else ""


def _asked(phone: Asked, questions: Mapping[str, str]) -> dict[str, str]:
    """The answers to all questions, in one call; what a device does not know has an empty answer."""
    mark = "--- tfcompact asks: "
    line = "; ".join(f"echo; echo '{mark}{name}'; ( {command} ) 2>/dev/null" for name, command in questions.items())
    answers = dict.fromkeys(questions, "")
    for part in phone.ask(line).out.split(f"\n{mark}")[1:]:
        name, _, answer = part.partition("\n")
        answers[name.strip()] = answer.strip("\n")
    return answers
