"""The records that flow through the pipeline: they round-trip through JSON and refuse what they do not know."""

import dataclasses
import json

import pytest

from tfcompact.errors import UnknownName, UserError
from tfcompact.records import backends
from tfcompact.records.artifact import Artifact, Normalization, Quantization
from tfcompact.records.device import Device, DeviceState
from tfcompact.records.measurement import SCHEMA, Accuracy, ColdStart, Measurement, OperatorTime, OutputCheck, Summary

ARTIFACT = Artifact(
    model="mobilenet_v2",
    run="export-00c0ffee",
    path="model.uint8.tflite",
    format="uint8",
    sha256="ab" * 32,
    bytes=1234,
    image_px=96,
    classes=5,
    normalization=Normalization((128.0,), (127.5,)),
    input=Quantization(1 / 127.5, 128),
    output=Quantization(1 / 256, 0),
    checks={"agreement": 0.99, "images": 200},
)
HOST = Device("host", "host-some-cpu", "Some CPU", 2, "Linux")


def measurement(**changes) -> Measurement:
    fields = {
        "schema": SCHEMA,
        "model": "mobilenet_v2",
        "run": "export-00c0ffee",
        "artifact": "model.uint8.tflite",
        "artifact_sha256": "ab" * 32,
        "artifact_bytes": 1234,
        "format": "uint8",
        "image_px": 96,
        "device": HOST,
        "runtime": "ai-edge-litert",
        "delegate": "xnnpack",
        "threads": 1,
        "warmup_runs": 10,
        "wall_ms": (3.0, 1.0, 2.0, 4.0),
        "process_ms": (3.0, 1.0, 2.0, 4.0),
        "xnnpack_partitions": 1,
        "delegated_nodes": 60,
        "total_nodes": 60,
        "peak_memory_mb": 70.5,
        "accuracy": Accuracy(0.9, 1.0, 200, "test", "cd" * 32),
        "started": "2020-01-01T00:00:00+00:00",
        "validity": {"noisy": False},
    }
    return Measurement(**(fields | changes))


@pytest.mark.parametrize(
    "record",
    [
        Normalization(),
        Normalization((123.0, 116.0, 103.0), (58.0, 57.0, 57.5), "bgr"),
        Quantization(0.25, -3),
        ARTIFACT,
        dataclasses.replace(ARTIFACT, format="float32", input=None, output=None, checks={}),
        HOST,
        Accuracy(0.5, 0.9, 10, "test", "ef"),
        measurement(),
        measurement(accuracy=None, xnnpack_partitions=None, peak_memory_mb=None, instructions=10**12),
        measurement(
            device=dataclasses.replace(HOST, kind="emulated"),
            backend="arm64_insn_proxy",
            wall_ms=(),
            process_ms=(),
            instructions=10**7,
        ),
        measurement(
            device=dataclasses.replace(HOST, kind="android", soc="Tensor G3", fingerprint="a/b:15/c"),
            backend="benchmark_model",
            mode="sustained",
            wall_ms=(),
            process_ms=(),
            summary=Summary(50, 1.5, 1.0, 2.0, 1.2, 0.1, 1.0, 1.1, 1.9),
            cold=ColdStart(None, 12.0, 3.0),
            operators=(OperatorTime("conv", "CONV_2D", 0.5, 0.4),),
            output=OutputCheck("aa", "ab", 1, 1 / 256),
            before=DeviceState(("schedutil",), (1_800_000,), 0, None, 80, 31.5, False, False, True, False),
            after=DeviceState(),
            affinity="f0",
            command="./benchmark_model --graph=model.tflite",
            log="row.log",
        ),
    ],
    ids=lambda record: type(record).__name__,
)
def test_records_round_trip_through_json(record) -> None:
    text = json.dumps(record.to_json())
    back = type(record).from_json(json.loads(text))
    assert back == record
    assert json.dumps(back.to_json()) == text


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ARTIFACT.path = "another"  # type: ignore[misc]


@pytest.mark.parametrize("record", [ARTIFACT, measurement(), HOST], ids=lambda record: type(record).__name__)
def test_unknown_keys_are_errors(record) -> None:
    name = type(record).__name__
    with pytest.raises(UserError, match=f"{name}: unknown key 'colour'; known: "):
        type(record).from_json(record.to_json() | {"colour": "red"})


def test_unknown_keys_inside_are_errors_too() -> None:
    row = measurement().to_json()
    row["device"]["colour"] = "red"
    with pytest.raises(UserError, match="Device: unknown key 'colour'"):
        Measurement.from_json(row)


def test_missing_keys_are_errors_and_defaults_may_be_missing() -> None:
    row = ARTIFACT.to_json()
    del row["checks"], row["input"]
    assert Artifact.from_json(row).checks == {}
    del row["sha256"]
    with pytest.raises(UserError, match="Artifact: key 'sha256' is missing"):
        Artifact.from_json(row)


@pytest.mark.parametrize(
    "times",
    [
        {"wall_ms": (1.0,)},
        {"process_ms": (1.0,)},
        {"summary": Summary(1)},
        {"cold": ColdStart(1.0, None, None)},
        {"operators": (OperatorTime("conv", "CONV_2D", 0.5, 0.4),)},
    ],
    ids=lambda times: next(iter(times)),
)
def test_an_emulated_device_has_no_latency(times: dict) -> None:
    emulated = {"device": dataclasses.replace(HOST, kind="emulated"), "backend": "arm64_insn_proxy"}
    with pytest.raises(UserError, match="emulated device has no latency"):
        measurement(**(emulated | {"wall_ms": (), "process_ms": ()} | times))


@pytest.mark.parametrize("backend", backends.TABLE, ids=lambda backend: backend.name)
@pytest.mark.parametrize("kind", ["host", "android", "emulated"])
def test_a_back_end_runs_on_one_kind_of_device(backend, kind: str) -> None:
    row = {"device": dataclasses.replace(HOST, kind=kind), "backend": backend.name, "wall_ms": (), "process_ms": ()}
    if kind == backend.device:
        assert measurement(**row).backend == backend.name
    else:
        with pytest.raises(UserError, match=f"{backend.name} runs on a device of kind {backend.device}, not {kind}"):
            measurement(**row)


def test_an_unknown_back_end_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no back end named 'benchmark'; did you mean benchmark_model"):
        measurement(backend="benchmark")
    assert [backends.default(kind).name for kind in ("host", "android", "emulated")] == [
        "ai_edge_litert", "native", "arm64_insn_proxy"
    ]  # fmt: skip


def test_rows_of_schema_1_are_still_read() -> None:
    old = measurement(schema=1).to_json()
    for name in ("backend", "mode", "summary", "cold", "operators", "output", "before", "after", "affinity"):
        del old[name]
    del old["command"], old["log"], old["device"]["soc"], old["device"]["fingerprint"]
    assert Measurement.from_json(old) == measurement(schema=1)


def test_what_may_differ_between_rows_is_in_their_names() -> None:
    android = dataclasses.replace(HOST, kind="android", name="android-a")
    options = (
        {},
        {"affinity": "f0"},
        {"affinity": "0f"},
        {"mode": "sustained"},
        {"backend": "litert_app"},
        {"threads": 2},
    )
    rows = [measurement(**{"device": android, "backend": "native"} | changes) for changes in options]
    assert len({row.key for row in rows}) == len(options)
    assert rows[1].key == "abababab-android-a-native-xnnpack-1t-f0"


def test_percentiles_of_a_summary() -> None:
    row = measurement(wall_ms=(), process_ms=(), summary=Summary(50, p5_ms=1.0, p50_ms=1.5))
    assert [row.percentile_ms(p) for p in (5, 50, 90, 95)] == [1.0, 1.5, None, None]


@pytest.mark.parametrize("sample", [float("nan"), float("inf"), -1.0])
def test_samples_are_finite_and_not_negative(sample: float) -> None:
    with pytest.raises(UserError, match="finite and not negative"):
        measurement(wall_ms=(1.0, sample))


def test_another_schema_is_not_read() -> None:
    with pytest.raises(UserError, match=f"schema {SCHEMA + 1}; this tfcompact reads 1 and {SCHEMA}"):
        measurement(schema=SCHEMA + 1)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 2.5), (90, 3.7), (100, 4.0)])
def test_percentiles_interpolate(percent: float, expected: float) -> None:
    assert measurement().percentile_ms(percent) == pytest.approx(expected)


def test_percentiles_of_nothing() -> None:
    assert measurement(wall_ms=(), process_ms=()).percentile_ms(50) is None
    assert measurement(wall_ms=(2.0,)).percentile_ms(99) == 2.0


def test_the_key_names_artifact_device_and_setting() -> None:
    assert measurement().key == "abababab-host-some-cpu-xnnpack-1t"
    assert len({measurement(**c).key for c in ({}, {"threads": 2}, {"delegate": "builtin"})}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1.0, 2.0),), "mean must have 1 or 3 values, not 2"),
        (((1.0,), (0.0,)), "std must be positive"),
        (((1.0,), (float("nan"),)), "std must be positive"),
        (((1.0,), (1.0,), "grb"), "rgb or bgr, not 'grb'"),
    ],
)
def test_senseless_normalizations_are_refused(arguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Normalization(*arguments)


def test_only_uniform_normalizations_are_called_so() -> None:
    assert Normalization().uniform
    assert Normalization((1.0,) * 3, (2.0,) * 3).uniform
    assert not Normalization((1.0, 1.0, 2.0), (2.0,)).uniform
    assert not Normalization((1.0,), (2.0, 2.0, 3.0)).uniform


def test_errors_are_user_errors_with_a_suggestion() -> None:
    error = UnknownName("stage", "quantise", ("fit", "quantize"))
    assert isinstance(error, UserError)
    assert str(error) == "no stage named 'quantise'; did you mean quantize?"
    assert str(UnknownName("stage", "zzz", ("fit", "quantize"))) == "no stage named 'zzz'; known: fit, quantize"
