"""What a phone says of itself is read in the forms of several Androids, and what it does not say stays unknown.

The texts are written in the forms of Android 8 (no thermal service, Qualcomm), 10 (thermal HAL 1.1), 12 (Samsung, no
thresholds) and 15 (Pixel); the figures in them are invented.
"""

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from android.standin import StandIn

from tfcompact.errors import UserError
from tfcompact.measure.android import adb, affinity, android_output, connected_phones, guards, phone_facts
from tfcompact.measure.android.phone import Phone
from tfcompact.records.device import DeviceState


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.setattr("tfcompact.measure.android.phone.PAUSE_S", 0.0)


PIXEL = """\
[dalvik.vm.heapsize]: [512m]
[persist.sys.note]: [two
lines, and [brackets]: in them]
[ro.build.fingerprint]: [google/oriole/oriole:15/AP3A.241005.015/12366759:user/release-keys]
[ro.build.version.release]: [15]
[ro.build.version.sdk]: [35]
[ro.board.platform]: [gs101]
[ro.hardware]: [oriole]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 6]
[ro.serialno]: [18131FDF6003JT]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor]
"""
OLD = """\
[ro.board.platform]: [msm8998]
[ro.build.fingerprint]: []
[ro.build.version.release]: [8.1.0]
[ro.build.version.sdk]: [27]
[ro.hardware]: [qcom]
[ro.product.brand]: [OnePlus]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.model]: [ONEPLUS A5000]
[ro.system.build.fingerprint]: [OnePlus/OnePlus5/OnePlus5:8.1.0/OPM1.171019.011/1712131220:user/release-keys]
"""


def cores(present: str, *rows: tuple[int, int, int, int, str]) -> str:
    """The text of `/sys`: for each core its number, hardware's, allowed and present frequency in kHz, governor."""
    names = ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq", "scaling_governor")
    lines = [
        f"cpu{core}/cpufreq/{name}:{value}"
        for name, k in zip(names, itertools.count(1), strict=False)
        for core, value in ((row[0], row[k]) for row in rows)
    ]
    return "\n".join([present, *lines])


TENSOR = cores(
    "0-7",
    *((core, 1_803_000, 1_803_000, 738_000, "sched_pixel") for core in range(4)),
    *((core, 2_253_000, 2_253_000, 910_000, "sched_pixel") for core in (4, 5)),
    *((core, 2_802_000, 2_802_000, 1_426_000, "sched_pixel") for core in (6, 7)),
)

THERMAL_10 = """\
IsStatusOverride: false
ThermalEventListeners:
	callbacks: 1
ThermalStatusListeners:
	callbacks: 2
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=30.1, mType=3, mName=skin, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL 1.1 connected: yes
Current temperatures from HAL:
	Temperature{mValue=41.0, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=30.1, mType=3, mName=skin, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=0, mName=fan}
"""
THERMAL_12_SAMSUNG = THERMAL_10.replace("HAL 1.1", "HAL 2.0").replace("Status: 0\n", "Status: 2\n") + (
    "Temperature static thresholds from HAL:\n"
)
THERMAL_15 = """\
IsStatusOverride: false
Thermal Status: 1
Cached temperatures:
	Temperature{mValue=99.0, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 2  connected: yes
Current temperatures from HAL:
	Temperature{mValue=67.5, mType=0, mName=BIG, mStatus=0}
	Temperature{mValue=40.0, mType=3, mName=VIRTUAL-SKIN, mStatus=1}
	Temperature{mValue=35.5, mType=3, mName=VIRTUAL-SKIN-HINT, mStatus=0}
	Temperature{mValue=33.0, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=3, mType=2, mName=thermal-cpufreq-0}
Temperature static thresholds from HAL:
	TemperatureThreshold{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds=[NaN, 39.0, 43.0, 46.0, 52.0, 56.0, 65.0], mColdThrottlingThresholds=[NaN, NaN, NaN, NaN, NaN, NaN, NaN]}
	TemperatureThreshold{mType=3, mName=VIRTUAL-SKIN-HINT, mHotThrottlingThresholds=[NaN, NaN, NaN, NaN, NaN, NaN, NaN], mColdThrottlingThresholds=[NaN, NaN, NaN, NaN, NaN, NaN, NaN]}
	TemperatureThreshold{mType=0, mName=BIG, mHotThrottlingThresholds=[NaN, NaN, NaN, 95.0, NaN, NaN, 115.0], mColdThrottlingThresholds=[NaN, NaN, NaN, NaN, NaN, NaN, NaN]}
Temperature headroom thresholds:
[NaN, 0.7666667, 0.9, 1.0, 1.2, 1.3333334, 1.6333333]
"""  # noqa: E501

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3519000
  status: {status}
  health: 2
  present: true
  level: {level}
  scale: {scale}
  voltage: 4144
  temperature: {tenths}
  technology: Li-ion
"""
POWER_8 = "Power Manager State:\n  Dirty state: 0x0\n  mWakefulness=Asleep\n\nDisplay Power: state=OFF\n"
POWER_15 = """\
Power Manager State:
  mWakefulness=Awake
  mIsPowered=true
  mBatteryLevel=82
Display Power: com.android.server.power.PowerManagerService$1@ec9ada9
"""


def test_the_facts_of_a_phone() -> None:
    found = phone_facts.facts_of("192.168.1.7:41321", android_output.parse_properties(PIXEL), TENSOR)
    assert found.device.to_json() == {
        "kind": "android",
        "name": "android-pixel-6-4d0e",
        "processor": "Google Tensor (2 x 2.80 + 2 x 2.25 + 4 x 1.80 GHz)",
        "cores": 8,
        "system": "Android 15 (SDK 35), arm64-v8a",
        "soc": "Tensor",
        "fingerprint": "google/oriole/oriole:15/AP3A.241005.015/12366759:user/release-keys",
    }
    assert (found.max_khz[3:5], found.all_cores) == ((1803000, 2253000), 0xFF)


def test_its_name_does_not_depend_on_cable_or_network_and_tells_two_phones_apart() -> None:
    properties = android_output.parse_properties(PIXEL)
    by_cable = phone_facts.facts_of("18131FDF6003JT", properties, TENSOR).device.name
    assert by_cable == phone_facts.facts_of("192.168.1.7:41321", properties, TENSOR).device.name
    other = phone_facts.facts_of("x", {**properties, "ro.serialno": "18131FDF6003JU"}, TENSOR).device.name
    assert other != by_cable
    nameless = {"ro.product.model": "小米 Mi/9 (A)"}
    assert phone_facts.facts_of("a", nameless, "").device.name != phone_facts.facts_of("b", nameless, "").device.name
    assert phone_facts.facts_of("a", nameless, "").device.name.startswith("android-mi-9-a-")


def test_an_older_phone_says_less() -> None:
    text = cores("0-7", *((core, 1_900_800, 1_900_800, 300_000, "interactive") for core in range(4)))
    found = phone_facts.facts_of("ce12", android_output.parse_properties(OLD), text)
    assert found.device.processor == "OnePlus msm8998 (4 x 1.90 GHz)"
    assert found.device.fingerprint.startswith("OnePlus/OnePlus5")
    assert (found.device.soc, found.device.cores) == ("msm8998", 8)
    assert found.max_khz == (1_900_800,) * 4 + (0,) * 4, "cores that are switched off have no frequency"
    empty = phone_facts.facts_of("s", {}, "")
    assert (empty.device.processor, empty.device.system, empty.device.cores) == ("", "Android", 1)


def test_properties_of_several_lines() -> None:
    properties = android_output.parse_properties(PIXEL)
    assert properties["persist.sys.note"] == "two\nlines, and [brackets]: in them"
    assert properties["ro.build.version.sdk"] == "35"
    assert len(properties) == 14


@pytest.mark.parametrize(
    ("text", "count"),
    [("0-7\n", 8), ("0\n", 1), ("0-3,6-7\n", 8), ("\ncpu0/cpufreq/x:1\ncpu5/cpufreq/x:1\n", 6), ("", 1)],
)
def test_cores_are_counted(text: str, count: int) -> None:
    assert android_output.core_count(text) == count


@pytest.mark.parametrize(
    ("text", "status", "headroom"),
    [
        (THERMAL_10, 0, None),
        (THERMAL_12_SAMSUNG, 2, None),
        (THERMAL_15, 1, 0.8),  # (40 - (46 - 30)) / 30; the other skin sensor has no threshold
        (THERMAL_15.replace("mValue=40.0", "mValue=10.0"), 1, 0.0),
        (THERMAL_15.replace("Thermal Status: 1", "Thermal Status: 9"), None, 0.8),
        (f"IsStatusOverride: true\n{THERMAL_15}".replace("IsStatusOverride: false\n", ""), None, 0.8),
        ("Can't find service: thermalservice\n", None, None),
        ("", None, None),
    ],
)
def test_the_thermal_service(text: str, status: int | None, headroom: float | None) -> None:
    assert android_output.parse_thermal_status(text) == status
    assert android_output.parse_thermal_headroom(text) == headroom


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BATTERY.format(status=2, level=82, scale=100, tenths=274), (82, 27.4, True)),
        (BATTERY.format(status=3, level=100, scale=200, tenths=-55), (50, -5.5, False)),
        (BATTERY.format(status=5, level=100, scale=100, tenths=300), (100, 30.0, False)),
        (BATTERY.format(status=1, level=7, scale=100, tenths=300), (7, 30.0, True)),  # unknown, but it is powered
        ("  level: -1\n  scale: 100\n", (None, None, None)),  # a device without a battery
        ("  present: false\n  level: 0\n  scale: 100\n  temperature: 0\n  AC powered: true\n", (None, None, True)),
        (
            "  (UPDATES STOPPED -- use 'reset' to restart)\n"
            + BATTERY.format(status=2, level=82, scale=100, tenths=274),
            (None, None, None),
        ),
        ("", (None, None, None)),
    ],
)
def test_the_battery(text: str, expected: tuple) -> None:
    assert android_output.parse_battery(text) == expected


@pytest.mark.parametrize(
    ("text", "on"),
    [
        (POWER_8, False),
        (POWER_8.replace("OFF", "ON"), True),
        (POWER_8.replace("OFF", "DOZE_SUSPEND"), False),
        (POWER_15, True),
        (POWER_15.replace("Awake", "Dozing"), False),
        ("  mScreenOn=true\n", True),
        ("", None),
    ],
)
def test_the_screen(text: str, on: bool | None) -> None:
    assert android_output.parse_screen(text) is on


def test_switches() -> None:
    assert [android_output.parse_setting(text) for text in ("1\n", "0\n", "null\n", "", "Security exception")] == [
        True, False, None, None, None
    ]  # fmt: skip


def answers(**others: str) -> dict[str, str]:
    return dict.fromkeys(("cores", "thermal", "battery", "power", "airplane", "saver"), "") | others


def test_a_reading_has_what_was_said_and_nothing_else() -> None:
    battery = BATTERY.format(status=3, level=82, scale=100, tenths=274)
    found = phone_facts.reading_of(
        answers(cores=TENSOR, thermal=THERMAL_15, battery=battery, power=POWER_15, airplane="1", saver="0")
    )
    assert found.state == DeviceState(
        governors=("sched_pixel",) * 8,
        frequencies_khz=(738_000,) * 4 + (910_000,) * 2 + (1_426_000,) * 2,
        thermal_status=1,
        thermal_headroom=0.8,
        battery_percent=82,
        battery_celsius=27.4,
        charging=False,
        battery_saver=False,
        screen_on=True,
        airplane_mode=True,
    )
    assert found.caps_khz[-1] == 2_802_000
    assert phone_facts.reading_of(answers()) == phone_facts.Reading(DeviceState())


def test_one_call_asks_all_and_keeps_the_answers_apart(tmp_path) -> None:
    standin = StandIn(tmp_path / "phone")
    (one,) = connected_phones.phones(adb.Adb(standin.client))
    before = len(standin.calls("shell"))
    reading = phone_facts.read(one)
    assert len(standin.calls("shell")) == before + 1
    assert (reading.state.thermal_status, reading.state.battery_percent, reading.state.battery_saver) == (0, 82, None)
    assert reading.caps_khz == (1_803_000, 2_850_000)
    assert phone_facts.facts(one).device.processor == "tfcompact Loop 2 (1 x 2.85 + 1 x 1.80 GHz)"


def a_phone(*max_khz: int) -> phone_facts.Facts:
    return phone_facts.Facts(SimpleNamespace(name="android-x-1234", cores=len(max_khz)), max_khz)


@pytest.mark.parametrize(
    ("wanted", "max_khz", "mask"),
    [
        ("big", (1800,) * 4 + (2250, 2250, 2800, 2800), "f0"),
        ("little", (1800,) * 4 + (2250, 2250, 2800, 2800), "f"),
        ("big", (2300, 2300, 1900, 1900), "3"),  # the fast ones first
        ("big", (2000,) * 8, ""),
        ("little", (2000,) * 8, ""),
        ("all", (1800, 2800), ""),
        ("all", (0, 0), ""),
        ("C0", (1800,) * 8, "c0"),
        ("0xf", (1800,) * 8, "f"),
    ],
)
def test_masks(wanted: str, max_khz: tuple[int, ...], mask: str) -> None:
    assert affinity.mask_of(wanted, a_phone(*max_khz)) == mask


def test_nobody_chose_and_the_phone_does_not_tell_its_fast_cores() -> None:
    told: list[str] = []
    assert affinity.pinning(None, a_phone(1800, 2800), told.append) == ("2", False)
    assert affinity.pinning("all", a_phone(1800, 0), told.append) == ("", False)
    assert told == []
    assert affinity.pinning(None, a_phone(1800, 0), told.append) == ("", True)
    (line,) = told
    assert "android-x-1234 does not tell how fast its cores are, so its runs are not pinned" in line
    for chosen in ("big", "little"):
        with pytest.raises(UserError, match="does not tell how fast its cores are; give --affinity all"):
            affinity.pinning(chosen, a_phone(1800, 0))


def listed(standin: StandIn, *serials: str, number: str = "18131FDF6003JT") -> tuple[Phone, ...]:
    """The phones of these serial numbers, which are one."""
    properties = standin.folder / "bin/getprop"
    properties.write_text(
        properties.read_text().replace("[ro.soc.model]", f"[ro.serialno]: [{number}]\n[ro.soc.model]")
    )
    standin.devices(*(f"{serial} device model:Loop_Device transport_id:1" for serial in serials))
    return connected_phones.phones(adb.Adb(standin.client))


@pytest.mark.parametrize("network", ["192.168.1.7:41321", "adb-18131F-aB (2)._adb-tls-connect._tcp"])
def test_one_phone_by_cable_and_by_network_is_one(tmp_path, network: str) -> None:
    told: list[str] = []
    phones = listed(StandIn(tmp_path / "phone"), network, "18131FDF6003JT", "10.0.0.7:5555")
    (one,) = connected_phones.distinct(phones, told.append)
    assert one.serial == "18131FDF6003JT"
    assert [line.partition(", since it is")[0] for line in told] == [
        f"left out: {network}",
        "left out: 10.0.0.7:5555",
    ]
    assert all(line.endswith("taken as 18131FDF6003JT") for line in told)


def test_two_phones_are_two_and_one_that_does_not_answer_is_kept(tmp_path) -> None:
    told: list[str] = []
    both = [*listed(StandIn(tmp_path / "a"), "A"), *listed(StandIn(tmp_path / "b"), "B", number="18131FDF6003JU")]
    assert connected_phones.distinct(both, told.append) == tuple(both)
    gone = StandIn(tmp_path / "c")
    silent = listed(gone, "C", "D")
    gone.write("trouble.shell", "error: closed\n")
    gone.devices()
    assert connected_phones.distinct(silent, told.append) == silent
    assert told == []


def test_masks_that_cannot_be() -> None:
    with pytest.raises(UserError, match="does not tell how fast its cores are; give --affinity all"):
        affinity.mask_of("big", a_phone(1800, 0))
    with pytest.raises(UserError, match="affinity 1f has cores that android-x-1234 lacks; its 4 are f"):
        affinity.mask_of("1f", a_phone(1, 1, 1, 1))
    for wrong in ("bigg", "0", "", "-1", "f0 g", "f" * 17):
        with pytest.raises(UserError, match="affinity must be big, little, all or a mask of cores as f0"):
            affinity.parse_mask(wrong)


def reading(caps: tuple[int, ...] = (), **state) -> phone_facts.Reading:
    return phone_facts.Reading(DeviceState(**state), caps)


def test_only_what_could_be_found_out_is_flagged() -> None:
    assert guards.flags(reading(), reading(), None) == {}
    quiet = {
        "governors": ("performance",) * 2, "thermal_status": 0, "battery_percent": 80, "charging": False,
        "battery_saver": False, "screen_on": False, "airplane_mode": True,
    }  # fmt: skip
    fine = guards.flags(reading((5, 5), **quiet), reading((5, 5), **quiet), True)
    assert fine == dict.fromkeys(fine, False)
    assert len(fine) == 9


@pytest.mark.parametrize(
    ("flag", "before", "after"),
    [
        ("throttled", {"thermal_status": 0}, {"thermal_status": 1}),
        ("frequency_dropped", {"caps": (1800, 2800)}, {"caps": (1800, 2400)}),
        ("frequency_scaled", {"governors": ("performance", "schedutil")}, {}),
        ("charging", {"charging": False}, {"charging": True}),
        ("battery_saver", {"battery_saver": True}, {}),
        ("screen_on", {}, {"screen_on": True}),
        ("airplane_mode_off", {"airplane_mode": False}, {"airplane_mode": False}),
        ("low_battery", {"battery_percent": 20}, {"battery_percent": 19}),
    ],
)
def test_each_flag_is_raised_by_either_end(flag: str, before: dict, after: dict) -> None:
    assert guards.flags(reading(**before), reading(**after), None) == {flag: True}


def test_a_core_that_was_off_is_no_drop() -> None:
    assert guards.flags(reading((1800, 0)), reading((1800, 2400)), None) == {"frequency_dropped": False}


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def cooled(readings: list[phone_facts.Reading], seconds: float) -> tuple[guards.Cooled, list[DeviceState]]:
    clock, told = Clock(), []
    following = iter([*readings, *[readings[-1]] * 100])
    found = guards.cool_down(
        lambda: next(following), seconds=seconds, celsius=38, waiting=told.append, clock=clock, sleep=clock.sleep
    )
    return found, told


@pytest.mark.parametrize(
    ("state", "cool"),
    [
        ({}, None),
        ({"thermal_status": 0, "thermal_headroom": 0.9, "battery_celsius": 30.0}, True),
        ({"thermal_status": 0, "thermal_headroom": 1.02}, False),
        ({"thermal_headroom": 0.5}, True),
        ({"thermal_status": 1, "thermal_headroom": 0.5}, False),
        ({"battery_celsius": 39.0}, False),
    ],
)
def test_what_is_cool(state: dict, cool: bool | None) -> None:
    assert guards.is_cool(DeviceState(**state), 38.0) is cool


def test_it_waits_until_the_device_is_cool() -> None:
    hot, warm, cool = (
        reading(thermal_status=2, battery_celsius=41.0),
        reading(thermal_status=0, battery_celsius=38.5),
        reading(thermal_status=0, battery_celsius=38.0),
    )
    found, told = cooled([hot, warm, cool], 60)
    assert (found.cool, found.seconds, found.reading) == (True, 10.0, cool)
    assert told == [hot.state]
    found, told = cooled([cool], 60)
    assert (found.cool, found.seconds, told) == (True, 0.0, [])


def test_it_waits_no_longer_than_it_may() -> None:
    hot = reading(thermal_status=1)
    found, _ = cooled([hot], 12)
    assert (found.cool, found.seconds) == (False, 12.0)
    assert guards.flags(hot, hot, found.cool) == {"throttled": True, "not_cooled": True}
    found, told = cooled([hot], 0)
    assert (found.cool, found.seconds, told) == (False, 0.0, [])


def test_the_wait_ends_when_it_is_called_off() -> None:
    hot, asked = reading(thermal_status=3), []
    found = guards.cool_down(
        lambda: asked.append(1) or hot,
        seconds=60,
        celsius=38,
        clock=lambda: 0.0,
        sleep=lambda seconds: len(asked) == 2,
    )
    assert (found.cool, len(asked)) == (False, 2)


def test_a_device_that_tells_no_temperature_is_not_waited_for() -> None:
    found, _ = cooled([reading()], 60)
    assert (found.cool, found.seconds) == (None, 0.0)
