"""Measurements keep every sample, know what machine they are of, and say what could be wrong with them."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import psutil
import pytest

from tfcompact.errors import UnknownName, UserError
from tfcompact.frameworks import keras, tf
from tfcompact.measure import host
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.measurement import Measurement
from tfcompact.tflite import metadata, runtime

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
    row = host.measure(host.Subject(subjects[0].path, subjects[0].artifact, softmax=False), QUICK)
    assert (row.softmax, row.total_nodes, len(row.wall_ms)) == (False, 5, 50)
    assert row.key.endswith("-1t-logits")


def test_min_seconds_asks_for_more_runs(subjects) -> None:
    row = host.measure(subjects[0], host.Config(warmup=1, repeats=50, min_seconds=0.2))
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
    found = host.peak_memory_mb(subjects[0].path)
    assert 20 < found < 150 < psutil.Process().memory_info().rss / 1e6


def test_accuracy_counts_first_and_first_five(subjects) -> None:
    path = subjects[0].path
    images = np.random.default_rng(0).integers(0, 256, (20, PX, PX, 3), np.uint8)
    order = np.argsort(-runtime.LiteModel(path)(images), axis=1, kind="stable")
    labels = order[:, 0].copy()
    labels[:4] = order[:4, 3]  # among the first five
    labels[4:6] = order[4:6, 6]  # not even there
    test = host.TestImages(lambda: [(images[:1], labels[:1]), (images[1:], labels[1:])], "test", "d" * 64)
    row = host.measure(host.Subject(path, subjects[0].artifact, test=test), QUICK)
    assert (row.accuracy.top1, row.accuracy.top5, row.accuracy.images) == (14 / 20, 18 / 20, 20)
    assert (row.accuracy.split, row.accuracy.data_digest) == ("test", "d" * 64)


def test_other_delegates_have_no_partitions(subjects) -> None:
    row = host.measure(host.Subject(subjects[0].path, subjects[0].artifact, 2, "reference"), QUICK)
    assert (row.delegate, row.threads, row.xnnpack_partitions) == ("reference", 2, None)


@pytest.mark.parametrize(
    ("samples", "flag"),
    [([10] * 80 + [20] * 20, "noisy"), ([10] * 50 + [12] * 50, "drifting"), ([10, 11] * 50, None)],
)
def test_flags_follow_the_samples(samples: list[int], flag: str | None) -> None:
    flags = host._validity(samples, threads=1, cores=2, others_cores=0.1)
    assert {name for name in ("noisy", "drifting", "others_running", "threads_exceed_cores") if flags[name]} == (
        {flag} if flag else set()
    )
    busy = host._validity(samples, threads=4, cores=2, others_cores=1.5)
    assert busy["others_running"]
    assert busy["threads_exceed_cores"]


def test_work_of_others_is_seen() -> None:
    command = "import time; end = time.time() + 1.5\nwhile time.time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", command]) as child:
        others = host._OtherWork()
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
    monkeypatch.setattr(host, "_processor", lambda: model_name)
    assert host.this_device.__wrapped__().name == expected


def test_errors_name_the_way_out(subjects, tmp_path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(subjects[0].path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"is not the file its artifact describes .*; export it again"):
        host.measure(host.Subject(path, subjects[0].artifact))
    with pytest.raises(UserError, match="repeats must be at least 50, not 49"):
        host.Config(repeats=49)
    with pytest.raises(UserError, match="threads must be numbers of at least 1"):
        host.Config(threads=(0,))
    with pytest.raises(UnknownName, match="did you mean reference"):
        host.Config(delegate="refrence")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="could not be run in a process of its own"):
        host.peak_memory_mb(broken)
