"""Latency tables: parts of a file, the sum that predicts it, and tables that survive an interruption."""

import collections
import dataclasses
import functools
import json
import random
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from android.standin import StandIn

from tfcompact.cli import main
from tfcompact.compress.quantization import calibration, for_xnnpack, wrapping
from tfcompact.compress.quantization.lowering import lower
from tfcompact.errors import UserError
from tfcompact.export import candidate, converter
from tfcompact.frameworks import keras
from tfcompact.latency import cost_table, meters, operator_bytes, phone_meter, probe_files, table_making
from tfcompact.latency.cost_table import Alone, Setting, Table
from tfcompact.measure.android import adb, fleet, phone_facts
from tfcompact.measure.backends.backend import Outcome
from tfcompact.measure.exclusive import exclusive
from tfcompact.models import blocks, space
from tfcompact.models.architecture import Architecture, Row, build
from tfcompact.records.artifact import Normalization
from tfcompact.records.device import Device, DeviceState
from tfcompact.records.measurement import Summary
from tfcompact.tflite import flatbuffer, fused_groups, runtime

HOST = Device("host", "host-x", "X", 2, "Linux")
PROXY = Device("emulated", "arm64-x-insn", "X", 1, "QEMU")
PHONE = Device("android", "android-x", "X", 8, "Android 15")
IN_MS = Setting(HOST, "ai_edge_litert", "runtime 1", "xnnpack", 1, "ms")
ARCHITECTURE = Architecture(
    px=32,
    width=1.0,
    classes=10,
    stem=8,
    head=32,
    rows=(
        Row(out=8, stride=1, repeats=2, expansion=2, kernel=3, squeeze=False, act="relu6"),
        Row(out=16, stride=2, repeats=1, expansion=3, kernel=5, squeeze=True, act="h_swish"),
    ),
)


@pytest.fixture(scope="module")
def network():
    return build(ARCHITECTURE)


@pytest.fixture(scope="module")
def content(network) -> bytes:
    return candidate.int8_file(network)


def same(configuration: str) -> str:
    """Without what a part alone has as a constant, because it takes one input only."""
    return configuration.replace("const ", "")


@functools.cache
def seen(content: bytes) -> fused_groups.Network:
    """What of a file decides its cost: tables ask for the same probes over and over."""
    return fused_groups.read(content)


OTHERS = 5000.0  # what other work between two runs costs the fake device


class Fake:
    """A device on which the sum holds exactly: a file costs 100, 10 for each piece of XNNPACK's, and its operators.

    `stop_after` files it is interrupted. `measured` counts how often each part was asked for.
    """

    together = 4

    def __init__(self, setting: Setting = IN_MS, stop_after: int | None = None) -> None:
        self.setting, self.stop_after = setting, stop_after
        self.measured: collections.Counter[str] = collections.Counter()

    def costs(self, files):
        if self.stop_after is not None and sum(self.measured.values()) >= self.stop_after:
            raise KeyboardInterrupt
        return [self.cost(file) for file in files]

    def costs_between(self, files):
        return [cost + OTHERS for cost in self.costs(files)]

    def cost(self, file: Path) -> float:
        found = seen(file.read_bytes())
        if len(found.configurations) == 1:
            self.measured[same(found.configurations[0])] += 1
        operators = sum(1 + zlib.crc32(same(text).encode()) % 1000 for text in found.configurations)
        return 100 + 10 * found.partitions + operators


def test_a_part_alone_is_the_same_part(content) -> None:
    for part in fused_groups.parts(content):
        (alone,) = fused_groups.parts(part.content)
        assert (same(alone.configuration), alone.delegated) == (same(part.configuration), part.delegated)
        interpreter = runtime.open_interpreter(part.content, 1, "xnnpack")
        assert len(interpreter.get_input_details()) == len(interpreter.get_output_details()) == 1
        interpreter.invoke()


def test_parts_are_all_operators_and_each_once(content) -> None:
    inside = [name for part in fused_groups.parts(content) for name in flatbuffer.operators(part.content)]
    assert collections.Counter(inside) == collections.Counter(flatbuffer.operators(content))
    assert sum(len(flatbuffer.operators(part.content)) > 1 for part in fused_groups.parts(content)) == 2


def test_what_xnnpack_makes_one_look_up_is_one_part(content) -> None:
    together = next(part.configuration for part in fused_groups.parts(content) if ";" in part.configuration)
    assert together == (
        "ADD int8[1,16,16,24] const int8[] -> int8[1,16,16,24] fusedActivationFunction=RELU6; "
        "MUL int8[1,16,16,24] <1> -> int8[1,16,16,24]"
    )


def test_padding_and_the_convolution_after_it_are_one_part() -> None:
    inputs = keras.layers.Input((16, 16, 3), name="image")
    x = keras.layers.ZeroPadding2D(1, name="pad")(inputs)
    x = blocks.conv(x, 8, 3, 2, padding="valid", name="stem")
    model = keras.Model(inputs, blocks.classifier(x, 10, dropout=0.0))
    found = [part.configuration for part in fused_groups.parts(candidate.int8_file(model))]
    assert [text.split()[0] for text in found] == ["PAD", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert "; CONV_2D <1> const int8/channel[8,3,3,3]" in found[0]


def test_other_delegates_run_operators_one_by_one(content) -> None:
    found = fused_groups.read(content, "builtin")
    assert len(found.configurations) == len(flatbuffer.operators(content))
    assert found.partitions == 0
    assert not any(fused_groups.PLAIN in text for text in found.configurations)


def test_what_xnnpack_leaves_out_is_told_apart(content) -> None:
    plain = [part for part in fused_groups.parts(content) if not part.delegated]
    assert [part.configuration for part in plain] == [
        "SOFTMAX int8[1,10] -> int8[1,10] beta=1.0" + fused_groups.PLAIN
    ]


def test_an_untrained_file_has_the_parts_of_a_calibrated_one(network, content) -> None:
    parent = lower(network)
    for layer in parent.layers:
        if getattr(layer, "use_bias", False):
            layer.bias.assign(np.full(layer.bias.shape, 0.01))
    qat = wrapping.quantized(parent)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    calibration.calibrate(qat, parent, [images], Normalization((128.0,), (127.5,)), 100)
    calibrated = converter.convert(for_xnnpack.shipped(qat), "int8", images)
    assert fused_groups.read(calibrated, "builtin") == fused_groups.read(content, "builtin")


def test_a_float16_file_is_refused(network) -> None:
    float16 = converter.convert(network, "float16", np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(UserError, match="give an int8 or float32 file"):
        fused_groups.parts(float16)


def test_the_sum_is_the_whole(content, tmp_path) -> None:
    device = Fake()
    table = table_making.make_table([("net", content)], device, tmp_path / "t.json", log=str)
    assert (table.invoke, table.partition) == (100, 10)
    whole = tmp_path / "net.tflite"
    whole.write_bytes(content)
    assert (
        table.predict(whole)
        == table.predict(content)
        == table.predict(fused_groups.read(content))
        == device.cost(whole)
    )
    assert {device.measured[same(text)] for text in table.alone} == {1}


def test_an_interrupted_table_goes_on_and_is_the_same(content, tmp_path) -> None:
    out, whole = tmp_path / "t.json", tmp_path / "whole.json"
    straight = Fake()
    table = table_making.make_table([("net", content)], straight, whole, log=str)
    overheads = set(straight.measured) - set(map(same, table.alone))
    first, second = Fake(stop_after=straight.measured.total() - 5), Fake()
    with pytest.raises(KeyboardInterrupt):
        table_making.make_table([("net", content)], first, out, log=str)
    assert not out.exists()
    kept = Table.load(tmp_path / "t.json.partial")
    assert kept.alone
    assert set(map(same, kept.alone)) == set(first.measured) - overheads
    table_making.make_table([("net", content)], second, out, log=str)
    assert not set(second.measured) & set(first.measured)
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.json", "whole.json"]


@pytest.mark.parametrize("setting", [IN_MS, dataclasses.replace(IN_MS, device=PROXY, unit="instructions")])
def test_a_table_says_what_fetching_weights_costs(setting, content, tmp_path) -> None:
    """On a device where each byte costs 1e-6 over and over, from the second megabyte on, and `OTHERS` for a file."""

    class Fetches(Fake):
        def cost(self, file: Path) -> float:
            network = seen(file.read_bytes())
            weights = sum(map(operator_bytes.weight_bytes, network.configurations))
            return super().cost(file) + (1e-6 * weights if weights > 1.2e6 else 0.0)

    table = table_making.make_table([("net", content)], Fetches(setting), tmp_path / "t.json", log=str)
    if setting.unit == "instructions":
        assert table.fetching == cost_table.Fetching()
        with pytest.raises(UserError, match="does not say what other work between runs costs"):
            table.predict(content, between=True)
        return
    sizes, costs = zip(*table.fetching.again, strict=True)
    assert sizes == tuple(count * probe_files.WEIGHTS for count in table_making.FETCHED[1:])
    assert costs[:2] == (0.0, 0.0)
    longest = table_making.FETCHED[-1] - 1
    assert costs[-1] == pytest.approx(1e-6 * sizes[-1] / (longest * probe_files.WEIGHTS))
    assert table.fetching.between == pytest.approx(costs[-1] + OTHERS / (longest * probe_files.WEIGHTS))
    assert Table.load(tmp_path / "t.json") == table


def test_fetched_weights_are_added_to_the_operators() -> None:
    """A byte costs 2 in this network, over and over, and 1 in its operator alone; 3 between other work."""
    small, large = "CONV_2D int8[1,1,1,4] const int8[25,1,1,4] -> int8[1,1,1,25]", "ADD const int32[300]"
    assert [operator_bytes.weight_bytes(text) for text in (small, large)] == [100, 1200]
    fetching = cost_table.Fetching(((100, 0.0), (1200, 1.0), (1300, 2.0)), 3.0)
    alone = {small: Alone(10.0, False), large: Alone(20.0, False)}
    table = Table(cost_table.SCHEMA, IN_MS, 0.0, 0.0, alone, fetching)
    network = fused_groups.Network((small, large), 0)
    assert table.predict(network) == 30 + 100 * 2 + 1200 * (2 - 1)
    assert table.predict(network, between=True) == 30 + 100 * 3 + 1200 * (3 - 1)
    assert table.predict(fused_groups.Network((large,), 0)) == 20
    moved = sum(map(operator_bytes.activation_bytes, network.configurations))
    assert moved == 4 + 25
    longer = dataclasses.replace(table, company=((moved - 1, 1.0), (moved + 1, 2.0)))
    assert longer.predict(network) == 45 + 100 * 2 + 1200 * (2 - 1)


def test_operators_take_longer_in_company(content, tmp_path) -> None:
    """On a device where every operator takes a tenth longer in a file with others, if these hand on enough."""

    class Distracted(Fake):
        def cost(self, file: Path) -> float:
            network = seen(file.read_bytes())
            alone = super().cost(file) - 100 - 10 * network.partitions
            moved = sum(map(operator_bytes.activation_bytes, network.configurations))
            distracted = len(set(network.configurations)) > 1 and moved > 5e6
            return 100 + 10 * network.partitions + alone * (1.1 if distracted else 1)

    table = table_making.make_table([("net", content)], Distracted(), tmp_path / "t.json", log=str)
    sizes, factors = zip(*table.company, strict=True)
    assert factors == pytest.approx((1.0, 1.0, 1.1, 1.1))
    assert list(sizes) == sorted(sizes)
    assert table.predict(content) == pytest.approx(Distracted().cost(_written(content, tmp_path)))


def _written(content: bytes, folder: Path) -> Path:
    path = folder / "x.tflite"
    path.write_bytes(content)
    return path


def test_a_finished_table_is_only_extended_when_asked(content, tmp_path) -> None:
    out = tmp_path / "t.json"
    table_making.make_table([("small", probe_files.chain("MAX_POOL_2D", 1))], Fake(), out, log=str)
    before = out.read_bytes()
    with pytest.raises(UserError, match="--extend"):
        table_making.make_table([("net", content)], Fake(), out, log=str)
    other = Fake(dataclasses.replace(IN_MS, threads=2))
    with pytest.raises(UserError, match="2 threads"):
        table_making.make_table([("net", content)], other, out, extend=True, log=str)
    assert out.read_bytes() == before
    device = Fake()
    table = table_making.make_table([("net", content)], device, out, extend=True, log=str)
    added = set(table.alone) - set(Table.from_json(json.loads(before)).alone)
    assert set(device.measured) == set(map(same, added))
    assert Table.load(out) == table


def test_an_unknown_operator_names_itself_and_the_remedy(content) -> None:
    table = Table(cost_table.SCHEMA, IN_MS, 1.0, 0.5)
    with pytest.raises(UserError, match=r"CONV_2D int8\[1,32,32,3\] .*not in the latency table .*--extend --models"):
        table.predict(content)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({}, ""),
        ({"delegate": "builtin", "threads": 2}, " --delegate builtin --threads 2"),
        (
            {"device": Device("emulated", "arm64-cortex-a53-insn", "X", 1, "QEMU"), "unit": "instructions"},
            " --device emulated --cpu cortex-a53",
        ),
        (
            {"device": PHONE, "threads": 4, "affinity": "f0"},
            " --device android --affinity f0 --threads 4",
        ),
        ({"device": PHONE}, " --device android --affinity all"),
    ],
)
def test_the_remedy_measures_in_the_tables_setting(content, change, options) -> None:
    table = Table(cost_table.SCHEMA, dataclasses.replace(IN_MS, **change), 1.0, 0.5)
    with pytest.raises(UserError) as told:
        table.predict(content)
    assert str(told.value).endswith(f"add with: tfcompact latency-table --extend --models MODEL --out TABLE{options}")


def test_an_emulated_device_never_says_ms() -> None:
    with pytest.raises(UserError, match="no latency"):
        dataclasses.replace(IN_MS, device=PROXY)
    with pytest.raises(UserError, match="instructions"):
        dataclasses.replace(IN_MS, unit="instructions")
    assert dataclasses.replace(IN_MS, device=PROXY, unit="instructions").unit == "instructions"
    with pytest.raises(UserError, match="unit"):
        dataclasses.replace(IN_MS, unit="us")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 9}, "schema 9"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"invoke": -1.0}, "cost of invoke"),
        ({"partition": float("nan")}, "cost of partition"),
        ({"alone": {"X": {"cost": -1.0, "delegated": True}}}, "cost of X"),
        ({"alone": {"X": {"cost": 1.0}}}, "row of 'X'"),
        ({"alone": {"X": {"cost": 1.0, "delegated": 1}}}, "row of 'X'"),
        ({"alone": []}, "not a latency table"),
        ({"setting": {"unit": "ms"}}, "missing"),
        (None, "not a latency table"),
    ],
)
def test_the_reader_is_strict(change, said, tmp_path) -> None:
    table = Table(cost_table.SCHEMA, IN_MS, 1.0, 0.5, {"X": Alone(2.0, True)})
    path = tmp_path / "t.json"
    table.save(path)
    assert Table.load(path) == table
    path.write_text("[1]" if change is None else json.dumps(table.to_json() | change))
    with pytest.raises(UserError, match=said):
        Table.load(path)


def test_ranks_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 8, 30)  # many are equal
    second = first + rng.normal(0, 2, 30)
    assert cost_table.rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_this_machine_takes_longer_for_more_work(tmp_path) -> None:
    files = [tmp_path / "short.tflite", tmp_path / "long.tflite"]
    files[0].write_bytes(probe_files.chain("SOFTMAX", 1, 4096))
    files[1].write_bytes(probe_files.chain("SOFTMAX", 32, 4096))
    device = meters.HostMeter()
    short, long = device.costs(files)
    assert 0 < 4 * short < long
    assert (device.setting.unit, device.setting.device.kind) == ("ms", "host")


class FakeBackend:
    """Ran everything by `delegate`; keeps no samples where `summary` is given."""

    name = "native"
    delegates = ("xnnpack",)

    def __init__(self, delegate: str = "xnnpack", summary: Summary | None = None) -> None:
        self.delegate, self.summary, self.jobs = delegate, summary, []

    def prepare(self, phone) -> None:
        self.jobs.clear()

    def run(self, phone, job) -> Outcome:
        self.jobs.append(job)
        samples = () if self.summary else (1.0, 9.0, 2.0)
        return Outcome("LiteRT 2", self.delegate, "", "", wall_ms=samples, summary=self.summary)


class FakePhone:
    """Tells nothing of itself. `there` are the files on it."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.tidied = False

    def push_by_sha256(self, path: Path) -> str:
        self.there.add(f"/data/local/tmp/{path.name}")
        return f"/data/local/tmp/{path.name}"

    def remove(self, pushed) -> None:
        self.there -= set(pushed)

    def forget_unused(self) -> None:
        self.tidied = True

    def ask(self, command: str) -> adb.Result:
        return adb.Result(0, "", "")


def test_a_phone_is_given_files_by_their_place_there_and_bytes_for_their_input(tmp_path) -> None:
    backend, file = FakeBackend(), tmp_path / "a.tflite"
    file.write_bytes(probe_files.chain("MAX_POOL_2D", 1, 24))
    meter = phone_meter.PhoneMeter(backend, FakePhone(), PHONE, threads=2, delegate="xnnpack", affinity="f0")
    assert meter.costs([file]) == [2.0]
    job = backend.jobs[-1]
    assert (len(job.image), job.remote, job.threads, job.affinity) == (96, "/data/local/tmp/a.tflite", 2, "f0")
    assert meter.setting == Setting(PHONE, "native", "LiteRT 2", "xnnpack", 2, "ms", "f0")


def test_nothing_of_a_table_stays_on_the_phone(tmp_path) -> None:
    class Refusing(FakeBackend):
        def run(self, phone, job) -> Outcome:
            assert job.remote in phone.there
            if job.path.name == "b.tflite":
                raise UserError("not this one")
            return super().run(phone, job)

    files = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    for file in files:
        file.write_bytes(probe_files.chain("MAX_POOL_2D", 1))
    one = FakePhone()
    one.there.add("another's")
    meter = phone_meter.PhoneMeter(Refusing(), one, PHONE)
    assert one.tidied
    assert one.there == {"another's"}
    meter.costs(files[:1])
    with pytest.raises(UserError, match="not this one"):
        meter.costs(files)
    assert one.there == {"another's"}


def state(caps: int = 2000, **others) -> phone_facts.Reading:
    return phone_facts.Reading(DeviceState(**others), (caps,))


def test_what_a_phone_measures_while_it_slows_down_does_not_count(tmp_path, monkeypatch) -> None:
    """Each call of `costs` reads the state before and after the files, and waits before."""
    file, told = tmp_path / "a.tflite", []
    file.write_bytes(probe_files.chain("MAX_POOL_2D", 1))
    backend = FakeBackend()
    meter = phone_meter.PhoneMeter(backend, FakePhone(), PHONE, cooldown_seconds=60.0, tell=told.append)
    readings: list[phone_facts.Reading] = []
    slept: list[float] = []
    monkeypatch.setattr(phone_meter.phone_facts, "read", lambda one: readings.pop(0))
    wait = phone_meter.guards.cool_down
    monkeypatch.setattr(phone_meter.guards, "cool_down", lambda read, **kw: wait(read, **kw, sleep=slept.append))

    def jobs(*states: phone_facts.Reading) -> int:
        readings[:], before = states, len(backend.jobs)
        assert meter.costs([file]) == [2.0]
        assert readings == []
        return len(backend.jobs) - before

    cool, hot = state(thermal_status=0), state(thermal_status=2)
    assert jobs(cool, cool) == 1
    assert told == slept == []
    assert jobs(hot, hot, cool, cool) == 1
    assert (told, len(slept)) == (["android-x: waits until it is cool"], 2)
    told.clear()
    assert jobs(cool, hot, cool, cool) == 2
    assert told == ["android-x: throttled while 1 files were timed, so these times do not count"]
    assert jobs(cool, state(1800, thermal_status=0), cool, cool) == 2
    readings[:] = [cool, hot] * phone_meter.TRIES
    with pytest.raises(UserError, match=r"android-x was throttled in each of 3 tries .*--affinity little.*goes on"):
        meter.costs([file])


@pytest.fixture
def standin(tmp_path, monkeypatch) -> StandIn:
    monkeypatch.setattr("tfcompact.measure.android.phone.PAUSE_S", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fleet, "backend_of", lambda config: FakeBackend())
    return StandIn(tmp_path / "phone")


def test_a_phone_is_found_by_the_adb_that_was_named_and_no_other_process_measures_it(standin) -> None:
    standin.devices("R58M12ABCDE device transport_id:1", "0A171JEC unauthorized", "10.0.0.7:5555 device")
    properties = standin.folder / "bin/getprop"
    properties.write_text(properties.read_text().replace("[ro.soc.model]", "[ro.serialno]: [X]\n[ro.soc.model]"))
    told: list[str] = []
    config = meters.Config(device="android", adb=str(standin.client), adb_port=5137)
    with meters.meter(config, told.append) as meter:
        assert [line.split(",")[0] for line in told] == [
            "left out: device 0A171JEC has not allowed this computer; unlock its screen and accept the question "
            "about USB debugging",
            "left out: 10.0.0.7:5555",
        ]
        device = meter.setting.device
        assert (device.soc, meter.setting.affinity) == ("Loop 2", "2")
        with pytest.raises(UserError, match="another process is measuring"), exclusive(device.name, "measuring it"):
            pytest.fail("two at once")
    with exclusive(device.name, "measuring it"):
        pass
    assert all(line.startswith("-P 5137 ") for line in standin.calls("shell"))
    assert standin.stored() == []


def test_a_table_of_a_phone_that_does_not_tell_its_fast_cores(standin) -> None:
    standin.remove("sysfs/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq")
    told: list[str] = []
    with meters.meter(meters.Config(device="android", adb=str(standin.client)), told.append) as meter:
        assert meter.setting.affinity == ""
    (line,) = told
    assert "not pinned to the fast ones" in line


def test_a_phone_that_falls_back_is_no_measurement(tmp_path) -> None:
    with pytest.raises(UserError, match="by builtin instead of xnnpack"):
        phone_meter.PhoneMeter(FakeBackend("builtin"), FakePhone(), PHONE)
    softmax = tmp_path / "softmax.tflite"
    softmax.write_bytes(probe_files.chain("SOFTMAX", 1))
    meter = phone_meter.PhoneMeter(FakeBackend(summary=Summary(50, p50_ms=3.0)), FakePhone(), PHONE)
    meter._backend.delegate = "builtin"  # of an operator that XNNPACK does not take, it is the truth
    assert meter.costs([softmax]) == [3.0]
    meter._backend.summary = Summary(50)
    with pytest.raises(UserError, match="no median"):
        meter.costs([softmax])


TOML = """
px = [32]
width = [0.5, 1]
classes = 10
stem = 8
head = 32

[[rows]]
out = 8
stride = 2
expansion = [2, 3]
squeeze = [false, true]
repeats = [1, 2]

[[rows]]
out = 16
stride = 1
kernel = [3, 5]
act = ["h_swish"]
"""


def test_a_space_is_a_file_and_its_architectures_are_data(tmp_path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(TOML)
    found = space.Space.load(path)
    assert found.size == 2 * (4 * 2) * 2
    rng = random.Random(0)
    drawn = {json.dumps(found.sample(rng).to_json()) for _ in range(500)}
    assert len(drawn) == found.size
    architecture = found.sample(rng)
    assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture
    assert len(found.covering()) == 2 * 4
    (tmp_path / "space.json").write_text(json.dumps(found.to_json()))
    assert space.Space.load(tmp_path / "space.json") == found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kernel = [3, 5]", "kernel = [3, 4]", "space.toml: kernel must be 3, 5 or 7, not 4"),
        ("stride = 1", "strides = 1", "unknown key 'strides'"),
        ("repeats = [1, 2]", "repeats = 2", "repeats must be a list"),
        ('act = ["h_swish"]', 'act = ["swish"]', "act must be one of"),
        ("px = [32]", "px = []", "px must be a list"),
        ("width = [0.5, 1]", "width = [0]", "width must be a positive number"),
        ("classes = 10", "classes = ", "cannot be read as toml"),
    ],
)
def test_a_wrong_space_is_told_in_one_line(old, new, said, tmp_path) -> None:
    path = tmp_path / "space.toml"
    assert old in TOML
    path.write_text(TOML.replace(old, new))
    with pytest.raises(UserError, match=said):
        space.Space.load(path)


@pytest.mark.slow
def test_few_networks_have_every_layer_of_the_space(tmp_path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(TOML.replace("width = [0.5, 1]", "width = [1]"))
    found = space.Space.load(path)

    def configurations(architecture) -> set[str]:
        return set(fused_groups.read(candidate.int8_file(build(architecture))).configurations)

    known = set().union(*map(configurations, found.covering()))
    rng = random.Random(1)
    others = {json.dumps(a.to_json()): a for a in (found.sample(rng) for _ in range(6))}
    for architecture in others.values():
        assert configurations(architecture) <= known


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="no qemu-aarch64: apt-get install qemu-user")
def test_instructions_of_a_network_are_the_sum_of_its_parts(content, tmp_path) -> None:
    """On an emulated Cortex-A76 the largest difference seen was 0.6 %."""
    try:
        device = meters.ProxyMeter("cortex-a76")
    except UserError as error:
        pytest.skip(str(error))
    table = table_making.make_table([("net", content)], device, tmp_path / "t.json", log=str)
    whole = tmp_path / "net.tflite"
    whole.write_bytes(content)
    assert table.predict(whole) == pytest.approx(device.costs([whole])[0], rel=0.02)
    assert table.setting.unit == "instructions"


def test_the_command_makes_a_table(content, tmp_path, capsys) -> None:
    file, out = tmp_path / "net.tflite", tmp_path / "tables" / "host.json"
    file.write_bytes(content)
    assert main.main(["latency-table", "--models", str(file), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    table = Table.load(out)
    assert set(table.alone) == set(fused_groups.read(file).configurations)
    assert table.predict(file) > 0
    assert [path.name for path in out.parent.iterdir()] == ["host.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --models or --space"),
        (["--models", "mobilenetv2"], "did you mean mobilenet_v2"),
        (["--models", "no.tflite"], "there is no file no.tflite"),
        (["--models", "mobilenet_v2", "--cpu", "cortex-a76"], "--cpu is an option of --device emulated"),
        (["--models", "mobilenet_v2", "--device", "emulated", "--threads", "2"], "counts one thread"),
        (["--models", "mobilenet_v2", "--adb", "adb"], "--adb is an option of --device android, not of host"),
        (["--models", "mobilenet_v2", "--adb-port", "5137"], "--adb-port is an option of --device android"),
        (["--models", "mobilenet_v2", "--device", "android", "--adb", "adbb"], "there is no program adbb"),
        (["--space", "no.toml"], "no.toml cannot be read"),
    ],
)
def test_the_command_tells_what_is_wrong(words, said, tmp_path, capsys) -> None:
    assert main.main(["latency-table", "--out", str(tmp_path / "t.json"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "t.json").exists()
