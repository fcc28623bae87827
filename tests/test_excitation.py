"""Squeeze-and-excitation as a rewrite: where gates stand, what they cost, and that at first they change nothing."""

import numpy as np
import pytest
from random_weights import randomize

from tfcompact import models
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models import resnet
from tfcompact.networks import rewrite, squeeze_excite

L = keras.layers
PX = 75
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, PX, PX, 3)).astype(np.float32)
RESNET_50 = {256: 3, 512: 4, 1024: 6, 2048: 3}  # channels of a stage -> its blocks: arXiv:1512.03385, Table 1


def random(name: str):
    """A network with random statistics, for five classes."""
    model = models.build(name, px=PX, classes=5, aux=True)
    randomize(model, np.random.default_rng(1))
    return model


def gates(model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, L.Multiply)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v2_0.35", 10),  # blocks with a shortcut
        ("efficientnet_b0", 9),
        ("shufflenet_v1_g3_0.5", 13),
        pytest.param("inception_resnet_v2", 40, marks=pytest.mark.exhaustive),
        ("resnet_50_v1.5", 16),
        ("inception_v3", 11),  # modules, and not the forks in two of them
        ("squeezenet_1.1", 8),  # fire modules
        ("densenet_bc_40_12", 3),  # dense blocks
        ("nasnet_cifar", 20),  # cells
        ("mobilenet_v1_0.25", 13),  # plain blocks
    ],
)
def test_each_block_gets_a_gate_and_the_network_computes_the_same(name: str, expected: int) -> None:
    keras.backend.clear_session()
    model = random(name)
    before = model.get_weights()
    gated = squeeze_excite.with_squeeze_excite(model)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert len(gates(gated)) - len(gates(model)) == expected
    for ours, theirs in zip(tf.nest.flatten(gated(IMAGES)), tf.nest.flatten(model(IMAGES)), strict=True):
        assert np.array_equal(ours, theirs)
    again = squeeze_excite.with_squeeze_excite(gated)  # its names must not collide
    assert len(gates(again)) == len(gates(gated)) + expected


def test_cost_is_the_papers_formula() -> None:
    """Section 4: 2/r times the sum of blocks x channels^2 over the stages; our convolutions have biases besides."""
    plain = models.build("resnet_50_v1.5")
    for reduction in (16, 8):
        gated = rewrite.cost(squeeze_excite.with_squeeze_excite(plain, reduction))
        products = sum(n * 2 * c * c // reduction for c, n in RESNET_50.items())
        biases = sum(n * (c // reduction + c) for c, n in RESNET_50.items())
        assert gated.trainable - rewrite.cost(plain).trainable == products + biases
        assert gated.macs - rewrite.cost(plain).macs == products
        assert gated.non_trainable == rewrite.cost(plain).non_trainable


def test_mobilenet_v1_with_gates_has_the_papers_size() -> None:
    """Table 3 of arXiv:1709.01507: 4.2 million parameters become 4.7."""
    plain = models.build("mobilenet_v1")
    gated = rewrite.cost(squeeze_excite.with_squeeze_excite(plain))
    assert round(rewrite.cost(plain).trainable / 1e6, 1) == 4.2
    assert round(gated.trainable / 1e6, 1) == 4.7


def plain_counterpart(px: int):
    """`se_resnet_50` without its gates."""
    style = resnet.CAFFE_SE._replace(reduction=None)
    return resnet.resnet((px, px, 3), 1000, repeats=resnet.STAGES[50], style=style, name="plain")


def test_the_plain_counterpart_of_se_resnet_becomes_it() -> None:
    spec = models.spec("se_resnet_50")
    gated = squeeze_excite.with_squeeze_excite(plain_counterpart(spec.image_px))
    assert rewrite.cost(gated) == (*spec.params, spec.macs)
    small, original = squeeze_excite.with_squeeze_excite(plain_counterpart(64)), models.build("se_resnet_50", px=64)
    randomize(original, np.random.default_rng(2))
    for layer in original.layers:
        small.get_layer(layer.name).set_weights(layer.get_weights())
    np.testing.assert_allclose(small(IMAGES[:, :64, :64]), original(IMAGES[:, :64, :64]), rtol=1e-4, atol=1e-4)


def test_a_gate_stands_before_drop_path() -> None:
    gated = squeeze_excite.with_squeeze_excite(models.build("efficientnet_b0", px=32, classes=3))
    readers = {layer.name: [type(gated.get_layer(r)) for r in names] for layer, _, names in rewrite.calls(gated)}
    outer = [name for name in gates(gated) if "_se2_" in name]
    assert len(outer) == 9
    assert all(readers[name] == [L.Dropout] for name in outer)


def test_gates_learn() -> None:
    gated = squeeze_excite.with_squeeze_excite(random("mobilenet_v2_0.35"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(gated(IMAGES, training=True)[:, 0])
    variables = gated.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, variable.name
        assert np.any(gradient) or "_se_expand/bias" not in variable.name
    before = gated(IMAGES).numpy()
    gated.get_layer("block1_1_se_expand").bias.assign_add(tf.ones(8))
    assert not np.allclose(gated(IMAGES), before)


def test_what_cannot_be_gated_is_one_line() -> None:
    nothing = keras.Sequential([L.Input((8, 8, 3)), L.Conv2D(4, 3), L.GlobalAveragePooling2D()], name="nothing")
    with pytest.raises(UserError, match="nothing has no block for a gate to stand behind"):
        squeeze_excite.with_squeeze_excite(keras.Model(nothing.input, nothing.output, name="nothing"))
    with pytest.raises(UserError, match="reduction must be at least 1, not 0; the published one is 16"):
        squeeze_excite.with_squeeze_excite(models.build("mobilenet_v2_0.35", px=32), 0)
