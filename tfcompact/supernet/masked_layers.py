"""Layers of which a member of a search space uses a part: the first so many channels, the middle of a kernel.

What is not used is zero where it would be read and gets no gradient, so a member computes and learns in its part as
it does alone. How much is used is a variable: nothing is traced for a member.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfcompact.frameworks import Tensor, Variable, tf

EPSILON = 1e-3
"""Of batch normalization, as in `models.blocks`."""


class Switches:
    """The variables that say which part is used: whole numbers by name, each at most what it was asked for with."""

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self.most: dict[str, int] = {}

    def number(self, name: str, most: int) -> Variable:
        """The switch called `name`, at its most until it is set."""
        if name not in self.variables:
            self.variables[name] = tf.Variable(most, trainable=False, dtype=tf.int32, name=name)
            self.most[name] = most
        assert self.most[name] == most, name
        return self.variables[name]

    def set(self, values: Mapping[str, int]) -> None:
        """Sets every switch. Raises `ValueError` for one that is not there, missing, or out of its range."""
        if set(values) != set(self.variables):
            raise ValueError(f"switches differ: {sorted(set(values) ^ set(self.variables))}")
        for name, value in values.items():
            if not 0 <= value <= self.most[name]:
                raise ValueError(f"{name} must be from 0 to {self.most[name]}, not {value}")
            self.variables[name].assign(value)


def first(count: Tensor, most: int) -> Tensor:
    """Ones for the first `count` of `most` places, then zeros: `[most]`."""
    found: Tensor = tf.cast(tf.range(most) < count, tf.float32)
    return found


def middle(size: Tensor, most: int) -> Tensor:
    """Ones in the middle `size` x `size` of a kernel of `most` x `most`, `[most, most, 1, 1]`."""
    away = tf.abs(tf.range(most) - most // 2)
    inside = tf.cast(away <= size // 2, tf.float32)
    found: Tensor = (inside[:, None] * inside[None])[:, :, None, None]
    return found


def is_on(switch: Tensor) -> Tensor:
    """The switch as a factor, 0 or 1."""
    found: Tensor = tf.cast(switch > 0, tf.float32)
    return found


def chosen(switch: Tensor, options: Mapping[int, Tensor]) -> Tensor:
    """The option whose number the switch has; all are of one shape."""
    if len(options) == 1:
        return next(iter(options.values()))
    parts = [tf.cast(tf.equal(switch, number), tf.float32) * value for number, value in options.items()]
    found: Tensor = tf.add_n(parts)
    return found


def resized(x: Tensor, channels: int) -> Tensor:
    """`x` with that many channels: zeros after its own, or without its last."""
    here = x.shape[-1]
    return x[..., :channels] if here >= channels else tf.pad(x, [[0, 0]] * 3 + [[0, channels - here]])


class Norm:
    """Batch normalization by the batch; for judging, by statistics that were averaged over some batches."""

    def __init__(self, channels: int, name: str) -> None:
        self.gamma = tf.Variable(tf.ones(channels), name=f"{name}/gamma")
        self.beta = tf.Variable(tf.zeros(channels), name=f"{name}/beta")
        self.mean = tf.Variable(tf.zeros(channels), trainable=False, name=f"{name}/mean")
        self.variance = tf.Variable(tf.ones(channels), trainable=False, name=f"{name}/variance")
        self.seen: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, *, training: bool) -> Tensor:
        out: Tensor
        if not training:
            out = tf.nn.batch_normalization(x, self.mean, self.variance, self.beta, self.gamma, EPSILON)
            return out
        out, mean, variance, *_ = tf.compat.v1.nn.fused_batch_norm(
            x, self.gamma, self.beta, epsilon=EPSILON, is_training=True
        )
        self.seen = (mean, variance)
        return out


def activated(x: Tensor, act: str) -> Tensor:
    """`relu`, `relu6` or `h_swish` of `x`."""
    found: Tensor = tf.nn.relu6(x) if act == "relu6" else tf.nn.relu(x)
    return x * tf.nn.relu6(x + 3) / 6 if act == "h_swish" else found


def he(rng: np.random.Generator, shape: tuple[int, ...], fan: float) -> np.ndarray:
    """Values after He et al. 2015 (arXiv:1502.01852), as Keras draws them: a normal cut off at two deviations."""
    found = rng.normal(size=shape)
    while (far := np.abs(found) > 2).any():
        found[far] = rng.normal(size=int(far.sum()))
    scaled: np.ndarray = (found * np.sqrt(2 / fan) / 0.87962566103423978).astype(np.float32)
    return scaled
