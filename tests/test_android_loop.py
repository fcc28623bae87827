"""The real client and a real `adbd`: files, exit statuses, a cable pulled mid-run, a full disk, several devices.

The devices are Debian's daemon in network, mount and process namespaces of their own (tests/android/loop.py), with
stand-ins for Android's own programs. The last tests run the whole way: bundle pushed, ARM64 program run (by QEMU),
answer fetched, and it must be this computer's to the bit. Times mean nothing here. What the loop needs is made by
tests/android/environment.py; where it cannot be, these tests are skipped and say why.
"""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fake_runs
from android import environment, loop
from android.standin import Kept

from tfcompact.cli import main
from tfcompact.measure import any_device
from tfcompact.measure.android import adb, connected_phones, fleet, phone_facts, phone_options
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.backends import bundle
from tfcompact.measure.measurer import File
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.runs import measurements, store

pytestmark = pytest.mark.skipif(environment.hindrance() is not None, reason=str(environment.hindrance()))
QUICK = phone_options.Config(repeats=50, rounds=2, min_seconds=0.0, warmup=1, cooldown_seconds=0.0)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    made = loop.Network(tmp_path_factory.mktemp("network"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(network) -> adb.Adb:
    return adb.Adb(network.client, loop.SERVER_PORT)


@pytest.fixture(scope="module")
def device(network):
    return network.start()


@pytest.fixture(scope="module")
def one(client, device) -> Phone:
    return connected_phones.phones(client, [device.serial])[0]


@pytest.fixture
def export(tmp_path) -> store.Run:
    fakes = tuple(fake for fake in fake_runs.FAKES if fake.model == "mobilenet_v2_0.35")
    fake_runs.build(tmp_path / "runs", fakes)
    shutil.rmtree(tmp_path / "runs/mobilenet_v2_0.35/measurements")
    return store.newest(tmp_path / "runs", "mobilenet_v2_0.35", lambda run: bool(run.artifacts))


def needs_bundle(machine: str):
    """Skips where the bundle of back end `native` cannot be made for this processor."""
    compiler = bundle.TARGETS[machine].compiler
    found = shutil.which(compiler) or (machine == os.uname().machine and shutil.which("gcc"))
    reason = None if found else f"no {compiler}; apt-get install {bundle.TARGETS[machine].packages}"
    if machine != os.uname().machine:
        reason = reason or environment.foreign_hindrance()
    return pytest.mark.skipif(reason is not None, reason=str(reason))


def test_a_command_has_its_own_status_and_both_outputs(one) -> None:
    result = one.shell("echo out; echo bad >&2; exit 7")
    assert (result.code, result.out, result.err) == (7, "out\n", "bad\n")
    assert one.shell("sh -c 'kill -SEGV $$'").code == 139


def test_the_facts_and_the_state(one) -> None:
    facts = phone_facts.facts(one)
    assert facts.device.name.startswith("android-loop-device-")
    assert facts.device.processor == "tfcompact Loop 2 (1 x 2.85 + 1 x 1.80 GHz)"
    assert (facts.device.system, facts.device.cores) == ("Android 14 (SDK 34), arm64-v8a", 2)
    state = phone_facts.read(one).state
    assert (state.thermal_status, state.thermal_headroom, state.battery_percent) == (0, 0.5, 82)
    assert (state.governors, state.screen_on, state.airplane_mode) == (("schedutil",) * 2, False, True)


def test_20_mb_there_and_back(one, client, tmp_path, monkeypatch) -> None:
    file, back = tmp_path / "big.tflite", tmp_path / "back"
    file.write_bytes(os.urandom(20_000_000))
    path = one.push_by_sha256(file)
    assert Path(path).parent.name == one.sha256(path), "the path holds the hash, taken on the device"
    one.pull(path, back)
    assert back.read_bytes() == file.read_bytes()
    monkeypatch.setattr(one, "push", lambda *_: pytest.fail("it is there already"))
    assert one.push_by_sha256(file) == path
    assert one.shell(f"rm -r {Path(path).parent}").code == 0


def test_what_takes_too_long_is_ended_on_the_device_too(one) -> None:
    with pytest.raises(adb.TimedOut, match="within 1 s while running sleep 12345"):
        one.shell("sleep 12345 & sleep 12345", timeout_s=1)
    left = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done | grep -c 'sleep 1234[5]'"
    for _ in range(300):
        count = one.shell(f"{left}; sleep 0.1").out.strip()
        if count == "0":
            break
    assert count == "0", "it would compute beside the next measurement"


def test_a_full_disk(network, client, tmp_path) -> None:
    small = network.start(megabytes=4)
    one = connected_phones.phones(client, [small.serial])[0]
    file = tmp_path / "model.tflite"
    file.write_bytes(os.urandom(6_000_000))
    with pytest.raises(adb.DiskFull, match=r"no space left on device .* for model\.tflite \(6\.0 MB\); free some"):
        one.push_by_sha256(file)
    assert one.shell("ls /data/local/tmp/tfcompact").out == "", "nothing partial stays"
    file.write_bytes(os.urandom(1_000_000))
    one.push_by_sha256(file)
    small.yank()


def test_a_cable_pulled_while_a_command_runs(network, client) -> None:
    loose = network.start()
    one = connected_phones.phones(client, [loose.serial])[0]
    with Pulled(loose, 0.5), pytest.raises(adb.DeviceGone, match="went away while running sleep 20"):
        one.shell("sleep 20; echo done", timeout_s=30)
    with pytest.raises(adb.DeviceGone, match=f"device {loose.serial} is (offline|not connected)"):
        connected_phones.phones(client, [loose.serial])
    loose.plug()
    assert one.ask("echo back").out == "back\n"
    loose.yank()


def test_a_phone_on_the_network_that_is_not_there(client) -> None:
    with pytest.raises(adb.DeviceGone, match="no device answers at 127.0.0.1:15999"):
        connected_phones.phones(client, ["127.0.0.1:15999"])


def test_a_phone_on_the_network_is_joined_by_its_address(network, client) -> None:
    device = network.start()
    disconnect = [client.executable, "-P", str(client.port), "disconnect", device.serial]
    subprocess.run(disconnect, check=True, capture_output=True)
    assert device.serial not in [listed.serial for listed in client.listed()]
    (one,) = connected_phones.phones(client, [device.serial])
    assert one.ask("echo here").out == "here\n"
    device.yank()


@needs_bundle(os.uname().machine)
def test_two_devices_at_once_and_one_goes_mid_way(network, client, device, export, tmp_path, monkeypatch) -> None:
    """Each has its own rows; of the one that went, what was measured is kept and marked."""
    loose = network.start()
    backend = fleet.backend_of(QUICK)
    run_it, turns = backend.run, []

    def run(one, job):
        if one.serial == loose.serial:
            turns.append(job)
            if len(turns) == 3:
                loose.yank()
        return run_it(one, job)

    monkeypatch.setattr(backend, "run", run)
    monkeypatch.setattr(fleet, "backend_of", lambda config: backend)
    config = dataclasses.replace(
        QUICK, formats=("int8", "float32"), adb=client.executable, adb_port=client.port,
        serial=(device.serial, loose.serial),
    )  # fmt: skip
    found = any_device.measure_run(export, tmp_path / "runs", config)
    rows = measurements.measurements(tmp_path / "runs")
    assert {row.key for row in rows} == {row.key for row in found.rows}
    assert sorted((len(row.wall_ms), row.validity["partial"]) for row in rows) == [
        (25, True), (25, True), (50, False), (50, False)
    ]  # fmt: skip
    assert len({row.device.name for row in rows if row.validity["partial"]}) == 1
    (line,) = found.failures
    assert f"device {loose.serial} went away while" in line


def test_a_benchmark_model_is_brought_started_and_read(network, client, device, export, tmp_path) -> None:
    """The tool is a script that says what a real one said: all else on the way to the row is real."""
    fixtures = Path(__file__).parent / "android_app/fixtures"
    tool = tmp_path / "benchmark_model"
    tool.write_text(
        "#!/bin/sh\ncase $* in *--help*) cat <<'END'\n"
        + (fixtures / "help_classic.txt").read_text()
        + "\nEND\n;;\n*--graph=*) cat <<'END'\n"
        + (fixtures / "classic.log").read_text()
        + "\nEND\n;;\n*) exit 1 ;;\nesac\n"
    )
    config = phone_options.Config(
        backend="benchmark_model", benchmark_model=tool, serial=(device.serial,), formats=("int8",),
        adb=client.executable, adb_port=client.port,
    )  # fmt: skip
    found = any_device.measure_run(export, tmp_path / "runs", config)
    (row,) = measurements.measurements(tmp_path / "runs")
    assert found.failures == ()
    assert (row.backend, row.wall_ms, row.validity["partial"]) == ("benchmark_model", (), False)
    assert row.summary.count >= 50
    assert row.percentile_ms(50) == row.summary.p50_ms
    assert f"--graph=/data/local/tmp/tfcompact/{row.artifact_sha256}/model.int8.tflite" in row.command
    assert row.command.startswith("taskset 2 /data/local/tmp/tfcompact/")


@needs_bundle("aarch64")
def test_the_whole_loop_runs_arm64_and_answers_as_this_computer(network, client, export, tmp_path, capsys) -> None:
    arm64 = network.start(processor="arm64", megabytes=200)
    words = [
        export.path, "--device", "android", "--adb", client.executable, "--adb-port", client.port,
        "--serial", arm64.serial, "--repeats", 50, "--rounds", 1, "--min-seconds", 0, "--warmup", 1,
        "--delegates", "xnnpack", "builtin", "--profile",
    ]  # fmt: skip
    assert main.main(["measure", *map(str, words)]) == 0
    assert "XNNPACK by native, 1 thread" in " ".join(capsys.readouterr().out.split())
    rows = measurements.measurements(tmp_path / "runs")
    assert len(rows) == 6
    for row in rows:
        assert row.output.identical or row.format == "float32"
        assert row.output.difference < 1e-5
        assert "ld-linux-aarch64.so.1" in row.command
        assert row.command.partition("&& ")[2].startswith("taskset 2 "), "on the faster core"
        assert len(row.wall_ms) == 50
        assert (row.xnnpack_partitions == 1) == (row.delegate == "xnnpack")
        assert row.operators
        log = (tmp_path / "runs" / row.model / "measurements" / row.log).read_text()
        assert f"$ {row.command}" in log
    arm64.yank()


@pytest.mark.slow
@needs_bundle("aarch64")
@pytest.mark.parametrize("name", ["mobilenet_v2_0.35", "mobilenet_v3_small"])
def test_an_int8_network_on_arm64_answers_as_this_computer_to_the_bit(network, client, tmp_path, name: str) -> None:
    from tfcompact import models
    from tfcompact.export import candidate

    content = candidate.int8_file(models.build(name, px=64, classes=10))
    path = tmp_path / "model.int8.tflite"
    path.write_bytes(content)
    artifact = Artifact(
        model=name, run="export-00000000", path=path.name, format="int8", sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content), image_px=64, classes=10, normalization=Normalization(),
    )  # fmt: skip
    arm64 = network.start(processor="arm64", megabytes=200)
    config = dataclasses.replace(QUICK, delegates=("xnnpack", "builtin"), rounds=1)
    phones = connected_phones.phones(client, [arm64.serial])
    found = fleet.measure([File(path, artifact)], phones, config, fleet.backend_of(config), Kept())
    assert found.failures == ()
    by = {row.delegate: row for row in found.rows}
    assert (by["xnnpack"].output.identical, by["xnnpack"].output.steps) == (True, 0)
    assert (by["xnnpack"].xnnpack_partitions, by["builtin"].xnnpack_partitions) == (1, None)
    # The kernels below the delegate are other code on ARM64 than on x86-64, and round otherwise.
    assert by["builtin"].output.steps <= 5
    assert not by["builtin"].validity["output_differs"]
    arm64.yank()


def test_nothing_of_the_loop_is_seen_outside(network) -> None:
    """The daemon listens on every address of its network, so that must be one with loopback alone."""
    inside = subprocess.run([*network.enter, "ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert [line.split(": ")[1] for line in inside.splitlines()] == ["lo"]


class Pulled:
    """A device that goes so many seconds after the block began."""

    def __init__(self, device: loop.LoopDevice, seconds: float) -> None:
        self._timer = threading.Timer(seconds, device.yank)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_) -> None:
        self._timer.join()
