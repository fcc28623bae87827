"""Zeros among the weights: which, how they come, and that nothing brings them back."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_stages import context

from tfcompact import models
from tfcompact.compress.sparsity.masks import (
    Masks,
    block_mask,
    cubic,
    kept_zeros,
    kernels_of,
    magnitude_mask,
    maskable,
)
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models.blocks import conv, logits
from tfcompact.stages import decompose, fit, prune, quantize

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.75, 0.99, 0.9999])
@pytest.mark.parametrize("shape", [(1, 1, 16, 24), (3, 3, 8, 5), (40, 7)])
def test_magnitude_masks_are_tfmots(sparsity, shape) -> None:
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_schedule

    weights = tf.constant(RNG.normal(size=shape), tf.float32)
    schedule = pruning_schedule.ConstantSparsity(sparsity, 0)
    theirs = pruning_impl.Pruning(lambda: 0, None, schedule, (1, 1), "AVG")._update_mask(weights)[1]
    ours = magnitude_mask(weights, sparsity)
    assert np.array_equal(ours, theirs)
    assert int(tf.reduce_sum(ours)) == max(1, round(float(np.prod(shape)) * (1 - sparsity)))


def test_equal_weights_are_kept_to_the_number() -> None:
    assert int(tf.reduce_sum(magnitude_mask(tf.ones([4, 10]), 0.75))) == 10


@pytest.mark.parametrize("shape", [(1, 1, 16, 24), (3, 3, 8, 5), (40, 7)])
def test_masks_of_2_in_4_pass_tfmots_checker_and_are_its_own(shape) -> None:
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_utils

    weights = RNG.normal(size=shape).astype(np.float32)
    mask = block_mask(weights)
    assert mask.mean() == 0.5
    assert pruning_utils.is_pruned_m_by_n(tf.constant(weights * mask))
    rearranged = pruning_utils.weights_rearrange(tf.constant(weights))
    theirs = pruning_utils.generate_m_by_n_mask(rearranged)
    theirs = pruning_utils.m_by_n_sparsity_mask_prepare(theirs, tf.TensorShape(shape))
    assert np.array_equal(mask, theirs)


def test_channels_that_are_no_multiple_of_four_stay() -> None:
    mask = block_mask(RNG.normal(size=(1, 1, 10, 3)))
    assert mask[:, :, :8].mean() == 0.5
    assert mask[:, :, 8:].all()


def test_sparsity_rises_with_the_cube() -> None:
    values = [float(cubic(tf.constant(step), 100, 0.8)) for step in (0, 50, 100, 150)]
    assert values == pytest.approx([0, 0.8 * (1 - 0.5**3), 0.8, 0.8])


def test_what_may_have_zeros() -> None:
    model = models.built(models.spec("googlenet_bn_3x3"), px=64, classes=5, aux=True)
    names = {layer.name for layer in maskable(model)}
    assert "logits" in names
    assert not [name for name in names if name.startswith("aux")]
    first = next(layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert first not in names
    depthwise = models.build("mobilenet_v1_0.25", px=32, classes=5)
    kinds = {type(layer) for layer in maskable(depthwise)}
    assert keras.layers.DepthwiseConv2D not in kinds
    assert len(maskable(depthwise)) == 14  # thirteen 1x1 convolutions and the classifier


def small():
    """A network that nothing has trained, with an auxiliary head."""
    keras.utils.set_random_seed(3)
    inputs = keras.layers.Input((8, 8, 3), name="image")
    x = conv(conv(inputs, 8, 3, 2, act="h_swish", name="first"), 12, 3, name="second")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, [logits(x, 3, dropout=0.1), keras.layers.Dense(3, name="aux")(x)])


SHORT = {"epochs": 4, "batch": 32, "ema": 0.9}


def zeros(model) -> dict[str, float]:
    layers = [layer for layer in model.layers if getattr(layer, "kernel", None) is not None]
    return {layer.name: float(np.mean(layer.kernel.numpy() == 0)) for layer in layers}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    config = prune.Config(structure="weights", sparsity=0.75, **SHORT)
    return prune.run(small(), config, context(tmp_path_factory.mktemp("weights")))


def test_a_training_ends_with_the_zeros_asked_for_in_the_averaged_weights(pruned) -> None:
    model, notes = pruned
    assert zeros(model)["second"] == 0.75
    assert zeros(model)["first"] == 0
    assert notes["sparsity"]["second"] == 0.75
    assert notes["best_epoch"] >= 3, "an epoch in which sparsity still rose was kept"


def test_zeros_stay_through_training_and_rounding(pruned, tmp_path) -> None:
    model, _ = pruned
    again, _ = fit.run(model, fit.Config(learning_rate=1e-2, **SHORT), context(tmp_path / "fit"))
    assert zeros(again)["second"] == 0.75
    config = quantize.Config(epochs=1, batch=32, calibration_images=64, sqnr_images=0)
    rounded, _ = quantize.run(again, config, context(tmp_path / "quantize"))
    from tfcompact.compress.quantization.rounded_layers import rounded_layer, rounded_weights

    kernel = rounded_weights(rounded_layer(rounded, "second"))[0]
    assert float(np.mean(kernel == 0)) >= 0.75


def test_2_in_4_is_one_mask_from_the_first_step(tmp_path) -> None:
    config = prune.Config(structure="2:4", **SHORT)
    model, notes = prune.run(small(), config, context(tmp_path))
    assert zeros(model)["second"] == 0.5
    assert notes["zeros"] > 0


def test_without_epochs_only_the_zeros_are_new(tmp_path) -> None:
    before = small()
    model, _ = prune.run(before, prune.Config(structure="weights", epochs=0, sparsity=0.5), context(tmp_path))
    kernel, old = model.get_layer("second").kernel.numpy(), before.get_layer("second").kernel.numpy()
    assert np.array_equal(kernel[kernel != 0], old[kernel != 0])
    assert abs(old[kernel == 0]).max() <= abs(old[kernel != 0]).min()
    assert np.array_equal(model.get_layer("first").kernel, before.get_layer("first").kernel)


def test_a_network_that_was_not_pruned_gets_no_masks() -> None:
    model = small()
    assert kept_zeros(kernels_of(model)) == []
    kernel = model.get_layer("second").kernel
    kernel.assign(kernel * block_mask(kernel.numpy()))
    (masks,) = kept_zeros(kernels_of(model))
    assert isinstance(masks, Masks)
    assert [id(k) for k in masks.kernels] == [id(kernel)]


def test_one_step_is_too_few_for_sparsity_to_rise(tmp_path) -> None:
    config = prune.Config(structure="weights", epochs=1, epoch_images=32, batch=32)
    with pytest.raises(UserError, match="needs two steps or more"):
        prune.run(small(), config, context(tmp_path))


def test_channels_in_rounds_reach_the_share_and_the_parent_is_untouched(tmp_path) -> None:
    parent = small()
    kept = parent.get_weights()
    config = prune.Config(keep=0.5, multiple=1, rounds=2, slimming=1e-4, importance="bn", **SHORT)
    model, notes = prune.run(parent, config, context(tmp_path))
    assert all(np.array_equal(a, b) for a, b in zip(kept, parent.get_weights(), strict=True))
    assert len(notes["rounds"]) == 2
    assert notes["rounds"][1]["left"] <= 0.5 < notes["rounds"][0]["left"]
    assert model.get_layer("first").filters + model.get_layer("second").filters < 20
    assert len(model.outputs) == 2


def with_dropout():
    """A network whose normalization sees what chance has left of its input, as our drop paths do."""
    keras.utils.set_random_seed(4)
    inputs = keras.layers.Input((8, 8, 3), name="image")
    x = keras.layers.Dropout(0.3, name="chance", rng_type="stateful")(conv(inputs, 16, 3, 2, name="first"))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(conv(x, 16, 3, name="second"))
    return keras.Model(inputs, logits(x, 3, dropout=0.1))


def test_rounds_that_were_killed_end_with_the_same_bits(tmp_path) -> None:
    class Killed(Exception):
        pass

    def log(self, line, *args, **options):
        if "round-2: epoch 1/2" in str(line):
            raise Killed

    config = prune.Config(keep=0.5, multiple=1, rounds=2, importance="taylor", **SHORT)
    whole, _ = prune.run(with_dropout(), config, context(tmp_path / "whole"))
    where = context(tmp_path / "part")
    loud = type("Loud", (type(where.console),), {"print": log})(quiet=True)
    with pytest.raises(Killed):
        prune.run(with_dropout(), config, dataclasses.replace(where, console=loud))
    again, _ = prune.run(with_dropout(), config, context(tmp_path / "part"))
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))


def test_channels_that_hang_together_layer_by_layer_are_refused(tmp_path) -> None:
    model = models.build("shufflenet_v1_g4_0.5", px=32, classes=3)
    with pytest.raises(
        UserError, match="hang together, layer by layer, so that none can go .* narrower variant"
    ) as e:
        prune.run(model, prune.Config(**SHORT), context(tmp_path))
    assert "\n" not in str(e.value)


def test_zeros_are_not_filled_by_factors(pruned, tmp_path) -> None:
    with pytest.raises(UserError, match="pruned to zeros, which factors would fill again; decompose its parent"):
        decompose.run(pruned[0], decompose.Config(multiple=2, **SHORT), context(tmp_path))


def test_channels_by_a_table_cost_what_was_asked(tmp_path) -> None:
    def price(model) -> float:
        return 100 + float(sum(np.prod(w.shape) for w in model.trainable_weights))

    parent = small()
    where = context(tmp_path)
    where = type(where)(**{**where.__dict__, "price": price})
    config = prune.Config(cost="table", keep=0.7, multiple=1, **SHORT)
    model, notes = prune.run(parent, config, where)
    assert notes["rounds"][0]["left"] == pytest.approx(price(model) / price(parent))
    assert 0.6 < notes["rounds"][0]["left"] <= 0.7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"structure": "rows"}, "no structure named 'rows'"),
        ({"importance": "l1"}, "no importance named 'l1'; known: bn, fpgm, l2, random, taylor"),
        ({"keep": 1.0}, r"keep must be in \(0, 1\)"),
        ({"rounds": 9}, "rounds must be at most 5, the epochs"),
        ({"precision": "mixed_bfloat16"}, "precision must be auto or float32"),
        ({"slimming": 1e-4, "epochs": 0}, "slimming must be 0 where there are no epochs"),
    ],
)
def test_options_that_make_no_sense(options, words) -> None:
    with pytest.raises(UserError, match=words):
        prune.Config(**options)
