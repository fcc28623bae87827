"""Energy-aware pruning: which layers, which weights, and what the fit gains."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from random_weights import randomize
from test_stages import context

from tfcompact import models
from tfcompact.compress.sparsity import energy
from tfcompact.compress.sparsity.masks import kernels_of, maskable
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.models.blocks import conv, logits
from tfcompact.networks import rewrite
from tfcompact.networks.operators import profile
from tfcompact.stages import prune
from tfcompact.training.context import Context

RNG = np.random.default_rng(0)


def network(name: str = "mobilenet_v1_0.25", px: int = 32):
    model = models.build(name, px=px, classes=4)
    randomize(model, np.random.default_rng(0))
    return model


def batches(px: int = 32, count: int = 2):
    rng = np.random.default_rng(1)
    images = [rng.uniform(-1, 1, (8, px, px, 3)).astype(np.float32) for _ in range(count)]
    return lambda: images


def test_without_zeros_the_energy_is_that_of_the_model_of_costs() -> None:
    model = network()
    whole = sum(block.cost.energy_pj for block in profile(model).blocks)
    assert sum(energy.energies(model).values()) == pytest.approx(whole)
    halved = energy.energies(model, {"logits": 0.5})
    assert halved["logits"] < energy.energies(model)["logits"]


def test_the_layers_with_the_most_energy_come_first_and_no_more_than_needed() -> None:
    model = network()
    whole = energy.energies(model)
    few = energy.to_prune(model, maskable(model), 0.75, 0.8)
    more = energy.to_prune(model, maskable(model), 0.75, 0.6)
    assert few == more[: len(few)] != more
    assert [whole[name] for name in more] == sorted((whole[name] for name in more), reverse=True)
    with pytest.raises(UserError, match="more than the 1%"):
        energy.to_prune(model, maskable(model), 0.75, 0.01)


def test_a_fit_of_independent_inputs_keeps_the_weights_that_matter() -> None:
    scale = np.array([100.0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    kernel = np.array([[0.5, 9, 8, 7, 6, 5, 4, 3, 2, 1]]).T
    products = np.diag(scale**2)
    weights, mask = energy.fitted(products, products @ kernel, kernel, 0.0)
    assert mask.all()
    assert weights == pytest.approx(kernel)  # full density: the input


def test_weights_come_back_that_lower_the_error_most() -> None:
    size = 40
    kernel = np.linspace(1, 2, size)[:, None]
    kernel[0] = 0.5  # the smallest, but its input is the largest
    products = np.diag(np.r_[1e4, np.ones(size - 1)])
    _, mask = energy.fitted(products, products @ kernel, kernel, 0.5)
    assert mask.sum() == size // 2
    assert mask[0, 0]
    assert kernel[mask].sum() < np.sort(kernel[:, 0])[size // 2 :].sum()


def test_the_fit_is_that_of_least_squares() -> None:
    x = RNG.normal(size=(400, 12)) @ RNG.normal(size=(12, 12))
    kernel = RNG.normal(size=(12, 3))
    y = x @ kernel
    weights, mask = energy.fitted(x.T @ x, x.T @ y, kernel, 0.5)
    for out in range(3):
        places = np.flatnonzero(mask[:, out])
        best, *_ = np.linalg.lstsq(x[:, places], y[:, out], rcond=None)
        ours = np.sum((x[:, places] @ weights[places, out] - y[:, out]) ** 2)
        least = np.sum((x[:, places] @ best - y[:, out]) ** 2)
        cut = np.sum((x[:, places] @ kernel[places, out] - y[:, out]) ** 2)
        assert least <= ours <= least + 0.01 * (cut - least)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25", "shufflenet_v1_g3", "googlenet_bn_3x3"])
def test_layers_are_pruned_to_the_share_and_fitted(name) -> None:
    px = 64
    model = network(name, px)
    changed = rewrite.clone(model)
    names = [layer.name for layer in maskable(model)][1:4]
    refit = energy.Refit(model, changed, names, batches(px), 0)
    first, *others = (refit.prune(name, 0.75) for name in names)
    for one in (first, *others):
        kernel = changed.get_layer(one.name).kernel.numpy()
        assert float(np.mean(kernel == 0)) == pytest.approx(0.75, abs=0.01)
        assert one.error <= one.cut_error
    untouched = {layer.name for layer in maskable(model)} - set(names)
    for name in untouched:
        assert np.array_equal(changed.get_layer(name).kernel, model.get_layer(name).kernel)


def test_the_outputs_error_is_that_of_the_layer() -> None:
    """Read at all positions, the error that is reported is that of the layer's output on the same images."""
    model = network("squeezenet_1.1", 64)
    changed = rewrite.clone(model)
    name = maskable(model)[-2].name
    source = rewrite.calls_by_name(model)[name].sources[0]
    (one,) = (energy.Refit(model, changed, [name], batches(64), 0).prune(name, 0.5),)
    total = lost = 0.0
    for images in batches(64)():
        x = rewrite.listed(rewrite.tensors(model, [source])(images))[0]
        whole, cut = (network.get_layer(name)(x) - network.get_layer(name).bias for network in (model, changed))
        assert whole.shape[1] * whole.shape[2] <= energy.POSITIONS
        total, lost = total + float(np.sum(whole**2)), lost + float(np.sum((whole - cut) ** 2))
    assert one.error == pytest.approx(lost / total, rel=1e-3)


def test_as_a_stage_its_zeros_stay_and_the_notes_say_what_is_left(tmp_path) -> None:
    keras.utils.set_random_seed(3)
    inputs = keras.layers.Input((8, 8, 3), name="image")
    x = conv(conv(inputs, 8, 3, 2, name="first"), 12, 3, name="second")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, [logits(x, 3, dropout=0.1), keras.layers.Dense(3, name="aux")(x)])
    config = prune.Config(structure="energy", keep=0.9, sparsity=0.5, epochs=2, ema=0.9, fit_images=64)
    result, notes = prune.run(model, config, context(tmp_path))
    before, after = notes["energy_pj"]
    assert after <= 0.9 * before
    assert set(notes["output_errors"]) == {"second"}
    assert notes["sparsity"]["second"] == pytest.approx(0.5, abs=0.01)
    assert [kernel.shape for kernel in kernels_of(result)] == [kernel.shape for kernel in kernels_of(model)]
    assert all((kernel.numpy() != 0).any() for kernel in kernels_of(result))


def test_it_is_the_same_after_a_kill(tmp_path, monkeypatch) -> None:
    keras.utils.set_random_seed(3)
    inputs = keras.layers.Input((8, 8, 3), name="image")
    x = conv(conv(inputs, 8, 3, 2, name="first"), 12, 3, name="second")
    model = keras.Model(inputs, logits(keras.layers.GlobalAveragePooling2D(name="pool")(x), 3, dropout=0.1))
    config = prune.Config(structure="energy", keep=0.9, sparsity=0.5, epochs=2, ema=0.9, fit_images=64)
    whole, notes = prune.run(model, config, context(tmp_path / "whole"))

    def interrupt(self, line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Context, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prune.run(model, config, context(tmp_path / "run"))
    monkeypatch.undo()
    resumed, again = prune.run(model, config, context(tmp_path / "run"))
    assert again == notes
    assert all(map(np.array_equal, whole.get_weights(), resumed.get_weights()))
