"""Other people's readers, the ones Android apps use, read our metadata and see our labels on real photographs.

Each judge runs as a script in an environment of its own (`make judges` makes them), over the same pixels as our
runtime.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfcompact.data.images import decode, fit_square
from tfcompact.export import gate
from tfcompact.frameworks import keras, tf
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import metadata, runtime

pytestmark = pytest.mark.judge

ROOT = Path(__file__).parents[1]
JUDGES = ROOT / "tests" / "judges"
DATA = ROOT / os.environ.get("TFCOMPACT_TEST_DATA", "../shared/data")
PX, PHOTOGRAPHS, LEARNED = 64, 200, 100
FOLDERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
LABELS = ("Löwenzahn (dandelion)", *(name for name in FOLDERS if name != "dandelion"))  # sorted, as classes are
TASK_LIBRARY, MEDIAPIPE = ("task-library", "task_library.py"), ("mediapipe", "mediapipe_tasks.py")


def environments() -> Any:
    spec = importlib.util.spec_from_file_location("judge_environments", JUDGES / "environments.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[TASK_LIBRARY, MEDIAPIPE], ids=lambda judge: judge[0])
def judge(request):
    """`judge(file, images) -> one parsed JSON line each`, by either judge."""
    name, script = request.param
    hindrance = environments().hindrance(name)
    if hindrance:
        pytest.skip(f"no judge: {hindrance}")

    def run(file: Path, images: np.ndarray) -> list[Any]:
        pixels = file.with_suffix(f".{name}.npy")
        np.save(pixels, images)
        command = [environments().python(name), JUDGES / script, file, pixels]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    run.name = name
    return run


def members(archive: str, choose) -> list[bytes]:
    """The photographs that `choose` picks from the sorted names in a tar file."""
    path = DATA / archive
    if not path.is_file():
        pytest.skip(f"no photographs: {path} is missing; set TFCOMPACT_TEST_DATA to the folder that holds it")
    with tarfile.open(path) as tar:
        names = sorted(name for name in tar.getnames() if name.endswith(".jpg"))
        return [tar.extractfile(name).read() for name in choose(names)]


def flowers(folder: str, first: int, count: int) -> list[bytes]:
    """`count` photographs of one kind, as JPEG, from number `first` on."""
    return members("flowers.tar", lambda names: [n for n in names if f"/{folder}/" in n][first : first + count])


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    """200 photographs, as JPEG, that the judged network has not seen."""
    return [data for folder in FOLDERS for data in flowers(folder, LEARNED, PHOTOGRAPHS // len(FOLDERS))]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, Path]:
    """The files to judge, format -> path: what the pipeline exports after a short training on 500 photographs."""
    images = tmp_path_factory.mktemp("photographs")
    for folder in FOLDERS:
        place = images / (LABELS[0] if folder == "dandelion" else folder)
        place.mkdir()
        for i, data in enumerate(flowers(folder, 0, LEARNED)):
            (place / f"{i}.jpg").write_bytes(data)
    line = Pipeline(Target("mobilenet_v2_0.35", data=str(images), px=PX, runs=tmp_path_factory.mktemp("runs")))
    fit = line.run(configured("fit", {"epochs": 12}))
    quantized = line.run(configured("quantize", {"epochs": 1}), fit.name)
    # With 50 validation images one is two points; the gate's own limits are for other tests.
    run = line.export(gate.Config(("uint8", "float32"), largest_loss=10.0, least_agreement=80.0), quantized.name)
    return {a.format: run.path / a.path for a in run.artifacts}


@pytest.mark.parametrize("form", ["uint8", "float32"])
def test_judges_see_our_labels_on_real_photographs(judge, exported, photographs, form: str) -> None:
    """The same first label on 99 % of 200 photographs, and on all where our first two are more than 2 steps apart.

    Where two classes share our highest probability, each judge's sort ends as it likes; such ties are counted in the
    line that is printed, and count as disagreement where the judge names the other class.
    """
    model, labels = runtime.LiteModel(exported[form]), metadata.read(exported[form]).labels
    images = np.stack([fit_square(decode(data), model.image_px) for data in photographs])
    ours = model(images)
    theirs = [line for line in judge(exported[form], images) if isinstance(line, list)]
    assert len(theirs) == len(images)
    assert all(c["label"] == labels[c["index"]] for line in theirs for c in line)
    chosen = np.array([line[0]["index"] for line in theirs])
    identical = chosen == ours.argmax(axis=1)
    second, first = np.sort(ours, axis=1)[:, -2:].T
    clear = first - second > 2 / 256
    worst = max(abs(p[c["index"]] - c["score"]) for p, line in zip(ours, theirs, strict=True) for c in line)
    print(
        f"\n{judge.name}, {form}: the same label on {identical.sum()} of {len(ours)} photographs, on "
        f"{identical[clear].sum()} of the {clear.sum()} clear ones; {(first == second).sum()} ties; "
        f"largest difference of a probability {worst:.4f}"
    )
    assert clear.mean() > 0.5  # a network that cannot decide would prove nothing
    assert identical[clear].all()
    assert identical.mean() >= 0.99


def test_task_library_reads_all_of_our_metadata(judge, exported, photographs) -> None:
    if judge.name != TASK_LIBRARY[0]:
        pytest.skip("MediaPipe shows no metadata")
    own = metadata.read(exported["uint8"])
    model = runtime.LiteModel(exported["uint8"])
    (head, _) = judge(exported["uint8"], fit_square(decode(photographs[0]), model.image_px)[np.newaxis])
    (graph,) = head["metadata"]["subgraph_metadata"]
    (image,), (probability,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert head["metadata"]["name"] == own.name
    assert image["content"]["content_properties"]["color_space"] == "RGB"
    assert image["process_units"][0]["options"] == {"mean": [128.0], "std": [127.5]}
    assert image["stats"] == {"max": [255.0], "min": [0.0]}
    assert probability["associated_files"][0]["type"] == "TENSOR_AXIS_LABELS"
    assert tuple(head["files"][probability["associated_files"][0]["name"]].splitlines()) == own.labels


def test_judges_refuse_what_they_would_get_wrong(judge, exported, tmp_path) -> None:
    """A network that wants BGR: they feed RGB, so the metadata must make them refuse it."""
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    function = tf.function(network).get_concrete_function(tf.TensorSpec((1, 8, 8, 3)))
    plain = tf.lite.TFLiteConverter.from_concrete_functions([function], network).convert()
    file = tmp_path / "bgr.tflite"
    bgr = Normalization(channel_order="bgr")
    file.write_bytes(metadata.attach(plain, name="n", description="", labels=LABELS, normalization=bgr))
    with pytest.raises(AssertionError, match="Only RGB color space is supported"):
        judge(file, np.zeros((1, 8, 8, 3), np.uint8))


def test_environments_are_made_again_when_their_lock_changes(tmp_path, monkeypatch) -> None:
    module = environments()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "HERE", tmp_path)
    (tmp_path / "requirements-mediapipe.txt").write_text("mediapipe==1\n")
    assert not module.ready("mediapipe")
    module.python("mediapipe").parent.mkdir(parents=True)
    module.python("mediapipe").touch()
    (tmp_path / "mediapipe" / "stamp").write_text(module._digest("mediapipe"))
    assert module.ready("mediapipe")
    (tmp_path / "requirements-mediapipe.txt").write_text("mediapipe==2\n")
    assert not module.ready("mediapipe")
    assert module.hindrance("mediapipe").endswith("make it with: make judges")


def test_a_missing_system_library_is_named_with_its_package(tmp_path, monkeypatch) -> None:
    module = environments()
    monkeypatch.setattr(module, "ready", lambda name: True)
    monkeypatch.setattr(module, "python", lambda name: tmp_path / "python")
    (tmp_path / "python").write_text("#!/bin/sh\necho 'libusb-1.0.so.0: cannot open' >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    line = module.hindrance("task-library")
    assert "libusb-1.0.so.0: cannot open" in line
    assert line.endswith("apt-get install libusb-1.0-0")


@pytest.mark.parametrize("name", ["task-library", "mediapipe"])
def test_locks_pin_everything_and_name_no_host(name: str) -> None:
    text = environments().lock(name).read_text()
    assert "://" not in text
    requirements = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert all("==" in line for line in requirements)
    assert text.count("--hash=sha256:") >= len(requirements)
