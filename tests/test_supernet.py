"""One network that holds every member of a space: each computes and learns in it as it does alone."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from fake_images import FakeImages

from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models.architecture import build
from tfcompact.models.space import Choices, Space
from tfcompact.records.artifact import Normalization
from tfcompact.supernet.learner import Learner
from tfcompact.supernet.masked_network import MaskedNetwork, switches_of
from tfcompact.supernet.members import become, start, taken_out
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training
from tfcompact.training.optimizers import optimizer_for

PLAIN = Space(
    px=(16,),
    classes=3,
    stem=8,
    head=24,
    rows=(
        Choices((8, 16), 1, (1, 2), (1, 3), (3, 5), (False, True), ("relu6", "h_swish")),
        Choices(16, 2, (1, 2), (2, 4), (3,), (False, "input"), ("relu",)),
    ),
)
EVERYTHING = Space(
    px=(16,),
    classes=3,
    stem=8,
    head=24,
    features=16,
    outer_act=("h_swish",),
    rows=(
        Choices((8, 16), 1, (1, 2), (1, 3), (3, 5), (False, True, "input"), ("relu", "h_swish"), ("mbconv", "conv")),
        Choices((16, 24), 2, (1, 3), (2,), (3, 7), (True,), ("relu6",), ("conv",), ("identity", "none", "pool")),
        Choices((16, 24), 1, (1, 2), (1,), (3,), ("input",), ("relu",), ("mbconv",), ("none", "pool")),
    ),
)


def images(count: int = 6, px: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, px, px, 3)).astype(np.float32)


def randomized(space: Space) -> MaskedNetwork:
    """A masked network with random weights and statistics."""
    rng = np.random.default_rng(1)
    network = MaskedNetwork(space, dropout=0)
    start(network, None, rng)
    for norm in network.norms.values():
        norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
        for variable in (norm.beta, norm.mean):
            variable.assign(rng.normal(0, 0.3, variable.shape))
        norm.variance.assign(rng.uniform(0.5, 2, norm.variance.shape))
    for name, variable in network.variables.items():
        if name.endswith("/bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return network


@pytest.mark.parametrize("space", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_a_member_is_the_network_of_its_architecture(space) -> None:
    """Every choice of the space occurs; answers are equal, and so they are in training, by the batch."""
    network = randomized(space)
    answers = {t: tf.function(lambda x, t=t: network(x, training=t)) for t in (False, True)}
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(16)]
    for decision, options in zip(space.decisions, zip(*map(space.choices, drawn), strict=True), strict=True):
        assert set(options) == set(range(len(decision.options))), decision.name
    for architecture in drawn:
        become(network, architecture)
        own = taken_out(network, architecture)
        for layer in own.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0
        for training in (False, True):
            ours, theirs = answers[training](images()).numpy(), own(images(), training=training).numpy()
            assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max(), architecture


def test_a_member_learns_as_it_does_alone(tmp_path) -> None:
    """After steps of training, with clipping and weight decay, its weights are those of its own network."""
    space = PLAIN
    architecture = space.sample(random.Random(4))
    config = Training(epochs=1, batch=8, optimizer="sgd", learning_rate=0.1, clip_norm=0.5, norm_batches=1)
    network = randomized(space)
    become(network, architecture)
    own = taken_out(network, architecture)
    own.get_layer("logits_dropout").rate = 0
    data = FakeImages(train=32, px=16)
    here = Context(SimpleNamespace(), data, 16, Normalization(), 0, tmp_path, Console(quiet=True))
    learner = Learner(network, config, here)
    optimizer = optimizer_for(config, 4, own)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
    before = own.get_weights()
    x = images(8)
    y = tf.one_hot(np.arange(8) % 3, 3)
    for _ in range(4):
        learner._step(x, y)
        with tf.GradientTape() as tape:
            value = loss(y, own(x, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(value, own.trainable_variables), own.trainable_variables, strict=True)
        )
    inside = taken_out(network, architecture)
    for ours, theirs in zip(inside.trainable_variables, own.trainable_variables, strict=True):
        assert np.abs(ours.numpy() - theirs.numpy()).max() < 2e-4, ours.name
    moved = [np.abs(a - b).max() for a, b in zip(own.get_weights(), before, strict=True)]
    assert max(moved) > 0.01


@pytest.fixture
def learner(tmp_path) -> Learner:
    config = Training(epochs=6, batch=16, learning_rate=1e-2, norm_batches=2, warmup_epochs=0.5)
    data = FakeImages(train=128, px=16)
    here = Context(SimpleNamespace(), data, 16, Normalization(), 0, tmp_path, Console(quiet=True))
    return Learner(MaskedNetwork(PLAIN), config, here)


def test_trained_alone_it_learns_and_is_the_same_every_time(learner) -> None:
    one, other = (PLAIN.sample(random.Random(seed)) for seed in (0, 1))
    first = learner.alone(one, 0)
    assert first > 0.5
    learner.alone(other, 0)
    assert learner.alone(one, 0) == first


def test_trained_together_every_member_has_learnt(learner) -> None:
    learner.together(PLAIN.sample, 0)
    found = [learner.accuracy(PLAIN.sample(random.Random(seed))) for seed in range(4)]
    assert np.mean(found) > 0.45
    again = learner.accuracy(PLAIN.sample(random.Random(0)))
    assert again == found[0], "judging changes nothing"


def test_weights_begin_as_those_of_the_member_s_own_network() -> None:
    """Their deviations are, layer by layer; a part of a wide network's would be too small or too large."""
    architecture = EVERYTHING.sample(random.Random(2))
    network = MaskedNetwork(EVERYTHING)
    start(network, architecture, np.random.default_rng(0))
    ours, theirs = taken_out(network, architecture), build(architecture)
    for layer, own in zip(ours.layers, theirs.layers, strict=True):
        if layer.weights and len(layer.weights[0].shape) == 4 and layer.weights[0].shape.num_elements() > 500:
            a, b = (np.std(each.get_weights()[0]) for each in (layer, own))
            assert a == pytest.approx(b, rel=0.12), layer.name


def test_what_is_no_member_and_what_is_several_networks_is_told() -> None:
    with pytest.raises(UserError, match="features must be 0"):
        switches_of(PLAIN, EVERYTHING.sample(random.Random(0)))
    with pytest.raises(UserError, match="a supernet is of one px"):
        MaskedNetwork(Space(**(vars(PLAIN) | {"px": (16, 32)})))
    network = MaskedNetwork(PLAIN)
    wrong = switches_of(PLAIN, PLAIN.sample(random.Random(0))) | {"row0.out": 99}
    with pytest.raises(ValueError, match="must be from 0 to"):
        network.switches.set(wrong)
