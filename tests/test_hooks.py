"""What stages may add to the loop: losses, variables, projections, all of it resumed to the bit."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import context, network, options

from tfcompact.compress.distillation.teachers import SoftLabels
from tfcompact.frameworks import tf
from tfcompact.training import loop
from tfcompact.training.hooks import AuxiliaryHead, Hook


class Masked(Hook):
    """Holds the first row of one kernel at zero."""

    def __init__(self, model, name: str = "second") -> None:
        self.kernel = model.get_layer(name).trainable_weights[0]
        self.mask = np.ones(self.kernel.shape, np.float32)
        self.mask[0] = 0

    def project(self, variable, value):
        return value * self.mask if variable is self.kernel else None


class Regressor(Hook):
    """A matrix of its own that maps pooled features to a target, trained with the network; and a count of steps."""

    layers = ("pool",)

    def __init__(self) -> None:
        self.matrix = tf.Variable(np.full((8, 3), 0.1, np.float32))
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def variables(self):
        return (self.matrix, self.steps)

    def trainable_variables(self):
        return (self.matrix,)

    def loss(self, step):
        return tf.reduce_mean(tf.square(tf.matmul(step.layers["pool"], self.matrix) - step.labels))

    def after_step(self, iterations):
        self.steps.assign(iterations)


def trained(directory: Path, hooks, *, at=None, **changes):
    """A network after two epochs with what `hooks(network)` gives, and these hooks."""
    directory.mkdir(exist_ok=True)
    model = network()
    made = hooks(model)
    loop.train(model, options(epochs=2, norm_batches=0, **changes), context(directory, at=at), hooks=made)
    return model, made


def same(first, second) -> bool:
    return all(map(np.array_equal, first.get_weights(), second.get_weights()))


def test_a_hook_that_does_nothing_changes_no_bit(tmp_path) -> None:
    plain, _ = trained(tmp_path / "plain", lambda model: [])
    inert, _ = trained(tmp_path / "inert", lambda model: [Hook()])
    assert same(plain, inert)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_masked_weight_stays_masked_and_so_does_its_average(tmp_path, ema) -> None:
    model, _ = trained(tmp_path / "run", lambda model: [Masked(model)], ema=ema)
    kernel = model.get_layer("second").get_weights()[0]
    assert np.all(kernel[0] == 0)
    assert np.all(kernel[1:] != 0)
    with np.load(tmp_path / "run" / "last.npz") as last:
        index = [v.name for v in model.weights].index(model.get_layer("second").trainable_weights[0].name)
        assert np.all(last[f"{index:04d}"][0] == 0)


def test_its_own_variables_are_trained_and_resumed_to_the_bit(tmp_path) -> None:
    whole, (hook,) = trained(tmp_path / "whole", lambda model: [Regressor()])
    assert not np.allclose(hook.matrix.numpy(), 0.1)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", lambda model: [Regressor()], at="epoch 1/2")
    resumed, (again,) = trained(tmp_path / "run", lambda model: [Regressor()])
    assert same(whole, resumed)
    np.testing.assert_array_equal(hook.matrix.numpy(), again.matrix.numpy())
    assert hook.steps.numpy() == again.steps.numpy() > 0


def test_hooks_work_together(tmp_path) -> None:
    model, (mask, regressor) = trained(tmp_path / "run", lambda model: [Masked(model), Regressor()])
    assert np.all(model.get_layer("second").get_weights()[0][0] == 0)
    assert regressor.steps.numpy() > 0


def test_soft_labels_are_cross_entropy_with_the_teacher() -> None:
    rng = np.random.default_rng(0)
    logits, taught = (tf.constant(rng.normal(size=(4, 3)).astype(np.float32)) for _ in range(2))
    hook = SoftLabels(lambda images, training: taught, 0.25)
    hard = tf.constant([1.0, 2.0, 3.0, 4.0])
    step = _step(logits, hook.prepare(None, None))
    p = np.exp(taught) / np.exp(taught).sum(1, keepdims=True)
    log_q = logits.numpy() - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = 0.75 * hard.numpy() - 0.25 * (p * log_q).sum(1)
    np.testing.assert_allclose(hook.example_losses(step, hard).numpy(), expected, rtol=1e-6)


def test_an_auxiliary_head_counts_its_weight() -> None:
    logits = tf.constant([[2.0, 0.0, 0.0]])
    step = _step(logits, None)
    assert float(AuxiliaryHead(1, 0.3).loss(step)) == pytest.approx(0.3 * 5.0)


def _step(logits, prepared):
    from tfcompact.training.hooks import Step

    labels, weights = tf.constant([[1.0, 0.0, 0.0]]), tf.constant([1.0])
    return Step(None, labels, weights, [logits, logits], {}, lambda labels, logits: tf.constant([5.0]), prepared)
