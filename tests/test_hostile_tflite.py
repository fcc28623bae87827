"""`.tflite` files from elsewhere: whatever their bytes are, one line is all that comes of it."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
import zipfile
from io import BytesIO

import numpy as np
import pytest
from mutations import mutated

from tfcompact.compress.quantization import calibration, for_xnnpack, wrapping
from tfcompact.errors import UserError
from tfcompact.export import converter
from tfcompact.frameworks import keras
from tfcompact.measure import host
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.tflite import flatbuffer, metadata, runtime
from tfcompact.tflite.classifier_process import ClassifierProcess
from tfcompact.tflite.first_run import first_run

L = keras.layers
PX = 8
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
NORMALIZATION = Normalization((128.0,), (127.5,))
MUTATIONS = 300
DEATH = r"x\.tflite ended the process that ran it \(SIGSEGV\); it is damaged: export it again"


@pytest.fixture(scope="module")
def content() -> bytes:
    """A uint8 file of a few operators, with metadata."""
    keras.utils.set_random_seed(0)
    image = keras.Input((PX, PX, 3))
    x = L.ReLU(6.0)(L.DepthwiseConv2D(3)(L.Conv2D(8, 3, padding="same")(image)))
    model = keras.Model(image, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
    images = np.random.default_rng(0).uniform(-1, 1, (8, PX, PX, 3)).astype(np.float32)
    qat = wrapping.quantized(model)
    calibration.calibrate(qat, model, [images], NORMALIZATION, 100)
    return metadata.attach(
        converter.convert(for_xnnpack.shipped(qat), "uint8", images),
        name="net",
        description="",
        labels=("a", "b", "c"),
        normalization=NORMALIZATION,
    )


@pytest.fixture(scope="module")
def deadly(content) -> bytes:
    """The file with an input whose scale is 0, which XNNPACK divides by and dies of."""
    model = flatbuffer.parsed(content)
    graph = model.subgraphs[0]
    quantization = graph.tensors[graph.inputs[0]].quantization
    assert quantization is not None
    quantization.scale = np.zeros(1, np.float32)
    return flatbuffer.packed(model)


@pytest.fixture
def process():
    found = ClassifierProcess()
    yield found
    found.close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_tried_in_another_process_first(deadly, tmp_path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(deadly)
    with pytest.raises(UserError, match=DEATH):
        runtime.LiteModel(path)
    with pytest.raises(UserError, match=DEATH):
        runtime.partitions(path)
    runtime.LiteModel(path, delegate="reference")


def test_measuring_it_is_one_line_and_the_others_are_measured(content, deadly, tmp_path) -> None:
    files = []
    for name, each in (("x", deadly), ("y", content)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(each)
        quantization = runtime.LiteModel(path, delegate="reference").input_quantization
        artifact = Artifact("net", "export-0", path.name, "uint8", sha256(each), len(each), PX, 3, NORMALIZATION,
                            quantization, quantization, {})  # fmt: skip
        files.append((path, artifact))
    kept: list[object] = []
    config = host.Config(repeats=50, min_seconds=0.0)
    found = host.ThisComputer(config).measure(files, type("Keep", (), {"row": kept.append})(), lambda _: None)
    assert (
        [row.path for row in found.rows] == ["y.tflite"] if hasattr(found.rows[0], "path") else len(found.rows) == 1
    )
    assert "ended the process that ran it (SIGSEGV)" in found.failures[0]


def test_a_process_for_classifiers_comes_back(content, deadly, tmp_path, process) -> None:
    good, bad = tmp_path / "good.tflite", tmp_path / "x.tflite"
    good.write_bytes(content)
    bad.write_bytes(deadly)
    before = process.classify(good, sha256(content), IMAGE, top=2, runs=3)
    assert len(before.labels) == 2
    assert 0 < before.latency_ms < 1000
    with pytest.raises(UserError, match=DEATH):
        process.classify(bad, sha256(deadly), IMAGE)
    after = process.classify(good, sha256(content), IMAGE, top=2)
    assert (after.labels, after.probabilities) == (before.labels, before.probabilities)


def test_a_process_for_classifiers_refuses_what_was_not_exported(content, tmp_path, process) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content + b"\0")
    with pytest.raises(UserError, match=r"x\.tflite is not what was exported; remove"):
        process.classify(path, sha256(content), IMAGE)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.tflite is not a TFLite model"):
        process.classify(path, sha256(b""), IMAGE)


def test_a_process_for_classifiers_does_not_wait_for_ever(content, tmp_path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    process = ClassifierProcess(seconds=0.01)
    with pytest.raises(UserError, match=r"x\.tflite gave no answer in 0\.01 s"):
        process.classify(path, sha256(content), IMAGE)
    process.close()


def test_a_process_for_classifiers_is_shared(content, tmp_path, process) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    images = [np.full((9, 9, 3), value, np.uint8) for value in range(0, 240, 30)]
    alone = [process.classify(path, sha256(content), image).probabilities for image in images]
    together = dict.fromkeys(range(len(images)))
    threads = [
        threading.Thread(
            target=lambda i=i: together.update({i: process.classify(path, sha256(content), images[i]).probabilities})
        )
        for i in together
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(together.values()) == alone


def test_compressed_labels_are_refused(content, tmp_path) -> None:
    """Forty kilobytes may be two gigabytes of labels, whatever size the entry claims."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = archive.namelist()
    stream = BytesIO(content[: content.index(b"PK\x03\x04")])
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"a\n" * 1000)
    with pytest.raises(UserError, match=r"damaged metadata \(\S+ is compressed\)"):
        metadata.read(stream.getvalue())


READ = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
from pathlib import Path
from tfcompact.errors import UserError
from tfcompact.tflite import flatbuffer, metadata
for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    signal.alarm(5)
    for read in (flatbuffer.operators, flatbuffer.tensors, flatbuffer.stray_floats, metadata.read):
        try:
            read(path)
        except UserError as error:
            assert "\\n" not in str(error), error
        except BaseException as error:
            print(path.stem, read.__name__, type(error).__name__, error)
"""


@pytest.mark.slow
def test_any_bytes_end_in_one_line(content, tmp_path, capsys) -> None:
    for seed in range(MUTATIONS):
        (tmp_path / f"{seed:03d}.tflite").write_bytes(mutated(content, random.Random(seed)))
    child = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=False)
    bad = child.stdout.splitlines() + ([child.stderr[-500:]] if child.returncode else [])
    refused = died = 0
    for path in sorted(tmp_path.glob("*.tflite")):
        try:
            first_run(path)
        except UserError as error:
            refused += 1
            died += "ended the process" in str(error)
            if "\n" in str(error):
                bad.append(str(error))
    with capsys.disabled():
        print(f"\n{MUTATIONS} mutated .tflite: {refused} refused, {died} of them ended their process, {len(bad)} bad")
    assert not bad
