"""Channels that go together, networks without some of them, and which are chosen.

The proof of a smaller network is the same network with zeros in the place of what was removed.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from random_weights import randomize
from variants import cheapest_first

from tfcompact import models
from tfcompact.compress.channels import narrowing, selection
from tfcompact.compress.channels.atoms import channels
from tfcompact.compress.channels.importance import importance
from tfcompact.compress.channels.slicing import smaller, widths, zeroed
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models.layers import LocalResponseNorm
from tfcompact.networks import rewrite
from tfcompact.networks.squeeze_excite import with_squeeze_excite

L = keras.layers
STUCK = "shufflenet_v1"  # its channels hang together, layer by layer


@pytest.fixture
def in_64_bits():
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx("float32")


def network(name: str, seed: int = 0, classes: int = 7):
    spec = models.spec(name)
    model = models.built(spec, px=max(48, spec.min_px), classes=classes, aux=True)
    randomize(model, np.random.default_rng(seed))
    return model


def images(model, count: int = 2):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(keras.backend.floatx())


def some(structure, share: float, seed: int = 0) -> set[int]:
    """A random share of each group's classes."""
    rng = np.random.default_rng(seed)
    return {
        int(root)
        for group in structure.groups
        for root in rng.permutation(group.classes)[: int(share * len(group.classes))]
    }


def difference(a, b) -> float:
    """The largest difference of two networks' outputs, relative to the largest output."""
    pairs = zip(rewrite.listed(a(images(a))), rewrite.listed(b(images(b))), strict=True)
    return max(float(np.abs(p - q).max() / np.abs(q).max()) for p, q in pairs)


@pytest.mark.parametrize("name", cheapest_first(lambda spec: True))
def test_a_smaller_network_computes_what_the_zeroed_one_does(name, in_64_bits) -> None:
    model = network(name)
    structure = channels(model)
    gone = some(structure, 0.4)
    if models.spec(name).family == STUCK:
        assert max(len(group.classes) for group in structure.groups) == 1
        return
    less = smaller(model, structure, gone)
    assert difference(less, zeroed(model, structure, gone)) < 1e-12
    assert difference(less, model) > 1e-6, "nothing was removed"
    assert rewrite.cost(less).macs < 0.6 * rewrite.cost(model).macs


def test_gates_that_were_added_are_pruned_too(in_64_bits) -> None:
    model = with_squeeze_excite(network("mobilenet_v1_0.25"), 4)
    randomize(model, np.random.default_rng(3))
    structure = channels(model)
    gone = some(structure, 0.5)
    assert difference(smaller(model, structure, gone), zeroed(model, structure, gone)) < 1e-12


def test_nothing_removed_is_the_network_itself() -> None:
    model = network("mobilenet_v2_0.35")
    same = smaller(model, channels(model), ())
    assert all(np.array_equal(a, b) for a, b in zip(same.get_weights(), model.get_weights(), strict=True))
    assert np.array_equal(same(images(model)), model(images(model)))


def test_half_of_every_width_is_the_family_s_own_half() -> None:
    """MobileNetV1 at half of its channels has the layers of MobileNetV1 with the multiplier 0.5."""
    model = models.build("mobilenet_v1", px=64, classes=10)
    structure = channels(model)
    gone = {root for group in structure.groups for root in group.classes[: len(group.classes) // 2]}
    assert rewrite.cost(smaller(model, structure, gone)) == rewrite.cost(
        models.build("mobilenet_v1_0.5", px=64, classes=10)
    )


def test_what_must_stay_stays() -> None:
    model = network("googlenet")
    structure = channels(model)
    logits = structure.sites["logits"].writes
    assert set(logits.tolist()) <= structure.frozen
    windows = [site for site in structure.sites.values() if isinstance(site.layer, LocalResponseNorm)]
    assert windows
    assert all(set(site.writes.tolist()) <= structure.frozen for site in windows)
    with pytest.raises(ValueError, match="is what the network reads or writes"):
        smaller(model, structure, [int(logits[0])])
    group = structure.groups[0]
    with pytest.raises(ValueError, match="would keep no channel"):
        smaller(model, structure, group.classes)


def test_a_layer_that_is_used_twice_has_one_set_of_channels(in_64_bits) -> None:
    x = L.Input((8, 8, 6))
    twice = L.Conv2D(6, 3, padding="same", name="twice")
    first = L.Conv2D(6, 1, name="first")(x)
    out = L.Dense(4, name="logits")(L.GlobalAveragePooling2D()(twice(twice(first))))
    model = keras.Model(x, out)
    structure = channels(model)
    (group,) = structure.groups
    assert set(group.producers) == {"first", "twice"}
    assert (
        difference(smaller(model, structure, group.classes[:2]), zeroed(model, structure, group.classes[:2])) < 1e-12
    )


def test_a_layer_that_nothing_is_known_of_is_an_error() -> None:
    x = L.Input((8, 8, 4))
    model = keras.Model(x, L.Permute((2, 1, 3), name="turn")(L.Conv2D(4, 1)(x)))
    with pytest.raises(UserError, match="nothing is known of the channels of turn, a Permute"):
        channels(model)


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small_0.75", "densenet_bc_40_12", "shufflenet_v2_0.5", "squeezenet_1.1"]
)
@pytest.mark.parametrize("cost", ["macs", "params"])
def test_the_cost_that_is_left_is_the_smaller_networks(name, cost) -> None:
    model = network(name)
    structure = channels(model)
    scores = importance(model, structure, "random", seed=1)
    gone, left = selection.chosen(structure, scores, cost=cost, share=0.6, cap=0.7, multiple=4)
    before, after = rewrite.cost(model), rewrite.cost(smaller(model, structure, gone))
    if cost == "macs":
        assert left == pytest.approx(after.macs / before.macs, abs=1e-9)
    else:
        assert left == pytest.approx(sum(after[:2]) / sum(before[:2]), abs=1e-9)
    assert 0.4 < left <= 0.6
    for group in structure.groups:
        kept = sum(root not in gone for root in group.classes)
        assert kept >= 0.3 * len(group.classes) - 1e-9
        assert kept == len(group.classes) or kept * group.width % 4 == 0


def test_a_share_that_cannot_be_reached_says_what_can() -> None:
    model = network("mobilenet_v1_0.25")
    structure = channels(model)
    scores = importance(model, structure, "l2")
    with pytest.raises(UserError, match=r"10% of the macs cannot be reached: with every group at its cap \d+% are"):
        selection.chosen(structure, scores, cost="macs", share=0.1, cap=0.5, multiple=16)


def chain():
    """Two convolutions, the first of eight channels with a normalization, that nothing has trained."""
    x = L.Input((6, 6, 3))
    y = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(8, 3, use_bias=False, name="conv")(x)))
    return keras.Model(x, L.Dense(4, name="logits")(L.GlobalAveragePooling2D()(y)))


def test_each_measure_finds_what_it_looks_for() -> None:
    model = chain()
    structure = channels(model)
    conv, norm = model.get_layer("conv"), model.get_layer("norm")
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=conv.kernel.shape)
    kernel[..., 2] *= 0.01
    conv.kernel.assign(kernel)
    norm.gamma.assign([1, 1, 1, 1, 1, 0.02, 1, 1])
    norm.beta.assign(rng.normal(0, 0.1, 8))
    roots = structure.sites["conv"].writes.tolist()

    def least(method):
        x = tf.constant(rng.uniform(-1, 1, (16, 6, 6, 3)), tf.float32)
        y = tf.one_hot(rng.integers(0, 4, 16), 4)
        scores = importance(model, structure, method, batches=lambda: [(x, y)])
        return roots.index(min(roots, key=lambda root: scores[root]))

    assert least("l2") == 2
    assert least("bn") == 5
    norm.gamma.assign(np.ones(8))
    dense = model.get_layer("logits")
    weights = dense.kernel.numpy()
    weights[6] = 0  # nothing that channel 6 does reaches the loss
    dense.kernel.assign(weights)
    assert least("taylor") == 6
    kernel = rng.normal(size=conv.kernel.shape)
    kernel[..., 4] = kernel[..., [0, 1, 2, 3, 5, 6, 7]].mean(-1)
    conv.kernel.assign(kernel)
    assert least("fpgm") == 4
    assert importance(model, structure, "random", seed=1) == importance(model, structure, "random", seed=1)
    assert importance(model, structure, "random", seed=1) != importance(model, structure, "random", seed=2)


def test_taylor_is_the_first_order_change_of_the_loss() -> None:
    """For a channel whose scale and shift are tiny, the loss changes by what the measure says."""
    model = chain()
    structure = channels(model)
    norm = model.get_layer("norm")
    rng = np.random.default_rng(0)
    norm.gamma.assign(rng.uniform(0.5, 1e-0, 8) * np.array([1, 1, 1, 1e-4, 1, 1, 1, 1]))
    norm.beta.assign(np.array([0, 0, 0, 1e-4, 0, 0, 0, 0]))
    x = tf.constant(rng.uniform(-1, 1, (16, 6, 6, 3)), tf.float32)
    y = tf.one_hot(rng.integers(0, 4, 16), 4)
    from tfcompact.compress.channels.importance import _effects

    effect = np.sqrt(_effects(model, structure, [(x, y)])["norm"][3])

    def loss():
        logits = tf.cast(model(x), tf.float64)
        return float(tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(tf.cast(y, tf.float64), logits)))

    before = loss()
    norm.gamma.assign(norm.gamma * np.array([1, 1, 1, 0, 1, 1, 1, 1]))
    norm.beta.assign(norm.beta * np.array([1, 1, 1, 0, 1, 1, 1, 1]))
    assert abs(loss() - before) == pytest.approx(effect, rel=0.02)


def test_a_network_without_scales_says_so() -> None:
    model = network("squeezenet_1.1")
    with pytest.raises(UserError, match="no batch normalization with a scale to judge channels by; take l2"):
        importance(model, channels(model), "bn")


def test_widths_are_those_of_the_layers() -> None:
    model = network("squeezenet_1.1")
    found = widths(channels(model))
    assert found["logits"] == 7
    assert all(found[layer.name] == layer.filters for layer in model.layers if isinstance(layer, L.Conv2D))


@pytest.mark.parametrize(("share", "narrow"), [(0.5, "mobilenet_v1_0.5"), (0.25, "mobilenet_v1_0.25")])
def test_equal_shares_of_all_channels_are_the_width_multiplier(share, narrow) -> None:
    keras.utils.set_random_seed(0)
    wide = models.build("mobilenet_v1", px=64, classes=10)
    before = [w.shape for w in wide.get_weights()]
    small, reference = narrowing.narrowed(wide, share), models.build(narrow, px=64, classes=10)
    assert [w.shape for w in small.get_weights()] == [w.shape for w in reference.get_weights()]
    assert [w.shape for w in wide.get_weights()] == before
    for ours, theirs in zip(small.trainable_weights, reference.trainable_weights, strict=True):
        if ours.shape.num_elements() > 5000:  # random anew, as strong as layers of that width begin
            assert ours.numpy().std() == pytest.approx(theirs.numpy().std(), rel=0.05)


@pytest.mark.parametrize("name", cheapest_first(lambda spec: spec.family != STUCK))
def test_every_family_has_a_narrower_network(name) -> None:
    model = network(name)
    small = narrowing.narrowed(model, 0.5)
    assert small.count_params() < 0.8 * model.count_params()
    assert small.output_shape == model.output_shape
    assert np.isfinite(rewrite.listed(small(images(small)))[0]).all()


def test_a_network_whose_channels_hang_together_has_none() -> None:
    with pytest.raises(UserError, match="narrower variant"):
        narrowing.narrowed(network("shufflenet_v1_g4_0.5"), 0.5)


def test_the_weights_of_a_smaller_network_are_those_of_the_one_that_is_given() -> None:
    """Channels found in one network serve another one of its shape."""
    model, other = network("mobilenet_v2_0.35"), network("mobilenet_v2_0.35", seed=5)
    gone = some(channels(model), 0.4)
    for make in (smaller, zeroed):
        one, same = make(other, channels(model), gone), make(other, channels(other), gone)
        assert all(map(np.array_equal, one.get_weights(), same.get_weights()))
