"""Measuring on phones: rounds, rows that are kept as they come, flags, failures, several devices, the command line.

The phones are stand-ins (tests/android/adb_standin.sh) and what runs the files is this computer's runtime; the files
are real ones. tests/test_android_loop.py has a real daemon and the real back end.
"""

import dataclasses
import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fake_runs
from android.standin import Kept, StandIn

from tfcompact.cli import main
from tfcompact.errors import UnknownName, UserError
from tfcompact.measure import any_device, emulation
from tfcompact.measure.android import adb, connected_phones, fleet, guards, phone_options
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.backends.backend import Outcome, RunFailed
from tfcompact.measure.measurer import File
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.target import Target
from tfcompact.records import backends
from tfcompact.records.device import Device
from tfcompact.records.measurement import SCHEMA, ColdStart, Measurement, OperatorTime, Summary
from tfcompact.report import measured_rows
from tfcompact.runs import measurements, store
from tfcompact.tflite import runtime

FAKES = tuple(fake for fake in fake_runs.FAKES if fake.model == "mobilenet_v2_0.35")
QUICK = phone_options.Config(repeats=50, rounds=2, min_seconds=0.0, cooldown_seconds=0.0, threads=(1, 2))


class FakeBackend:
    """Runs a file on this computer under the name of back end `native`. `before(phone, job)` may break it."""

    name = "native"
    delegates = ("xnnpack", "builtin", "gpu")

    def __init__(self, before=lambda phone, job: None, change=lambda outcome: outcome) -> None:
        self.before, self.change = before, change
        self.jobs: list[tuple[str, object]] = []
        self.prepared: list[str] = []
        self.lock = threading.Lock()

    def prepare(self, phone) -> None:
        self.prepared.append(phone.serial)

    def run(self, phone, job) -> Outcome:
        with self.lock:
            self.jobs.append((phone.serial, job))
        self.before(phone, job)
        there = phone.shell(f"sha256sum {job.remote}").out.split()[0]
        assert there == job.artifact.sha256, "the file on the device is the one to be measured"
        model = runtime.LiteModel(job.path, delegate="xnnpack")
        image = np.frombuffer(job.image, model.input_dtype).reshape(1, model.image_px, model.image_px, 3)
        outcome = Outcome(
            runtime="LiteRT 2.3.0",
            delegate=job.delegate,
            command=f"./runner {job.remote} {job.threads}",
            log=f"ran {job.repeats} times",
            wall_ms=tuple(1.0 + i / 1000 for i in range(job.repeats)),
            warmup_runs=job.warmup,
            cold=ColdStart(1.0, 2.0, float(len(self.jobs))),
            operators=(OperatorTime("dense", "FULLY_CONNECTED", 0.1, 1.0),) if job.profile else (),
            partitions=1,
            peak_memory_mb=10.0 + len(self.jobs),
            output=model.raw(image)[0].tobytes(),
            flags={"fell_back": False},
        )
        return self.change(outcome)


@pytest.fixture
def root(tmp_path) -> Path:
    fake_runs.build(tmp_path / "runs", FAKES)
    for old in (tmp_path / "runs").glob("*/measurements/*.json"):
        old.unlink()
    return tmp_path / "runs"


@pytest.fixture
def run(root) -> store.Run:
    return store.newest(root, "mobilenet_v2_0.35", lambda run: bool(run.artifacts))


@pytest.fixture(autouse=True)
def patient(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tfcompact.measure.android.phone.PAUSE_S", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def standin(tmp_path) -> StandIn:
    return StandIn(tmp_path / "phone", "SERIAL-A")


def phone_of(standin: StandIn) -> Phone:
    return connected_phones.phones(adb.Adb(standin.client))[0]


def files_of(run: store.Run, *formats: str) -> list[File]:
    return [File(run.path / a.path, a) for a in run.artifacts if not formats or a.format in formats]


def measured(run, standins, config=QUICK, backend=None, formats=("int8",)):
    """The result, and every row and log in the order they were kept."""
    kept = Kept()
    phones = [phone_of(standin) for standin in standins]
    found = fleet.measure(files_of(run, *formats), phones, config, backend or FakeBackend(), kept)
    return found, kept.rows


def test_every_combination_has_its_turn_in_every_round(run, standin) -> None:
    backend = FakeBackend()
    found, kept = measured(run, [standin], backend=backend, formats=("int8", "float32"))
    order = [(job.artifact.format, job.threads) for _, job in backend.jobs]
    first = [("float32", 1), ("float32", 2), ("int8", 1), ("int8", 2)]
    assert order == first + [first[1], first[2], first[3], first[0]], "another begins in the second round"
    assert backend.prepared == ["SERIAL-A"]
    assert found.failures == ()
    for row in found.rows:
        assert len(row.wall_ms) == 50
        assert row.wall_ms[:25] == row.wall_ms[25:], "the samples of both rounds"
    partial = [row.validity["partial"] for row, _ in kept]
    last = [True, False] * 4  # once with the samples, once with the device's state too
    assert partial == [True] * 8 + last, "kept after every turn, and whole after the last"


def test_a_row_says_all_that_is_known(run, standin) -> None:
    backend = FakeBackend()
    found, kept = measured(run, [standin], backend=backend, config=dataclasses.replace(QUICK, profile=True))
    row = found.rows[0]
    assert (row.schema, row.backend, row.delegate, row.threads, row.mode) == (SCHEMA, "native", "xnnpack", 1, "burst")
    assert row.device.name.startswith("android-loop-device-")
    assert (row.device.kind, row.device.soc) == ("android", "Loop 2")
    assert row.affinity == "2", "the faster of its two cores"
    assert {job.affinity for _, job in backend.jobs} == {"2"}
    assert row.output.identical
    assert (row.output.steps, row.output.difference) == (0, 0.0)
    assert (row.before.battery_percent, row.after.thermal_status) == (82, 0)
    assert (row.xnnpack_partitions, row.warmup_runs, row.accuracy) == (1, 10, None)
    assert row.cold.first_ms == 1.0, "the first start's"
    assert row.peak_memory_mb == 14.0, "the most of all rounds"
    assert [job.profile for _, job in backend.jobs] == [True, True, False, False]
    assert row.operators[0].type == "FULLY_CONNECTED"
    assert row.command.startswith("./runner /data/local/tmp/tfcompact/")
    assert row.log == f"{row.key}.log"
    log = next(log for kept_row, log in reversed(kept) if kept_row.key == row.key)
    assert log.count(f"$ {row.command}\nran 25 times") == 2
    assert {name for name, value in row.validity.items() if value} == {"frequency_scaled"}
    assert {"partial", "throttled", "charging", "noisy", "drifting", "output_differs"} <= set(row.validity)
    assert [r.validity["threads_exceed_cores"] for r in found.rows] == [False, True], "two threads on one core"
    assert Measurement.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_the_file_is_pushed_once_for_all_rounds(run, standin) -> None:
    measured(run, [standin])
    assert len(standin.calls("push")) == 1


def test_a_device_that_goes_mid_way_leaves_a_marked_row_and_does_not_stop_the_other(run, standin, tmp_path) -> None:
    other = StandIn(tmp_path / "other", "SERIAL-B")
    calls: dict[str, int] = {}

    def unplug(phone, job) -> None:
        calls[phone.serial] = calls.get(phone.serial, 0) + 1
        if phone.serial == "SERIAL-A" and calls[phone.serial] == 4:
            standin.devices()
            standin.write("silent.shell")

    found, kept = measured(run, [standin, other], backend=FakeBackend(unplug))
    rows = {(row.device.name[-4:], row.threads): row for row in found.rows}
    names = sorted({row.device.name for row in found.rows})
    assert len(names) == 2
    gone = [row for row in found.rows if row.validity["partial"]]
    assert len(gone) == 1
    assert (len(gone[0].wall_ms), gone[0].threads) == (25, 1), "one of its two rounds"
    assert sum(len(row.wall_ms) == 50 for row in rows.values()) == 3
    (line,) = found.failures
    assert "device SERIAL-A went away while running sha256sum" in line
    log = [log for row, log in kept if row.key == gone[0].key][-1]
    assert "# device SERIAL-A went away" in log


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_device_that_goes_just_after_a_run_keeps_its_samples(run, standin, rounds: int) -> None:
    def unplug(outcome):
        standin.devices()
        standin.write("silent.shell")
        return outcome

    config = dataclasses.replace(QUICK, threads=(1,), rounds=rounds)
    found, kept = measured(run, [standin], config=config, backend=FakeBackend(change=unplug))
    (row,) = found.rows
    assert (len(row.wall_ms), row.validity["partial"], row.after) == (50 // rounds, True, None)
    assert kept[0][0].wall_ms == row.wall_ms, "kept before the device is asked for its state"
    assert "device SERIAL-A went away" in kept[-1][1]


def test_a_file_that_does_not_run_does_not_stop_the_others(run, standin) -> None:
    def refuse(phone, job) -> None:
        if job.delegate == "gpu":
            raise UserError("the GPU takes no CONCATENATION")

    config = dataclasses.replace(QUICK, delegates=("gpu", "xnnpack"), threads=(1,))
    backend = FakeBackend(refuse)
    found, _ = measured(run, [standin], config=config, backend=backend)
    assert [row.delegate for row in found.rows] == ["xnnpack"]
    assert len(found.rows[0].wall_ms) == 50
    (line,) = found.failures
    assert "mobilenet_v2_0.35 int8, gpu, 1 thread: the GPU takes no CONCATENATION; its log: " in line
    assert [job.delegate for _, job in backend.jobs].count("gpu") == 1, "not tried again in the next round"


def test_a_fallback_is_named_and_never_takes_the_place_of_what_was_asked(run, standin) -> None:
    def fall_back(outcome):
        if outcome.delegate != "gpu":
            return outcome
        return dataclasses.replace(outcome, delegate="xnnpack", flags={"fell_back": True})

    config = dataclasses.replace(QUICK, delegates=("xnnpack", "gpu"), threads=(1,))
    found, _ = measured(run, [standin], config=config, backend=FakeBackend(change=fall_back))
    assert [(row.delegate, row.validity["fell_back"]) for row in found.rows] == [
        ("xnnpack", False),
        ("xnnpack-instead-of-gpu", True),
    ]
    assert len({row.key for row in found.rows}) == 2


def test_two_rounds_of_different_delegates_are_not_mixed(run, standin) -> None:
    turn = iter(["gpu", "xnnpack"])
    config = dataclasses.replace(QUICK, delegates=("gpu",), threads=(1,))
    backend = FakeBackend(change=lambda outcome: dataclasses.replace(outcome, delegate=next(turn)))
    found, _ = measured(run, [standin], config=config, backend=backend)
    assert (len(found.rows[0].wall_ms), found.rows[0].validity["partial"]) == (25, True)
    assert "ran as gpu in one round and as xnnpack in the next" in found.failures[0]


@pytest.mark.parametrize(
    ("format", "change", "steps", "differs"),
    [
        ("int8", lambda values: values + np.int8(1), 1, False),
        ("int8", lambda values: np.roll(values, 1), None, True),
        ("float32", lambda values: values + np.float32(0.001), None, False),
        ("float32", lambda values: values * np.float32(np.nan), None, True),
    ],
)
def test_another_answer_than_this_computers_is_seen(run, standin, format, change, steps, differs) -> None:
    dtype = np.dtype(format)

    def wrong(outcome):
        return dataclasses.replace(outcome, output=change(np.frombuffer(outcome.output, dtype)).tobytes())

    found, _ = measured(run, [standin], backend=FakeBackend(change=wrong), formats=(format,))
    row = found.rows[0]
    assert not row.output.identical
    assert row.validity["output_differs"] is differs
    if steps is not None:
        assert row.output.steps == steps
    assert (row.output.steps is None) == (format == "float32")
    assert 0 < row.output.difference <= 1


def test_an_answer_of_another_size_is_an_error(run, standin) -> None:
    backend = FakeBackend(change=lambda outcome: dataclasses.replace(outcome, output=outcome.output[:-1]))
    found, _ = measured(run, [standin], backend=backend)
    assert found.rows == ()
    assert "the answer has 5 bytes instead of 6; the back end read another file" in found.failures[0]


def test_a_hot_phone_is_waited_for_then_flagged(run, standin, monkeypatch) -> None:
    standin.write("thermal_status", "3")
    slept: list[float] = []
    told: list[str] = []
    now = iter(range(0, 10_000, 3))
    wait = guards.cool_down
    monkeypatch.setattr(
        guards,
        "cool_down",
        lambda read, **kw: wait(read, **kw | {"clock": lambda: float(next(now)), "sleep": slept.append}),
    )
    config = dataclasses.replace(QUICK, cooldown_seconds=7.0, threads=(1,), rounds=1)
    found = fleet.measure(files_of(run, "int8"), [phone_of(standin)], config, FakeBackend(), Kept(), told.append)
    assert {name for name, value in found.rows[0].validity.items() if value} == {
        "throttled", "not_cooled", "frequency_scaled"
    }  # fmt: skip
    assert len(slept) == 2
    assert any("waits until it is cool (thermal status 3, battery 27.4 degrees)" in line for line in told)


def test_sustained_runs_are_one_long_turn(run, standin) -> None:
    backend = FakeBackend()
    config = dataclasses.replace(QUICK, sustained_seconds=300.0, threads=(1,))
    found, _ = measured(run, [standin], config=config, backend=backend)
    ((_, job),) = backend.jobs
    assert (job.repeats, job.min_seconds, job.max_seconds) == (50, 300.0, 450.0)
    assert (found.rows[0].mode, found.rows[0].validity["partial"]) == ("sustained", False)
    assert found.rows[0].key.endswith("-sustained")


def test_a_back_end_that_keeps_no_samples_has_one_turn_and_a_summary(run, standin, tmp_path) -> None:
    backend = FakeBackend(
        change=lambda o: dataclasses.replace(o, wall_ms=(), output=None, summary=Summary(50, p50_ms=3.0))
    )
    backend.name = "benchmark_model"
    config = dataclasses.replace(QUICK, backend="benchmark_model", benchmark_model=tmp_path / "tool", threads=(1,))
    found, _ = measured(run, [standin], config=config, backend=backend)
    ((_, job),) = backend.jobs
    assert job.repeats == 50
    row = found.rows[0]
    assert (row.wall_ms, row.percentile_ms(50), row.output, row.validity["partial"]) == ((), 3.0, None, False)
    assert "noisy" not in row.validity
    assert not row.validity["few_runs"]


def test_runs_cut_short_by_the_time_limit_are_flagged(run, standin) -> None:
    backend = FakeBackend(change=lambda outcome: dataclasses.replace(outcome, wall_ms=outcome.wall_ms[:20]))
    found, _ = measured(run, [standin], backend=backend)
    assert [(len(row.wall_ms), row.validity["few_runs"]) for row in found.rows] == [(40, True)] * 2


def test_fewer_runs_than_asked_for_are_flagged_though_they_are_many(run, standin) -> None:
    backend = FakeBackend(change=lambda outcome: dataclasses.replace(outcome, wall_ms=outcome.wall_ms[:40]))
    config = dataclasses.replace(QUICK, repeats=100, threads=(1,))
    found, kept = measured(run, [standin], config=config, backend=backend)
    (row,) = found.rows
    assert (len(row.wall_ms), row.validity["few_runs"], row.validity["cut_short"]) == (80, False, True)
    assert kept[0][0].validity["cut_short"], "40 of the round's 50"
    found, kept = measured(run, [standin], config=config)
    assert [row.validity["cut_short"] for row, _ in kept] == [False] * 4, "a round that was not run is not cut short"


def test_a_summary_of_fewer_runs_is_flagged_too(run, standin, tmp_path) -> None:
    backend = FakeBackend(change=lambda o: dataclasses.replace(o, wall_ms=(), summary=Summary(60, p50_ms=3.0)))
    backend.name = "benchmark_model"
    for repeats, cut in ((60, False), (61, True)):
        config = dataclasses.replace(
            QUICK, repeats=repeats, backend="benchmark_model", benchmark_model=tmp_path / "tool", threads=(1,)
        )
        found, _ = measured(run, [standin], config=config, backend=backend)
        assert found.rows[0].validity["cut_short"] is cut


def test_a_phone_that_does_not_tell_its_fast_cores_is_measured_unpinned(run, standin) -> None:
    standin.remove("sysfs/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq")
    told: list[str] = []
    backend, config = FakeBackend(), dataclasses.replace(QUICK, threads=(1,))

    def rows(config):
        files, phones = files_of(run, "int8"), [phone_of(standin)]
        return fleet.measure(files, phones, config, backend, Kept(), told.append)

    (row,) = rows(config).rows
    assert (row.affinity, row.validity["unpinned"], backend.jobs[-1][1].affinity) == ("", True, "")
    assert sum("not pinned to the fast ones" in line for line in told) == 1
    (row,) = rows(dataclasses.replace(config, affinity="all")).rows
    assert (row.affinity, row.validity["unpinned"]) == ("", False)
    refused = rows(dataclasses.replace(config, affinity="big"))
    assert refused.rows == ()
    assert "does not tell how fast its cores are; give --affinity all" in refused.failures[0]


class Proxy:
    """Counts the same instructions of every file; `broken` is the format of one that does not run."""

    name = "arm64_insn_proxy"
    device = Device("emulated", "arm64-cortex-a76-insn", "Cortex-A76 (QEMU)", 1, "qemu")
    broken = ""

    def __init__(self, cpu: str) -> None:
        assert cpu == "cortex-a76"

    def prepare(self) -> None:
        pass

    def run(self, job) -> Outcome:
        assert (job.remote, job.affinity, job.threads) == ("", "", 1)
        if job.artifact.format == self.broken:
            raise UserError("it does not run")
        return Outcome("LiteRT", job.delegate, "qemu", "log", instructions=1_338_285, flags={"unsteady": False})


def test_the_emulated_one_needs_no_phone_and_has_no_times(run, root, monkeypatch) -> None:
    monkeypatch.setattr(emulation, "InstructionProxy", Proxy)
    monkeypatch.setattr(Proxy, "broken", "float32")
    found = any_device.measure_run(run, root, emulation.Config(delegates=("xnnpack", "builtin")))
    assert len(found.rows) == 4
    row = found.rows[0]
    assert (row.instructions, row.wall_ms, row.before, row.device.kind) == (1_338_285, (), None, "emulated")
    assert (row.delegate, row.threads, row.backend) == ("xnnpack", 1, "arm64_insn_proxy")
    assert row.validity == {"unsteady": False, "output_unchecked": True}
    assert (root / run.model / "measurements" / row.log).read_text() == "$ qemu\nlog\n"
    assert found.failures == tuple(f"mobilenet_v2_0.35 float32, {d}: it does not run" for d in ("xnnpack", "builtin"))
    for options, words in (
        ({"cpu": "cortex-a77"}, "did you mean cortex-a7"),
        ({"delegates": ("gpu",)}, "no delegate named 'gpu'"),
        ({"formats": ("int9",)}, "did you mean int8"),
    ):
        with pytest.raises(UnknownName, match=words):
            emulation.Config(**options)


def test_one_process_at_a_time_measures_a_device(run, standin) -> None:
    refused: list[str] = []

    def second(phone, job) -> None:
        if not refused:
            refused.append("")  # the second measurement must not begin a third
            found, _ = measured(run, [standin])
            refused[:] = found.failures

    found, _ = measured(run, [standin], backend=FakeBackend(second))
    assert found.failures == ()
    assert "another process is measuring android-loop-device-" in refused[0]


def test_an_interruption_ends_it_after_the_call_under_way(run, standin, tmp_path) -> None:
    backend = FakeBackend()
    kept = []

    def interrupted(row, log) -> None:
        kept.append(row)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet.measure(files_of(run), [phone_of(standin)], QUICK, backend, Kept(interrupted))
    assert len(kept) == len(backend.jobs) == 1


def interrupted_after(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_an_interruption_ends_a_long_call_at_once(run, standin) -> None:
    """As Ctrl-C does: the signal comes to the main thread while another waits for the device."""

    def long(phone, job) -> None:
        interrupted_after(0.3)
        phone.shell("sleep 40")

    told: list[str] = []
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fleet.measure(files_of(run), [phone_of(standin)], QUICK, FakeBackend(long), Kept(), told.append)
    assert time.monotonic() - start < 20
    assert not [line for line in told if "failed" in line]


def test_an_interruption_ends_the_wait_for_a_cool_device_and_nothing_is_run(run, standin, monkeypatch) -> None:
    standin.write("thermal_status", "3")
    monkeypatch.setattr(guards, "POLL_S", 40.0)
    backend = FakeBackend()
    config = dataclasses.replace(QUICK, cooldown_seconds=80.0)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fleet.measure(
            files_of(run, "int8"),
            [phone_of(standin)],
            config,
            backend,
            Kept(),
            lambda line: interrupted_after(0.3) if "waits until it is cool" in line else None,
        )
    assert time.monotonic() - start < 20
    assert backend.jobs == []


def test_files_are_refused_that_are_not_what_they_should_be(run, standin) -> None:
    (path, artifact), *_ = files_of(run, "int8")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match="is not the file its artifact describes; export it again"):
        fleet.measure([File(path, artifact)], [phone_of(standin)], QUICK, FakeBackend(), Kept())
    with pytest.raises(UnknownName, match="no delegate of native named 'gpuu'; did you mean gpu"):
        measured(run, [standin], config=dataclasses.replace(QUICK, delegates=("gpuu",)))


def test_rows_and_logs_are_on_disk_and_found_again(run, root, standin, monkeypatch) -> None:
    backend = FakeBackend()
    monkeypatch.setattr(fleet, "backend_of", lambda config: backend)
    config = dataclasses.replace(QUICK, adb=str(standin.client), formats=("int8",))
    told: list[str] = []
    found = any_device.measure_run(run, root, config, log=told.append)
    assert sorted(found.rows, key=lambda row: row.key) == measurements.measurements(root, "mobilenet_v2_0.35")
    for row in found.rows:
        assert "$ ./runner" in (root / row.model / "measurements" / row.log).read_text()
    assert not list(root.rglob("*.tmp"))
    assert any("int8, xnnpack, 1 thread: p50 1.01 ms" in line for line in told)
    backend.before = lambda phone, job: phone.check("echo no such kernel >&2; exit 1")
    with pytest.raises(UserError, match="no such kernel"):
        any_device.measure_run(run, root, config)
    with pytest.raises(UserError, match="has no float16 file; it has float32, int8, uint8"):
        any_device.measure_run(run, root, dataclasses.replace(config, formats=("float16",)))
    with pytest.raises(UserError, match="is no export run; try: make export MODEL=mobilenet_v2_0.35"):
        any_device.measure_run(run.chain[0], root, config)


def test_an_attempt_that_fails_does_not_take_the_place_of_a_whole_row(run, root, standin, monkeypatch) -> None:
    backend = FakeBackend()
    monkeypatch.setattr(fleet, "backend_of", lambda config: backend)
    config = dataclasses.replace(QUICK, adb=str(standin.client), formats=("int8",), threads=(1,))
    (whole,) = any_device.measure_run(run, root, config).rows
    directory = root / run.model / measurements.MEASUREMENTS
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert set(before) == {f"{whole.key}.json", f"{whole.key}.log"}

    def unplug(phone, job) -> None:
        if len(backend.jobs) == 4:  # the second attempt's second round
            standin.devices()
            standin.write("silent.shell")

    backend.before = unplug
    (partial,) = any_device.measure_run(run, root, config).rows
    assert (len(partial.wall_ms), partial.log) == (25, f"{whole.key}.partial.log")
    now = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert {name: now.pop(name) for name in before} == before
    assert set(now) == {f"{whole.key}.partial.json", f"{whole.key}.partial.log"}
    assert measurements.measurements(root, run.model) == [whole, partial]
    shown = measured_rows.measured(root, run.model).whole()
    assert {row.key: "partial" in row.flags for row in shown} == {whole.key: False, f"{whole.key}.partial": True}

    standin.remove("silent.shell")
    standin.devices("SERIAL-A device model:Loop_Device transport_id:1")
    backend.before = lambda phone, job: None
    (again,) = any_device.measure_run(run, root, config).rows
    assert measurements.measurements(root, run.model) == [again]
    assert sorted(path.name for path in directory.iterdir()) == sorted(before)


def test_what_was_said_by_a_file_that_does_not_run_is_on_disk(run, root, standin, monkeypatch) -> None:
    def refuse(phone, job) -> None:
        if job.artifact.format == "int8" and len(backend.jobs) > first:
            command = "./runner model.int8.tflite"
            raise RunFailed("it does not run", command=command, log="dlopen: no libc.so.6\nstatus 127")

    first, backend = 2, FakeBackend(refuse)
    monkeypatch.setattr(fleet, "backend_of", lambda config: backend)
    config = dataclasses.replace(QUICK, adb=str(standin.client), formats=("int8", "float32"), threads=(1,))
    found = any_device.measure_run(run, root, config)
    (line,) = found.failures
    log = root / run.model / measurements.MEASUREMENTS / f"{found.rows[0].key}.failed.log"
    if found.rows[0].format != "int8":
        log = root / run.model / measurements.MEASUREMENTS / f"{found.rows[1].key}.failed.log"
    assert line.endswith(f"mobilenet_v2_0.35 int8, xnnpack, 1 thread: it does not run; its log: {log}")
    text = log.read_text()
    assert "ran 25 times" in text, "of the round that went well"
    assert "round 2 of 2\n$ ./runner model.int8.tflite\ndlopen: no libc.so.6\nstatus 127\n# it does not run" in text
    first, backend.jobs = 0, []
    log.unlink()
    assert str(log) in any_device.measure_run(run, root, config).failures[0], "also where it fails at once"
    assert "dlopen: no libc.so.6" in log.read_text()
    backend.before = lambda phone, job: None
    any_device.measure_run(run, root, config)
    assert not log.exists()


def test_a_full_disk_of_this_computer_ends_it_in_one_line(run, root, standin, monkeypatch) -> None:
    backend = FakeBackend()

    def full(handle) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fleet, "backend_of", lambda config: backend)
    monkeypatch.setattr(os, "fsync", full)
    config = dataclasses.replace(QUICK, adb=str(standin.client), formats=("int8",))
    with pytest.raises(UserError, match=r"measurements cannot be written \(No space left on device\); make room"):
        any_device.measure_run(run, root, config)
    assert len(backend.jobs) == 1, "there is no sense in measuring what cannot be kept"


def test_one_phone_that_is_listed_twice_is_measured_once(run, root, standin, monkeypatch) -> None:
    backend, told = FakeBackend(), []
    monkeypatch.setattr(fleet, "backend_of", lambda config: backend)
    properties = standin.folder / "bin/getprop"
    properties.write_text(
        properties.read_text().replace("[ro.soc.model]", "[ro.serialno]: [SERIAL-A]\n[ro.soc.model]")
    )
    standin.devices("10.0.0.7:5555 device transport_id:2", "SERIAL-A device usb:1-2 transport_id:1")
    config = dataclasses.replace(QUICK, adb=str(standin.client), formats=("int8",), threads=(1,))
    found = any_device.measure_run(run, root, config, log=told.append)
    assert (len(found.rows), found.failures) == (1, ())
    assert {serial for serial, _ in backend.jobs} == {"SERIAL-A"}
    assert sum(line.startswith("left out: 10.0.0.7:5555, since it is android-loop-device-") for line in told) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "nativ"}, "did you mean native"),
        ({"repeats": 49}, "repeats must be at least 50, not 49"),
        ({"rounds": 0}, "rounds must be from 1 to 100, the repeats, not 0"),
        ({"threads": ()}, "threads must be numbers of at least 1"),
        ({"formats": ("int9",)}, "did you mean int8"),
        ({"affinity": "bigg"}, "affinity must be big, little, all or a mask of cores as f0, not 'bigg'"),
        ({"affinity": "big", "backend": "litert_app"}, "litert_app cannot choose cores; leave --affinity big away"),
        ({"backend": "ai_edge_litert"}, "back end ai_edge_litert is for --device host, not for phones"),
        ({"backend": "arm64_insn_proxy"}, "back end arm64_insn_proxy is for --device emulated, not for phones"),
        ({"backend": "litert_app", "profile": True}, "cannot profile operators; take native or benchmark_model"),
        ({"apk": Path("a.apk")}, "--apk is for --backend litert_app, not for native"),
        ({"require_full_delegation": True}, "--require-full-delegation is for --backend benchmark_model, not for"),
        ({"max_seconds": 0.5}, "max_seconds must be 1 or more"),
        ({"cooldown_seconds": -1.0}, "cooldown_seconds must be 0 or more"),
    ],
)
def test_options_that_cannot_be(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        phone_options.Config(**options)


def test_every_back_end_of_the_table_can_be_made(tmp_path) -> None:
    with pytest.raises(UserError, match="needs the tool's binary for Android; give it: --benchmark-model PATH"):
        fleet.backend_of(phone_options.Config(backend="benchmark_model"))
    tool = tmp_path / "benchmark_model"
    tool.write_bytes(b"\x7fELF" + bytes(60))
    more = {"benchmark_model": {"benchmark_model": tool}}
    for facts in backends.TABLE:
        assert importlib.util.find_spec(f"tfcompact.measure.{facts.module}"), facts.name
    for name in phone_options.CHOICES:
        backend = fleet.backend_of(phone_options.Config(backend=name, **more.get(name, {})))
        assert backend.name == name
        assert backend.delegates


def refused(capsys, *words: object) -> str:
    """The last line that a refused command prints; the others are its progress."""
    assert main.main(["measure", *map(str, words)]) == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("tfcompact measure: ")


def test_an_option_of_another_device_is_refused(capsys, run) -> None:
    for words, line in (
        (["--affinity", "big"], "--affinity is an option of --device android, not of host"),
        (["--device", "android", "--images", 5], "--images is an option of --device host, not of android"),
        (["--device", "android", "--data=x"], "--data is an option of --device host, not of android"),
        (["--device", "android", "--no-skip_unreadable"], "--skip-unreadable is an option of --device host, not of"),
        (["--device", "emulated", "--threads", 1], "--threads is an option of --device host or android, not of"),
        (["--device", "android", "--cpu", "cortex-a53"], "--cpu is an option of --device emulated, not of android"),
        (["--device", "android", "--backend", "arm64_insn_proxy"], "is for --device emulated, not for phones"),
        (["--device", "emulated", "--backend=native"], "--backend is an option of --device android, not of emulated"),
        (["--model", "mobilenet_v2"], f"give {run.path} or --model, not both"),
    ):
        assert line in refused(capsys, run.path, *words)
    assert "is no directory of an export run; tfcompact runs lists them" in refused(capsys, run.path.parent)


def test_one_command_prints_a_table(capsys, run, root, standin, monkeypatch) -> None:
    def refuse(phone, job) -> None:
        if job.artifact.format == "float32":
            raise UserError("not this one")

    monkeypatch.setattr(fleet, "backend_of", lambda config: FakeBackend(refuse))
    words = [run.path, "--device", "android", "--adb", standin.client, "--repeats", 50, "--cooldown-seconds", 0]
    assert main.main(["measure", *map(str, words)]) == 2
    shown = capsys.readouterr()
    assert "int8" in shown.out
    assert "1.01" in shown.out  # the median of three times 17 samples, 1.008
    assert "XNNPACK by native, 1 thread" in " ".join(shown.out.split())
    assert shown.err.count("\n") == 1 or "INFO" in shown.err
    assert "1 failed, the rest is saved; the first: " in shown.err
    named = ["--model", run.model, "--runs", root, "--parent", run.name, *words[1:], "--formats", "uint8"]
    assert main.main(["measure", *map(str, named)]) == 0


def test_the_call_in_python_and_the_command_give_the_same(capsys, run, root, standin, monkeypatch) -> None:
    def refuse(phone, job) -> None:
        if job.artifact.format == "float32":
            raise UserError("not this one")

    def saved() -> list[Measurement]:
        rows = measurements.measurements(root, run.model)
        return sorted((dataclasses.replace(row, started="") for row in rows), key=lambda row: row.key)

    monkeypatch.setattr(fleet, "backend_of", lambda config: FakeBackend(refuse))
    config = phone_options.Config(adb=str(standin.client), repeats=50, cooldown_seconds=0.0, threads=(1, 2))
    called = Pipeline(Target(model=run.model, runs=root)).measure(config)
    assert sorted((dataclasses.replace(row, started="") for row in called.rows), key=lambda row: row.key) == saved()
    assert [row.format for row in called.rows] == ["int8", "int8", "uint8", "uint8"]
    assert len(called.failures) == 2
    by_call = saved()
    for old in (root / run.model / "measurements").iterdir():
        old.unlink()
    words = ["--device", "android", "--adb", standin.client, "--repeats", 50, "--cooldown-seconds", 0]
    line = refused(capsys, run.path, *words, "--threads", 1, 2)
    assert saved() == by_call
    assert line == f"2 failed, the rest is saved; the first: {called.failures[0]}"


def test_phones_are_measured_without_tensorflow(run, standin) -> None:
    """The whole way of the command, up to a phone that is not there."""
    standin.devices()
    words = ["measure", str(run.path), "--device", "android", "--adb", str(standin.client)]
    code = f"import sys\nfrom tfcompact.cli import main\nmain.main({words})\nprint('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "no Android device is connected" in done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_accuracy_is_this_computers_unless_the_device_answers_otherwise(tmp_path, standin, monkeypatch) -> None:
    root = tmp_path / "whole"
    fake_runs.build(root, FAKES)
    here = {row.artifact_sha256: row.accuracy for row in measurements.measurements(root) if row.accuracy}
    run = store.newest(root, "mobilenet_v2_0.35", lambda run: bool(run.artifacts))
    config = dataclasses.replace(QUICK, adb=str(standin.client), formats=("int8",), threads=(1,))
    told: list[str] = []

    def row_of(change):
        monkeypatch.setattr(fleet, "backend_of", lambda config: FakeBackend(change=change))
        (row,) = any_device.measure_run(run, root, config, log=told.append).rows
        return row

    same = row_of(lambda outcome: outcome)
    assert same.accuracy == here[same.artifact_sha256]
    assert not same.validity["output_unchecked"]
    other = row_of(lambda outcome: dataclasses.replace(outcome, output=bytes(reversed(outcome.output))))
    assert (other.accuracy, other.validity["output_differs"]) == (None, True)
    unseen = row_of(lambda outcome: dataclasses.replace(outcome, output=None))
    assert unseen.validity["output_unchecked"]
    assert not [line for line in told if "no accuracy" in line]
    for file in (root / run.model / "measurements").glob("*.json"):
        file.write_text("{}")  # damaged: told by reports, no obstacle here
    assert row_of(lambda outcome: outcome).accuracy is None
    assert "no accuracy of int8 yet, so none in these rows; first: make measure MODEL=mobilenet_v2_0.35" in told


def test_a_lit_screen_is_no_warning_for_a_back_end_that_needs_it(run, standin, monkeypatch) -> None:
    flags = guards.flags
    monkeypatch.setattr(guards, "flags", lambda *readings: flags(*readings) | {"screen_on": True})
    plain, needing = FakeBackend(), FakeBackend()
    needing.name = "litert_app"
    one, other = (measured(run, [standin], backend=backend)[0].rows[0] for backend in (plain, needing))
    assert one.validity["screen_on"] is True
    assert "screen_on" not in other.validity
