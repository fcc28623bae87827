"""Devices by adb: what is run, brought and fetched there, and one line for each way that it can fail.

The client is a stand-in (tests/android/adb_standin.sh), so that a cable can be pulled at any moment.
tests/test_android_loop.py does the same with the real client and a real daemon.
"""

import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from android.standin import StandIn

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android import adb, connected_phones, phone_facts
from tfcompact.measure.android.phone import ATTEMPTS, DIRECTORY, KEEP_DAYS, Phone

DEVICES = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
R58M12ABCDE            device usb:1-2 product:a52qnsxx model:SM_A525F device:a52q transport_id:3
0A171JEC210012         unauthorized usb:1-3 transport_id:4
192.168.1.7:41321      offline product:x model:Pixel_6 device:oriole transport_id:5
????????????           no permissions (user in plugdev group; are your udev rules wrong?); see [x] usb:1-4
emulator-5554          device product:sdk_gphone64_x86_64 model:sdk_gphone64_x86_64 device:emu64xa transport_id:1

"""


@pytest.fixture
def standin(tmp_path, monkeypatch) -> StandIn:
    monkeypatch.setattr("tfcompact.measure.android.phone.PAUSE_S", 0.0)
    return StandIn(tmp_path / "phone")


@pytest.fixture
def phone(standin) -> Phone:
    (found,) = connected_phones.phones(adb.Adb(standin.client, 5137))
    return found


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "model.int8.tflite"
    path.write_bytes(bytes(range(256)) * 400)
    return path


def remote(path: Path) -> str:
    return f"/data/local/tmp/tfcompact/{hashlib.sha256(path.read_bytes()).hexdigest()}/{path.name}"


def test_the_list_of_devices_is_read_in_all_its_forms() -> None:
    assert [(d.serial, d.state, d.model) for d in adb.parse_devices(DEVICES)] == [
        ("R58M12ABCDE", "device", "SM_A525F"),
        ("0A171JEC210012", "unauthorized", ""),
        ("192.168.1.7:41321", "offline", "Pixel_6"),
        ("????????????", "no permissions", ""),
        ("emulator-5554", "device", "sdk_gphone64_x86_64"),
    ]


def test_devices_with_one_number_or_none_are_told_apart_by_their_ports(standin) -> None:
    standin.devices(
        "0123456789ABCDEF device usb:1-2 model:Tab device:tab transport_id:7",
        "0123456789ABCDEF device usb:1-4 model:Tab device:tab transport_id:9",
        "(no serial number) device usb:2-1 model:Box device:box transport_id:11",
        "0123456789abcdef unauthorized transport_id:12",
        "0123456789abcdef unauthorized transport_id:13",
        "R58M12ABCDE device usb:1-1 model:Loop_Device transport_id:3",
    )
    client = adb.Adb(standin.client, 5137)
    phones = connected_phones.phones(client)
    assert [phone.serial for phone in phones] == ["usb:1-2", "usb:1-4", "usb:2-1", "R58M12ABCDE"]
    for phone, words in zip(phones, ("-t 7", "-t 9", "-t 11", "-s R58M12ABCDE"), strict=True):
        phone.shell("true")
        assert f"-P 5137 {words} shell" in standin.calls("shell")[-1]
        assert phone.state() == "device"
    (one,) = connected_phones.phones(client, ["usb:1-4"])
    names = [phone_facts.facts(phone).device.name for phone in phones]
    assert len(set(names)) == len(phones)
    assert connected_phones.distinct(phones) == phones
    standin.devices(
        "0123456789ABCDEF device usb:1-4 model:Tab transport_id:20", "0123456789ABCDEF device usb:1-2 x:y"
    )
    assert one.state() == "device"
    one.shell("true")
    assert "-t 20 shell" in standin.calls("shell")[-1]


def test_serial_numbers_with_spaces_and_states_that_are_not_known() -> None:
    lines = (
        "adb-AB12-xYz (2)._adb-tls-connect._tcp device product:x model:Pixel_6 device:oriole transport_id:5",
        "adb-AB12-xYz (3)._adb-tls-connect._tcp     unauthorized transport_id:6",
        "R58M12ABCDE strange usb:1-4 device:a52q transport_id:3",
    )
    assert [(d.serial, d.state, d.model) for d in adb.parse_devices("\n".join(lines))] == [
        ("adb-AB12-xYz (2)._adb-tls-connect._tcp", "device", "Pixel_6"),
        ("adb-AB12-xYz (3)._adb-tls-connect._tcp", "unauthorized", ""),
        ("R58M12ABCDE", "strange", ""),
    ]


def test_a_command_has_its_own_status_and_both_outputs(phone, standin) -> None:
    result = phone.shell("echo out; printf 'no newline' >&2; exit 7")
    assert (result.code, result.out, result.err) == (7, "out\n", "no newline")
    assert phone.shell("true") == adb.Result(0, "", "")
    assert phone.shell("echo hidden # and a comment").out == "hidden\n"
    assert phone.shell("sh -c 'kill -SEGV $$'").code == 139, "a crash is the command's, not the device's"
    assert standin.calls("shell")[0].startswith("-P 5137 -s R58M12ABCDE shell -T -n ")


def test_check_gives_the_output_or_the_last_words(phone) -> None:
    assert phone.check("echo fine") == "fine\n"
    with pytest.raises(adb.AdbError, match=r"device R58M12ABCDE: echo bad.* failed with status 3 \(bad luck\)"):
        phone.check("echo bad luck >&2; exit 3")


def test_without_adb_it_says_how_to_get_it(monkeypatch, tmp_path) -> None:
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"adb is not installed; .*apt-get install adb.* --adb"):
        adb.Adb()
    with pytest.raises(UserError, match="no program adbb; give the path of Android's adb with --adb"):
        adb.Adb("adbb")
    sdk = StandIn(tmp_path / "sdk/platform-tools")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    assert adb.Adb().executable == str(sdk.client)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("R58M12ABCDE unauthorized usb:1-2 transport_id:1", "unlock its screen and accept the question"),
        ("R58M12ABCDE offline transport_id:1", "offline; unplug it and plug it in again, or: adb reconnect"),
        ("R58M12ABCDE no permissions (no udev rules); see [x] usb:1-4", "udev rules"),
        ("R58M12ABCDE recovery usb:1-4", "recovery mode; start Android"),
        ("R58M12ABCDE strange usb:1-4", "in state 'strange', not ready; look at: adb devices"),
    ],
)
def test_a_device_that_is_not_ready_says_what_to_do(standin, line: str, words: str) -> None:
    standin.devices(line)
    for serials in ((), ("R58M12ABCDE",)):
        with pytest.raises(adb.AdbError, match=words) as told:
            connected_phones.phones(adb.Adb(standin.client), serials)
        assert str(told.value).startswith("device R58M12ABCDE ")
        assert "\n" not in str(told.value)


def test_no_device_and_a_misspelt_serial_number(standin) -> None:
    with pytest.raises(UnknownName, match="did you mean R58M12ABCDE"):
        connected_phones.phones(adb.Adb(standin.client), ["R58M12ABCDF"])
    standin.devices()
    for serials in ((), ("R58M12ABCDE",)):
        with pytest.raises(adb.DeviceGone, match=r"no Android device is connected; .*adb devices"):
            connected_phones.phones(adb.Adb(standin.client), serials)


def test_all_that_are_ready_are_taken_and_the_others_told(standin) -> None:
    standin.write("devices", DEVICES.partition("attached\n")[2])
    told: list[str] = []
    phones = connected_phones.phones(adb.Adb(standin.client), tell=told.append)
    assert [phone.serial for phone in phones] == ["R58M12ABCDE", "emulator-5554"]
    assert [line.split()[3] for line in told] == ["0A171JEC210012", "192.168.1.7:41321", "????????????"]


def test_a_server_that_does_not_start(standin) -> None:
    standin.write("trouble.devices", "adb: failed to check server version: cannot connect to daemon\n")
    with pytest.raises(adb.AdbError, match=r"adb cannot list devices \(.*cannot connect.*\); try: adb kill-server"):
        connected_phones.phones(adb.Adb(standin.client))


def test_a_device_that_goes_while_a_command_runs_is_noticed_though_the_status_is_0(phone, standin) -> None:
    standin.write("silent.shell")
    standin.devices()
    with pytest.raises(adb.DeviceGone, match=r"R58M12ABCDE went away while running \./runner model; check its cable"):
        phone.shell("./runner model")
    standin.devices("R58M12ABCDE device")
    with pytest.raises(adb.DeviceGone, match="went away while running ./runner model, and is back now"):
        phone.shell("./runner model")
    standin.devices("R58M12ABCDE unauthorized")
    with pytest.raises(adb.AdbError, match="accept the question"):
        phone.shell("./runner model")


def test_what_runs_is_never_run_twice_and_what_only_looks_is_asked_again(phone, standin) -> None:
    standin.write("once.shell", "error: closed\n")
    before = len(standin.calls("shell"))
    with pytest.raises(adb.DeviceGone, match=r"running ./runner \(closed\), and is back now"):
        phone.shell("./runner")
    assert len(standin.calls("shell")) == before + 1
    standin.write("once.shell", "error: device 'R58M12ABCDE' not found\n")
    assert phone.ask("echo here").out == "here\n"
    assert len(standin.calls("shell")) == before + 3


def test_a_command_that_takes_too_long(phone) -> None:
    with pytest.raises(adb.TimedOut, match=r"no answer of device R58M12ABCDE within 0\.3 s while running sleep 20"):
        phone.shell("sleep 20", timeout_s=0.3)


def test_a_terminals_interruption_does_not_reach_the_client_but_ours_does(phone) -> None:
    session = phone.check("cut -d' ' -f6 /proc/self/stat")
    assert int(session) != os.getsid(0), "a Ctrl-C is sent to all processes of the terminal's session"
    told: list[UserError] = []

    def wait() -> None:
        try:
            phone.ask("sleep 30")
        except adb.AdbError as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    start = time.monotonic()
    thread.start()
    while not phone.adb._running:
        time.sleep(0.01)
    phone.adb.interrupt()
    thread.join()
    assert time.monotonic() - start < 15
    assert [type(error) for error in told] == [adb.Interrupted]
    assert not phone.adb._running
    with pytest.raises(adb.Interrupted, match="interrupted before running true"):
        phone.shell("true")


def test_an_old_android_without_exit_statuses_is_told(phone, standin) -> None:
    standin.client.write_text(standin.client.read_text().replace("exec sh -c", "exec 2>&1 sh -c"))
    with pytest.raises(adb.AdbError, match="older than Android 7"):
        phone.shell("true")


def test_a_file_is_pushed_once_and_again_where_it_changed(phone, standin, file) -> None:
    path = phone.push_by_sha256(file)
    assert path == remote(file)
    assert (
        standin.folder / "storage/tfcompact" / Path(path).parent.name / file.name
    ).read_bytes() == file.read_bytes()
    assert phone.push_by_sha256(file) == path
    assert len(standin.calls("push")) == 1
    file.write_bytes(file.read_bytes()[::-1])  # of the same size
    assert phone.push_by_sha256(file) != path
    assert len(standin.calls("push")) == 2


def test_a_file_damaged_on_the_device_is_pushed_anew(phone, standin, file) -> None:
    path = phone.push_by_sha256(file)
    there = standin.folder / "storage/tfcompact" / Path(path).parent.name / file.name
    there.write_bytes(b"half")
    assert phone.push_by_sha256(file) == path
    assert there.read_bytes() == file.read_bytes()


def test_what_arrives_cut_is_never_taken_for_whole(phone, standin, file) -> None:
    standin.write("truncates")
    with pytest.raises(adb.AdbError, match=r"model\.int8\.tflite did not arrive as sent; try again"):
        phone.push_by_sha256(file)
    assert standin.stored() == []
    standin.remove("truncates")
    phone.push_by_sha256(file)
    assert len(standin.stored()) == 1


def test_a_push_is_tried_again_and_then_given_up(phone, standin, file) -> None:
    broken = "adb: error: failed to read copy response: EOF\nadb: error: protocol fault (couldn't read status)\n"
    standin.write("once.push", broken)
    phone.push_by_sha256(file)
    assert len(standin.calls("push")) == 2
    file.write_bytes(b"other")
    standin.write("trouble.push", broken)
    with pytest.raises(adb.DeviceGone, match="while pushing model.int8.tflite"):
        phone.push_by_sha256(file)
    assert len(standin.calls("push")) == 2 + ATTEMPTS


def test_a_full_disk_says_what_to_remove(phone, standin, file) -> None:
    standin.write(
        "trouble.push", f"adb: error: failed to copy '{file}' to '/x': remote write failed: No space left on device\n"
    )
    with pytest.raises(
        adb.DiskFull, match=r"no space left on device R58M12ABCDE for model\.int8\.tflite \(0\.1 MB\)"
    ):
        phone.push_by_sha256(file)
    assert len(standin.calls("push")) == 1, "a full disk is not fuller the second time"
    standin.write("trouble.push", "adb: error: failed to copy 'a' to '/x': remote permission denied\n")
    with pytest.raises(adb.AdbError, match="pushing .* to /x failed .*permission denied"):
        phone.push(file, "/x")


def test_a_program_and_its_libraries_appear_together(phone, standin, tmp_path) -> None:
    for name, content in (("runner", "#!/bin/sh\n. ./lib.so\n"), ("lib.so", "echo loaded\n")):
        (tmp_path / name).write_text(content)
    (tmp_path / "runner").chmod(0o700)
    files = {name: tmp_path / name for name in ("runner", "lib.so")}
    home = phone.push_files_by_sha256(files)
    assert phone.shell(f"cd {home} && ./runner").out == "loaded\n"
    assert phone.push_files_by_sha256(dict(reversed(files.items()))) == home
    assert len(standin.calls("push")) == 2
    (tmp_path / "lib.so").write_text("echo another\n")
    assert phone.push_files_by_sha256(files) != home
    with pytest.raises(UserError, match="cannot be called 'a/b'"):
        phone.push_files_by_sha256({"a/b": tmp_path / "runner"})


def test_a_file_is_fetched_whole_or_not_at_all(phone, standin, file, tmp_path) -> None:
    back = tmp_path / "back"
    phone.pull(phone.push_by_sha256(file), back)
    assert back.read_bytes() == file.read_bytes()
    with pytest.raises(adb.AdbError, match="pulling /data/local/tmp/none failed.*No such file"):
        phone.pull("/data/local/tmp/none", back)
    assert back.read_bytes() == file.read_bytes()
    assert not list(tmp_path.glob("back.*"))


def test_files_that_are_not_here(phone, tmp_path) -> None:
    with pytest.raises(UserError, match="cannot be read .*; check the path"):
        phone.push_by_sha256(tmp_path / "none")
    with pytest.raises(UserError, match="is not there, so it cannot be pushed"):
        phone.push(tmp_path / "none", "/x")


def test_a_device_on_the_network_that_does_not_answer(standin) -> None:
    with pytest.raises(adb.DeviceGone, match=r"no device answers at 10\.0\.0\.7:5555 .*adb tcpip 5555"):
        connected_phones.phones(adb.Adb(standin.client), ["10.0.0.7:5555"])


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def test_what_a_killed_push_left_is_removed_a_day_later_and_the_rest_when_nobody_used_it(phone, standin) -> None:
    home = standin.folder / "storage/tfcompact"
    files = {"ab.12345678.part": 2, "ab.00000000.part": 0, "whole": 2, "unused": KEEP_DAYS + 2}
    for name, days in files.items():
        (home / name).mkdir(parents=True)
        (home / name / "file").touch()
        age(home / name, days)
    age(home, KEEP_DAYS + 2)
    phone.forget_unused()
    assert sorted(path.name for path in home.iterdir()) == ["ab.00000000.part", "whole"]


def test_a_file_that_is_used_is_not_an_old_one(phone, standin, file) -> None:
    there = standin.folder / "storage/tfcompact" / Path(phone.push_by_sha256(file)).parent.name
    age(there, KEEP_DAYS + 2)
    phone.push_by_sha256(file)
    phone.forget_unused()
    assert standin.stored() == [f"{there.name}/{file.name}"]


def test_what_was_pushed_can_be_removed_and_nothing_else(phone, standin, file, tmp_path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(b"other")
    kept, path = phone.push_by_sha256(other), phone.push_by_sha256(file)
    phone.remove([path])
    assert standin.stored() == [str(Path(kept).relative_to(DIRECTORY))]
    for wrong in (f"{DIRECTORY}/file", "/data/local/tmp/x/y", f"{kept}/../../../.."):
        with pytest.raises(ValueError, match="is no directory that push_by_sha256 made"):
            phone.remove([wrong])
    assert len(standin.stored()) == 1
