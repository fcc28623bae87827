"""Where a training may start from: what is found, what is refused, and that nothing is random in silence."""

import hashlib
import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_weights import randomize
from safetensors.numpy import save_file

from tfcompact import models
from tfcompact.data import imagenet
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.models.spec import PackagedWeights
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.weights import pretrained, transfer

MODEL = "mobilenet_v2_0.35"
PX = 32
FLOWERS = ("rose", "tulip", "daisy")


@pytest.fixture(scope="module")
def spec():
    return models.spec(MODEL)


@pytest.fixture(scope="module")
def theirs(spec):
    """The network of tf_keras.applications with weights that stand for the published ones."""
    network = transfer.application(spec.keras, spec.image_px)
    randomize(network, np.random.default_rng(0))
    return network


@pytest.fixture(scope="module")
def keras_file(theirs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "mobilenet.h5"
    theirs.save_weights(path)
    return path


@pytest.fixture
def fresh():
    return models.build(MODEL, px=PX, classes=3)


def body_and_head(model):
    """The arrays of the head, and all others."""
    head = [w for layer in model.layers if layer.name.startswith(transfer.HEADS) for w in layer.get_weights()]
    body = [w for layer in model.layers if not layer.name.startswith(transfer.HEADS) for w in layer.get_weights()]
    return body, head


def same(a, b) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def test_a_keras_file_fills_all_but_the_head(spec, theirs, keras_file, fresh) -> None:
    before = [w.copy() for w in fresh.get_weights()]
    found = pretrained.find(spec, str(keras_file))
    assert found.normalization == spec.keras.normalization
    started = found.start(fresh, FLOWERS)
    full = models.build(MODEL)
    transfer.copy_in_order(theirs, full)
    assert same(body_and_head(started)[0], body_and_head(full)[0])
    assert same(body_and_head(started)[1], body_and_head(fresh)[1])
    assert same(fresh.get_weights(), before), "the fresh model was changed"


def test_the_same_classes_keep_the_head(spec, theirs, keras_file) -> None:
    model = models.build(MODEL, px=spec.image_px)
    started = pretrained.find(spec, str(keras_file)).start(model, imagenet.classes())
    images = np.random.default_rng(1).uniform(-1, 1, (1, spec.image_px, spec.image_px, 3)).astype(np.float32)
    assert np.abs(started(images) - theirs(images)).max() <= 1e-4


def test_imagenet_is_what_keras_fetches(spec, keras_file, fresh, monkeypatch) -> None:
    from tf_keras.src.utils import data_utils

    monkeypatch.setattr(data_utils, "get_file", lambda *args, **kwargs: str(keras_file))
    found = pretrained.find(spec, "imagenet")
    assert (found.label, len(found.sha256)) == (keras_file.name, 64)
    assert same(
        body_and_head(found.start(fresh, FLOWERS))[0],
        body_and_head(pretrained.find(spec, str(keras_file)).start(fresh, FLOWERS))[0],
    )


def test_a_download_that_fails_is_one_line_with_the_remedy(spec, monkeypatch) -> None:
    from tf_keras.src.utils import data_utils

    def fail(*args, **kwargs):
        raise OSError("URL fetch failure\nand much more")

    monkeypatch.setattr(data_utils, "get_file", fail)
    with pytest.raises(UserError, match=r"could not be downloaded \(URL fetch failure\).*--weights FILE") as caught:
        pretrained.find(spec, "imagenet")
    assert "\n" not in str(caught.value)


def torch_state(name: str, classes: int = 1000):
    """Random arrays under the names that the library gives them, and the network they came from."""
    source = models.spec(name).torch[0]
    model = transfer.as_torch(models.build(name, px=PX, classes=classes), source)
    randomize(model, np.random.default_rng(2))
    arrays = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        values, module = layer.get_weights(), source.module(layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            names = ("weight", "bias", "running_mean", "running_var")
            arrays |= {f"{module}.{n}": v for n, v in zip(names, values, strict=True)}
            continue
        axes = (1, 0) if values[0].ndim == 2 else (3, 2, 0, 1)
        axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else axes
        arrays[f"{module}.weight"] = values[0].transpose(axes)
        if len(values) > 1:
            arrays[f"{module}.bias"] = values[1]
    return {k: np.ascontiguousarray(v) for k, v in arrays.items()}, model


def test_a_state_dict_of_another_library(tmp_path: Path) -> None:
    arrays, original = torch_state("mobilenet_v2")
    save_file(arrays, tmp_path / "net.safetensors")
    found = pretrained.find(models.spec("mobilenet_v2"), str(tmp_path / "net.safetensors"))
    assert found.normalization == models.spec("mobilenet_v2").torch[0].normalization
    assert "torchvision mobilenet_v2" in found.label
    kept = found.start(models.build("mobilenet_v2", px=PX), imagenet.classes())
    images = np.random.default_rng(1).uniform(-1, 1, (2, PX, PX, 3)).astype(np.float32)
    np.testing.assert_allclose(kept(images), original(images), atol=1e-4)
    replaced = found.start(models.build("mobilenet_v2", px=PX, classes=3), FLOWERS)
    assert same(body_and_head(replaced)[0], body_and_head(original)[0])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda a: a | {"features.0.0.weight": a["features.0.0.weight"] * np.float32("nan")},
            "layer stem holds infi",
        ),
        (lambda a: a | {"features.0.0.weight": a["features.0.0.weight"][:16]}, r"layer stem takes \(3, 3, 3, 32\)"),
        (lambda a: a | {"features.18.1.running_var": a["features.18.1.running_var"] + np.float32("inf")}, "infinite"),
    ],
    ids=["NaN", "another width", "infinite"],
)
def test_weights_that_do_not_fit_or_are_no_numbers_are_refused_by_name(damage, words: str, tmp_path: Path) -> None:
    save_file(damage(torch_state("mobilenet_v2")[0]), tmp_path / "net.safetensors")
    found = pretrained.find(models.spec("mobilenet_v2"), str(tmp_path / "net.safetensors"))
    with pytest.raises(UserError, match=rf"^net.safetensors \(torchvision mobilenet_v2\): .*{words}"):
        found.start(models.build("mobilenet_v2", px=PX), FLOWERS)


@pytest.mark.parametrize("head", ["none", "of other classes"])
def test_a_state_dict_may_have_any_head_where_it_is_replaced(head: str, tmp_path: Path) -> None:
    arrays, original = torch_state("mobilenet_v2", 1000 if head == "none" else 7)
    if head == "none":
        arrays = {key: value for key, value in arrays.items() if not key.startswith("classifier.")}
    save_file(arrays, tmp_path / "net.pth")
    found = pretrained.find(models.spec("mobilenet_v2"), str(tmp_path / "net.pth"))
    assert found.classes is None
    replaced = found.start(models.build("mobilenet_v2", px=PX, classes=3), FLOWERS)
    assert same(body_and_head(replaced)[0], body_and_head(original)[0])


@pytest.mark.parametrize("top", [False, True])
def test_a_keras_file_may_have_any_head_where_it_is_replaced(top: bool, spec, tmp_path: Path) -> None:
    theirs = transfer.application(spec.keras, PX, 7, top=top)
    randomize(theirs, np.random.default_rng(3))
    theirs.save_weights(tmp_path / "x_no_top.h5")
    found = pretrained.find(spec, str(tmp_path / "x_no_top.h5"))
    assert found.classes is None
    full = models.built(spec, px=spec.image_px, classes=7)
    transfer.copy_in_order(theirs, full, head=top)
    replaced = found.start(models.build(spec.name, px=PX, classes=3), FLOWERS)
    assert same(body_and_head(replaced)[0], body_and_head(full)[0])


def test_libraries_that_compute_alike_need_no_name(tmp_path: Path) -> None:
    arrays, _ = torch_state("resnet_50_v1.5")
    save_file(arrays, tmp_path / "resnet50.safetensors")
    found = pretrained.find(models.spec("resnet_50_v1.5"), str(tmp_path / "resnet50.safetensors"))
    assert "torchvision resnet50" in found.label


def test_a_state_dict_of_another_network_says_what_is_missing(tmp_path: Path) -> None:
    save_file({"conv.weight": np.zeros((1, 1, 1, 1), np.float32)}, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=r"not a state dict of torchvision's mobilenet_v2 \(no features.0.0.weight\)"):
        pretrained.find(models.spec("mobilenet_v2"), str(tmp_path / "net.safetensors"))


class _Installed:
    """An installed package with one file in it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def locate_file(self, path: str) -> Path:
        return self.folder / path


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch):
    """A spec whose weights are in a package that is installed, with the right content."""
    arrays, _ = torch_state("mobilenet_v2")
    save_file(arrays, tmp_path / "net.safetensors")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: _Installed(tmp_path))
    source = models.spec("mobilenet_v2").torch[0]
    digest = hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
    package = PackagedWeights("weights-of-ours", "1.0", "net.safetensors", digest, source)
    return replace(models.spec("mobilenet_v2"), packaged=package)


def test_a_package_is_read_and_its_content_checked(packaged, tmp_path: Path) -> None:
    found = pretrained.find(packaged, "imagenet")
    assert found.label == "weights-of-ours 1.0"
    assert found.classes == imagenet.classes()
    found.start(models.build("mobilenet_v2", px=PX, classes=3), FLOWERS)
    with (tmp_path / "net.safetensors").open("ab") as file:
        file.write(b"!")
    with pytest.raises(UserError, match=r"has sha256 .*… as weights-of-ours 1.0 has; remove the package, then: make"):
        pretrained.find(packaged, "imagenet")


def test_a_package_that_is_not_installed_is_named(packaged, monkeypatch) -> None:
    def missing(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(
        UserError, match="come with the Python package weights-of-ours, which is not installed; try: make"
    ):
        pretrained.find(replace(packaged, keras=None), "imagenet")


def test_what_nobody_publishes_is_said(spec) -> None:
    with pytest.raises(UserError, match="give --weights a run of your own"):
        pretrained.find(replace(spec, keras=None, torch=()), "imagenet")
    with pytest.raises(UserError, match="a state dict of torchvision's mobilenet_v2 or timm's"):
        pretrained.find(replace(models.spec("mobilenet_v2"), keras=None), "imagenet")


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.h5", "no weights at nowhere.h5"), ("notes.txt", "not a file of weights: HDF5 of Keras")],
)
def test_paths_that_hold_no_weights(spec, name: str, said: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("hello")
    with pytest.raises(UserError, match=said):
        pretrained.find(spec, name)


def test_a_run_of_ours_goes_on_with_other_classes_and_another_size(tmp_path: Path) -> None:
    digits = Pipeline(Target(MODEL, data="digits", px=32, runs=tmp_path / "runs"))
    first = digits.run(configured("fit", {"epochs": 1, "batch": 256}))
    found = pretrained.find(models.spec(MODEL), str(first.path))
    assert found.label == f"{MODEL}/{first.name}"
    started = found.start(models.build(MODEL, px=40, classes=3), FLOWERS)
    assert started.input_shape == (None, 40, 40, 3)
    assert started.output_shape == (None, 3)
    original = digits.load(first.name)
    assert same(body_and_head(started)[0], body_and_head(original)[0])
    assert same(
        body_and_head(found.start(models.build(MODEL, px=32, classes=10), tuple("0123456789")))[1],
        body_and_head(original)[1],
    )
    again = digits.run(configured("fit", {"epochs": 0, "weights": str(first.path)}))
    recorded = again.provenance["inputs"]["weights"]
    assert recorded["from"] == f"{MODEL}/{first.name}"
    assert same(digits.load(again.name).get_weights(), original.get_weights())
    with pytest.raises(UserError, match="not both"):
        digits.run(configured("fit", {"weights": str(first.path)}), first.name)
    with pytest.raises(UserError, match="is a run of mobilenet_v2_0.35, not of mobilenet_v2_0.5"):
        pretrained.find(models.spec("mobilenet_v2_0.5"), str(first.path))


def test_the_sources_normalization_is_the_runs(tmp_path: Path, keras_file, monkeypatch) -> None:
    """A source with a mean for each channel: the float run has it, the quantized run takes plain pixels."""
    spec = models.spec(MODEL)
    odd = replace(spec, keras=replace(spec.keras, normalization=models.spec("mobilenet_v2").torch[0].normalization))
    line = Pipeline(Target(MODEL, data="digits", px=32, runs=tmp_path / "runs"))
    line.spec = odd
    fit = line.run(configured("fit", {"epochs": 1, "batch": 256, "weights": str(keras_file)}))
    assert len(fit.provenance["inputs"]["normalization"]["mean"]) == 3
    quantized = line.run(configured("quantize", {"epochs": 0}), fit.name)
    assert quantized.provenance["inputs"]["normalization"]["mean"] == [128.0]
    assert "image_affine" in [layer.name for layer in line.load(quantized.name).layers]
    accuracy = [json.loads((run.path / "notes.json").read_text())["validation_accuracy"] for run in (fit, quantized)]
    assert abs(accuracy[0] - accuracy[1]) < 0.1
