"""The options of `quantize` beside its defaults, as the stage runs them, and the int16x8 file."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from fake_images import FakeImages

from tfcompact.compress.quantization import pixel_grid, wrapping
from tfcompact.data.images import normalize
from tfcompact.errors import RejectedArtifact, UnknownName
from tfcompact.export import converter, gate, verified_file
from tfcompact.frameworks import keras
from tfcompact.models.blocks import conv, depthwise, logits, squeeze_excite
from tfcompact.records import formats
from tfcompact.records.artifact import Normalization
from tfcompact.report import plot_style
from tfcompact.stages import fit, quantize
from tfcompact.tflite import flatbuffer, metadata
from tfcompact.training.context import Context
from tfcompact.weights import saved

NORMALIZATION = pixel_grid.on_grid(Normalization())
DATA = FakeImages(train=256)


def context(directory: Path) -> Context:
    directory.mkdir(exist_ok=True)
    spec = SimpleNamespace(name="tiny", aux_weight=0.4)
    return Context(spec, DATA, 8, NORMALIZATION, 0, directory, Console(quiet=True))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network that has learned the squares: ReLU, ReLU6, a gate and an h-swish."""
    keras.utils.set_random_seed(3)
    inputs = keras.layers.Input((8, 8, 3), name="image")
    x = conv(inputs, 8, 3, 2, act="relu", name="first")
    x = squeeze_excite(depthwise(x, 3, act="relu", name="filter"), 4, gate="h_sigmoid", name="se")
    x = conv(conv(x, 12, act="relu6", name="second"), 12, 3, act="h_swish", name="third")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, logits(x, 3, dropout=0.1))
    return fit.run(model, fit.Config(epochs=8, learning_rate=1e-2, ema=0.9), context(tmp_path_factory.mktemp("fit")))


def pixels(count: int = 24) -> np.ndarray:
    return normalize(DATA.arrays("validation", px=8)[0][:count].astype(np.float32), NORMALIZATION)


@pytest.mark.parametrize(
    "options",
    [{"ranges": "average"}, {"ranges": "mse"}, {"equalize": True, "correct_bias": True}],
    ids=["average", "mse", "repairs"],
)
def test_without_training_each_way_is_as_good_as_its_parent(trained, tmp_path, options) -> None:
    model, before = trained
    qat, notes = quantize.run(model, quantize.Config(epochs=0, **options), context(tmp_path))
    assert notes["validation_accuracy"] >= before["validation_accuracy"] - 1 / 24
    assert np.array_equal(wrapping.deployable(qat)(pixels()), qat(pixels()))
    assert ("equalized" in notes) == ("bias_corrections" in notes) == ("equalize" in options)
    if "equalize" in options:
        assert set(notes["equalized"]) <= {"first", "filter", "se_reduce"}
        assert set(notes["bias_corrections"]) >= {"first", "filter", "second", "third", "logits"}
    json.dumps(notes)


# Ranges that clip so much that the weights of the start are not the best.
LEARNED = quantize.Config(epochs=2, learn_ranges=True, learning_rate=5e-3, percentile=75)


@pytest.fixture(scope="module")
def learned(trained, tmp_path_factory):
    return quantize.run(trained[0], LEARNED, context(tmp_path_factory.mktemp("learned")))


def test_ranges_are_learned_and_the_network_comes_back_from_disk_to_the_bit(trained, learned, tmp_path) -> None:
    model, (whole, notes) = trained[0], learned
    start = quantize.run(model, quantize.Config(epochs=0, percentile=75), context(tmp_path / "ptq"))[1]
    assert notes["best_epoch"] > 0, "the calibrated ranges were best; nothing learned is looked at"
    assert notes["validation_accuracy"] > start["validation_accuracy"] + 0.2
    moved = {name for name, ends in notes["ranges"].items() if ends != pytest.approx(start["ranges"][name], rel=1e-5)}
    assert moved == set(notes["ranges"]) - {pixel_grid.INPUT}

    saved.save(whole, tmp_path / "model.h5")
    back = saved.load(tmp_path / "model.h5")
    assert np.array_equal(back(pixels()), whole(pixels()))
    assert wrapping.ranges_of(back) == {name: tuple(ends) for name, ends in notes["ranges"].items()}
    assert np.array_equal(wrapping.deployable(back)(pixels()), whole(pixels()))


@pytest.mark.slow
def test_learning_ranges_goes_on_after_a_kill_to_the_bit(trained, learned, tmp_path, monkeypatch) -> None:
    model, (whole, notes) = trained[0], learned

    def interrupt(self, line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Context, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quantize.run(model, LEARNED, context(tmp_path / "run"))
    monkeypatch.undo()
    resumed, again = quantize.run(model, LEARNED, context(tmp_path / "run"))
    assert again == notes
    assert all(map(np.array_equal, whole.get_weights(), resumed.get_weights()))


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(UnknownName, match="no method for ranges named 'minmx'; did you mean minmax"):
        quantize.Config(ranges="minmx")


@pytest.fixture(scope="module")
def source(trained):
    return gate.Source(trained[0], "tiny", "fit-0", Normalization(), DATA.classes, {"parameters": 1, "macs": 1})


def evidence() -> gate.Evidence:
    images, labels = DATA.arrays("validation", px=8)
    return gate.Evidence(images, labels, DATA.arrays("train", px=8)[0][::4])  # in order of class


def test_int16x8_passes_the_gate_and_is_what_it_says(source, tmp_path) -> None:
    artifact = verified_file.export(source, "int16x8", gate.Config(), evidence(), tmp_path)
    content = (tmp_path / artifact.path).read_bytes()
    assert artifact.format == "int16x8"
    assert artifact.checks["agreement"] == 1.0
    assert artifact.checks["largest_probability_difference"] < 0.02
    assert artifact.checks["xnnpack_partitions"] == 0  # the runtime's own kernels run all of it
    assert metadata.read(content).normalization == source.normalization
    tensors = flatbuffer.tensors(content)
    assert {t.dtype for t in tensors if t.is_input or t.is_output} == {"float32"}
    assert flatbuffer.stray_floats(content) == []
    kernels = [t for t in tensors if t.is_constant and len(t.shape) == 4]
    assert kernels
    assert {t.dtype for t in kernels} == {"int8"}
    assert "HARD_SWISH" not in flatbuffer.operators(content)  # which has no 16-bit kernel
    inner = [t for t in tensors if t.dtype == "int16"]
    assert inner
    assert {zero for t in inner for zero in t.zero_points} == {0}


def test_an_int16x8_file_with_a_float_tensor_is_not_written(source, tmp_path, monkeypatch) -> None:
    convert = converter.convert
    monkeypatch.setattr(converter, "convert", lambda model, format, images: convert(model, "float32", images))
    with pytest.raises(RejectedArtifact, match="as int16x8: .* tensors stayed float"):
        verified_file.export(source, "int16x8", gate.Config(), evidence(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_format_has_its_place_and_shape_and_int16x8_is_written_only_when_asked() -> None:
    assert set(formats.LISTED) == set(plot_style.SHAPES) == set(formats.FORMATS)
    assert set(formats.FORMATS) - set(formats.USUAL) == {"int16x8"}
    assert gate.Config().formats == formats.USUAL
    for part in range(3):
        assert len({shape[part] for shape in plot_style.SHAPES.values()}) == len(formats.FORMATS)
