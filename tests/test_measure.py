"""Measurements keep every sample, know what machine they are of, and say what could be wrong with them."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys

import fake_runs
import numpy as np
import psutil
import pytest

from tfcompact.errors import UnknownName, UserError
from tfcompact.frameworks import keras, tf
from tfcompact.measure import any_device, host, samples, this_computer
from tfcompact.measure.accuracy import TestImages
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.measurement import Measurement
from tfcompact.runs import measurements, store
from tfcompact.tflite import metadata, runtime
from tfcompact.tflite.first_run import first_run

PX, LABELS = 32, tuple("abcdefg")
QUICK = host.Config(warmup=2, repeats=50, min_seconds=0.0)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory) -> list[host.Subject]:
    """A float32 file and, four times as heavy, another."""
    folder = tmp_path_factory.mktemp("measure")
    found = []
    for name, channels in (("light", 8), ("heavy", 32)):
        keras.utils.set_random_seed(0)
        x = inputs = keras.Input((PX, PX, 3))
        for _ in range(3):
            x = keras.layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = keras.layers.Dense(len(LABELS), activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
        network = keras.Model(inputs, x)
        function = tf.function(network).get_concrete_function(tf.TensorSpec((1, PX, PX, 3)))
        plain = tf.lite.TFLiteConverter.from_concrete_functions([function], network).convert()
        content = metadata.attach(plain, name=name, description="", labels=LABELS, normalization=Normalization())
        path = folder / f"{name}.tflite"
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        artifact = Artifact(
            name, "export-12345678", path.name, "float32", digest, len(content), PX, len(LABELS), Normalization()
        )
        found.append(host.Subject(path, artifact))
    return found


@pytest.fixture(scope="module")
def rows(subjects) -> list[Measurement]:
    return host.measure_interleaved(subjects, QUICK)


def measured(subject: host.Subject, config: host.Config | None = None) -> Measurement:
    (row,) = host.measure_interleaved([subject], config)
    return row


def test_every_sample_is_kept_for_every_subject(rows) -> None:
    assert [row.model for row in rows] == ["light", "heavy"]
    for row in rows:
        assert len(row.wall_ms) == len(row.process_ms) == 50
        assert min(row.wall_ms) > 0


def test_the_heavier_network_takes_longer(rows) -> None:
    light, heavy = rows
    assert heavy.percentile_ms(50) > 2 * light.percentile_ms(50)


def test_a_row_says_what_and_where(rows, subjects) -> None:
    row, artifact = rows[0], subjects[0].artifact
    assert (row.artifact_sha256, row.artifact_bytes, row.image_px) == (artifact.sha256, artifact.bytes, PX)
    assert (row.delegate, row.threads, row.warmup_runs, row.accuracy) == ("xnnpack", 1, 2, None)
    assert re.fullmatch(r"ai-edge-litert \d+\.\d+\.\d+", row.runtime)
    assert (row.xnnpack_partitions, row.delegated_nodes, row.total_nodes) == (1, 6, 6)
    assert re.fullmatch(r"host(-[a-z0-9]+)+", row.device.name)
    assert row.device.cores >= 1
    assert set(row.validity) == {
        "noisy", "drifting", "others_running", "threads_exceed_cores", "frequency_scaled", "virtual_machine"
    }  # fmt: skip
    assert Measurement.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_the_softmax_can_be_left_out_of_what_is_timed(subjects) -> None:
    row = measured(host.Subject(subjects[0].path, subjects[0].artifact, softmax=False), QUICK)
    assert (row.softmax, row.total_nodes, len(row.wall_ms)) == (False, 5, 50)
    assert row.key.endswith("-1t-logits")


def test_min_seconds_asks_for_more_runs(subjects) -> None:
    row = measured(subjects[0], host.Config(warmup=1, repeats=50, min_seconds=0.2))
    assert sum(row.wall_ms) >= 200
    assert len(row.wall_ms) > 50


def test_turns_rotate_so_that_nobody_is_always_first(subjects, monkeypatch) -> None:
    order = []
    monkeypatch.setattr(
        host._Timed,
        "take_turn",
        lambda timed: (order.append(timed.subject.artifact.model), timed.wall_ns.extend([1] * 5)),
    )
    monkeypatch.setattr(host._Timed, "row", lambda *_: None)
    host.measure_interleaved(subjects, QUICK)
    assert order[:6] == ["light", "heavy", "heavy", "light", "light", "heavy"]


def test_peak_memory_is_the_files_own(subjects) -> None:
    """Not of this process, which holds TensorFlow and whose peak a child inherits in `ru_maxrss`."""
    found = first_run(subjects[0].path)
    assert 20 < found < 150 < psutil.Process().memory_info().rss / 1e6


def test_accuracy_counts_first_and_first_five(subjects) -> None:
    path = subjects[0].path
    images = np.random.default_rng(0).integers(0, 256, (20, PX, PX, 3), np.uint8)
    order = np.argsort(-runtime.LiteModel(path)(images), axis=1, kind="stable")
    labels = order[:, 0].copy()
    labels[:4] = order[:4, 3]  # among the first five
    labels[4:6] = order[4:6, 6]  # not even there
    test = TestImages(lambda: [(images[:1], labels[:1]), (images[1:], labels[1:])], "test", "d" * 64)
    row = measured(host.Subject(path, subjects[0].artifact, test=test), QUICK)
    assert (row.accuracy.top1, row.accuracy.top5, row.accuracy.images) == (14 / 20, 18 / 20, 20)
    assert (row.accuracy.split, row.accuracy.data_digest) == ("test", "d" * 64)


def test_other_delegates_have_no_partitions(subjects) -> None:
    row = measured(host.Subject(subjects[0].path, subjects[0].artifact, 2, "reference"), QUICK)
    assert (row.delegate, row.threads, row.xnnpack_partitions) == ("reference", 2, None)


@pytest.mark.parametrize(
    ("times", "flag"),
    [([10] * 80 + [20] * 20, "noisy"), ([10] * 50 + [12] * 50, "drifting"), ([10, 11] * 50, None)],
)
def test_flags_follow_the_samples(times: list[int], flag: str | None) -> None:
    flags = samples.steadiness(times)
    assert {name for name, raised in flags.items() if raised} == ({flag} if flag else set())
    assert samples.steadiness(times[:1]) == {}


def test_flags_follow_what_the_computer_does_beside() -> None:
    cores = this_computer.this_device().cores
    quiet = this_computer.flags(threads=1, others_cores=0.1)
    assert [quiet["others_running"], quiet["threads_exceed_cores"]] == [False, False]
    busy = this_computer.flags(threads=cores + 1, others_cores=0.75 * cores)
    assert [busy["others_running"], busy["threads_exceed_cores"]] == [True, True]


def test_work_of_others_is_seen() -> None:
    command = "import time; end = time.time() + 1.5\nwhile time.time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", command]) as child:
        others = this_computer.OtherWork()
        child.wait()
        assert others.cores() > 0.5


@pytest.mark.parametrize(
    ("model_name", "expected"),
    [
        ("AMD EPYC 7B13", "host-amd-epyc-7b13"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "host-intel-xeon"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "host-amd-ryzen-9-7950x"),
        ("", "host-unknown"),
    ],
)
def test_the_name_of_a_device_fits_a_file_name(monkeypatch, model_name: str, expected: str) -> None:
    monkeypatch.setattr(this_computer, "_processor", lambda: model_name)
    assert this_computer.this_device.__wrapped__().name == expected


def test_errors_name_the_way_out(subjects, tmp_path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(subjects[0].path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"is not the file its artifact describes; export it again"):
        measured(host.Subject(path, subjects[0].artifact))
    with pytest.raises(UserError, match="repeats must be at least 50, not 49"):
        host.Config(repeats=49)
    with pytest.raises(UserError, match="threads must be numbers of at least 1"):
        host.Config(threads=(0,))
    with pytest.raises(UnknownName, match="did you mean reference"):
        host.Config(delegate="refrence")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"broken\.tflite cannot be run with delegate xnnpack \(.*\); export"):
        first_run(broken)


@pytest.fixture
def run(tmp_path) -> store.Run:
    """An export run without measurements."""
    fake_runs.build(tmp_path, tuple(fake for fake in fake_runs.FAKES if fake.model == "mobilenet_v2_0.35"))
    for old in tmp_path.glob("*/measurements/*.json"):
        old.unlink()
    found = store.newest(tmp_path, "mobilenet_v2_0.35", lambda run: bool(run.artifacts))
    whole = [
        artifact.to_json() | {"bytes": (found.path / artifact.path).stat().st_size} for artifact in found.artifacts
    ]
    (found.path / "artifacts.json").write_text(json.dumps(whole))
    return found


def test_a_run_is_measured_file_by_file_and_one_that_fails_does_not_stop_the_others(run, tmp_path) -> None:
    (run.path / "model.uint8.tflite").write_bytes(b"damaged")
    told: list[str] = []
    images = np.zeros((3, 32, 32, 3), np.uint8)
    asked = TestImages(lambda: [(images, np.array([5, 5, 0]))], "test", "d" * 64)
    config = dataclasses.replace(QUICK, images=2, threads=(1, 2))
    found = any_device.measure_run(run, tmp_path, config, test_images=lambda: asked, log=told.append)
    assert [(row.format, row.threads) for row in found.rows] == [
        ("float32", 1), ("int8", 1), ("float32", 2), ("int8", 2)
    ]  # fmt: skip
    assert measurements.measurements(tmp_path) == sorted(found.rows, key=lambda row: row.key)
    assert {(row.accuracy.images, row.accuracy.top1) for row in found.rows} == {(2, 1.0)}
    assert len(found.failures) == 2
    assert "model.uint8.tflite is not the file its artifact describes" in found.failures[0]
    assert told == [f"failed: {line}" for line in found.failures]


def test_only_files_of_the_formats_asked_for_are_measured(run, tmp_path) -> None:
    (row,) = any_device.measure_run(run, tmp_path, dataclasses.replace(QUICK, formats=("int8",))).rows
    assert (row.format, row.accuracy) == ("int8", None)
    with pytest.raises(UserError, match="has no float16 file; it has float32, int8, uint8"):
        any_device.measure_run(run, tmp_path, dataclasses.replace(QUICK, formats=("float16",)))
    (run.path / "model.int8.tflite").write_bytes(b"damaged")
    with pytest.raises(UserError, match="is not the file its artifact describes"):
        any_device.measure_run(run, tmp_path, dataclasses.replace(QUICK, formats=("int8",)))
    with pytest.raises(UserError, match="is no export run; try: make export MODEL=mobilenet_v2_0.35"):
        any_device.measure_run(run.chain[0], tmp_path, QUICK)


def test_the_first_of_the_test_images_are_as_many_as_asked_for() -> None:
    batches = [(np.full((2, 4, 4, 3), i, np.uint8), np.array([i, i])) for i in range(3)]
    images = TestImages(lambda: iter(batches), "test", "d")
    for count, sizes in ((None, [2, 2, 2]), (3, [2, 1]), (4, [2, 2]), (9, [2, 2, 2])):
        found = images.first(count)
        for _ in range(2):  # each call begins anew
            assert [len(labels) for _, labels in found.batches()] == sizes
