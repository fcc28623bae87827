"""Quantization as a stage: from a trained network to one that is int8, with the notes that go with it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from fake_images import FakeImages

from tfcompact import stages
from tfcompact.compress.quantization import pixel_grid, wrapping
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.models.blocks import conv, logits
from tfcompact.records.artifact import Normalization
from tfcompact.stages import fit, quantize
from tfcompact.training.context import Context

NORMALIZATION = pixel_grid.on_grid(Normalization())


def context(directory: Path) -> Context:
    directory.mkdir(exist_ok=True)
    console = Console(quiet=True)
    spec = SimpleNamespace(name="tiny", aux_weight=0.4)
    return Context(spec, FakeImages(train=256), 8, NORMALIZATION, 0, directory, console)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network with an auxiliary head that has learned the squares."""
    keras.utils.set_random_seed(3)
    inputs = keras.layers.Input((8, 8, 3), name="image")
    x = conv(conv(inputs, 8, 3, 2, act="h_swish", name="first"), 12, 3, name="second")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, [logits(x, 3, dropout=0.1), keras.layers.Dense(3, name="aux")(x)])
    config = fit.Config(epochs=8, learning_rate=1e-2, ema=0.9)
    return fit.run(model, config, context(tmp_path_factory.mktemp("fit")))


def test_without_training_it_is_as_good_as_its_parent(trained, tmp_path) -> None:
    model, before = trained
    weights = [w.copy() for w in model.get_weights()]
    qat, notes = quantize.run(model, quantize.Config(epochs=0), context(tmp_path))
    assert notes["epochs"] == 0
    assert notes["validation_accuracy"] >= before["validation_accuracy"] - 1 / 24
    assert len(qat.outputs) == 1  # the auxiliary head stays behind
    assert all(map(np.array_equal, weights, model.get_weights()))
    rounded = {layer.name for layer in qat.layers if isinstance(layer, wrapping.Wrapper)}
    assert set(notes["sqnr_db"]) < set(notes["ranges"]) <= rounded
    assert min(notes["sqnr_db"].values()) > 15
    json.dumps(notes)


def test_trained_with_rounding_it_is_the_same_every_time_and_after_a_kill(trained, tmp_path, monkeypatch) -> None:
    config = quantize.Config(epochs=2)
    whole, notes = quantize.run(trained[0], config, context(tmp_path / "whole"))
    assert notes["validation_accuracy"] >= trained[1]["validation_accuracy"] - 1 / 24

    def interrupt(self, line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Context, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quantize.run(trained[0], config, context(tmp_path / "run"))
    monkeypatch.undo()
    resumed, again = quantize.run(trained[0], config, context(tmp_path / "run"))
    assert again == notes
    assert all(map(np.array_equal, whole.get_weights(), resumed.get_weights()))


def test_senseless_options_are_refused() -> None:
    for change, message in (
        ({"calibration_images": 0}, "calibration_images must be 1 or more, not 0"),
        ({"percentile": 50}, r"percentile must be in \(50, 100\], not 50"),
        ({"sqnr_images": -1}, "sqnr_images must be 0 or more"),
        ({"epochs": -1}, "epochs must be 0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            quantize.Config(**change)


def test_every_stage_has_what_the_pipeline_asks_for() -> None:
    for name in stages.names():
        found = stages.stage(name)
        assert found.takes or found.starts_new
        assert stages.stage_of(found.config()) == (name, found)
        assert found.summary(found.config())
        assert found.run.__doc__
