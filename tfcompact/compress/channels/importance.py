"""How much each class of channels matters: the ways that papers propose, and chance.

Every measure gives a number for each class: the mean over the layers that make its channels, each divided by its
layer's mean, so that layers and groups compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tfcompact.compress.channels.atoms import Channels, Site, makes_channels
from tfcompact.errors import UserError
from tfcompact.frameworks import Model, Tensor, keras, tf

L = keras.layers
Scores = dict[int, float]
Batches = Iterable[tuple[Tensor, Tensor]]
"""Normalized images `[n, px, px, 3]` and one-hot labels `[n, classes]`."""


def importance(
    model: Model, channels: Channels, method: str, *, seed: int = 0, batches: Callable[[], Batches] | None = None
) -> Scores:
    """The importance of every class that may go.

    `method` is `l2` (filters' norms, arXiv:1608.08710), `bn` (scales, arXiv:1708.06519), `taylor` (first-order effect
    on the loss, arXiv:1906.10771), `fpgm` (distance from the geometric median, arXiv:1811.00250) or `random`.
    `batches` are needed for `taylor` alone. Raises `UserError` where a network has no scales for `bn`.
    """
    if method == "random":
        rng = np.random.default_rng(seed)
        return {root: float(rng.uniform()) for group in channels.groups for root in group.classes}
    if method == "bn":
        norms = {n: s.layer for n, s in channels.sites.items() if isinstance(s.layer, L.BatchNormalization)}
        columns = {name: np.abs(norm.gamma.numpy()) for name, norm in norms.items() if norm.gamma is not None}
        if not columns:
            raise UserError(f"{model.name} has no batch normalization with a scale to judge channels by; take l2")
    elif method == "taylor":
        assert batches is not None
        columns = _effects(model, channels, batches())
    else:
        measure = _norm if method == "l2" else _distances
        columns = {n: measure(_filters(s)) for n, s in channels.sites.items() if makes_channels(s.layer)}
    return _by_class(channels, columns)


def _by_class(channels: Channels, columns: dict[str, np.ndarray]) -> Scores:
    """The mean over layers of numbers for their channels, each divided by the layer's mean."""
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for name, values in columns.items():
        scaled = values / max(float(values.mean()), 1e-30)
        for root, value in zip(channels.sites[name].writes.tolist(), scaled.tolist(), strict=True):
            sums[root] = sums.get(root, 0.0) + value
            counts[root] = counts.get(root, 0) + 1
    # A class that nothing is known of, behind a layer without a scale for example, is like the mean of its layer.
    return {root: sums.get(root, 1.0) / counts.get(root, 1) for group in channels.groups for root in group.classes}


def _filters(site: Site) -> np.ndarray:
    """What a layer's channels are computed with: `[channels, weights of one]`."""
    kernel = site.layer.get_weights()[0]
    return kernel.reshape(-1, kernel.shape[-1]).T


def _norm(filters: np.ndarray) -> np.ndarray:
    """The Euclidean length of each filter."""
    return np.sqrt(np.square(filters, dtype=np.float64).sum(1))


def _distances(filters: np.ndarray) -> np.ndarray:
    """The sum of each filter's distances from the others: small near their geometric median."""
    filters = filters.astype(np.float64)
    squares = np.square(filters).sum(1)
    return np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * filters @ filters.T, 0)).sum(1)


def _effects(model: Model, channels: Channels, batches: Batches) -> dict[str, np.ndarray]:
    """The mean square of the loss's first-order change where a layer's channel is made zero.

    That is where batch normalization's scale and shift are, or kernel and bias where none follows. The network runs
    as it does in use, with its moving statistics.
    """
    normalized = {
        int(root)
        for site in channels.sites.values()
        if isinstance(site.layer, L.BatchNormalization)
        for root in site.writes
    }
    layers = {}
    for name, site in channels.sites.items():
        if isinstance(site.layer, L.BatchNormalization):
            variables = [v for v in (site.layer.gamma, site.layer.beta) if v is not None]
        elif makes_channels(site.layer) and not normalized.intersection(site.writes.tolist()):
            variables = list(site.layer.trainable_weights)
        else:
            continue
        if variables:
            layers[name] = variables
    names, variables = list(layers), [v for held in layers.values() for v in held]

    @tf.function
    def effects(images: Tensor, labels: Tensor) -> list[Tensor]:
        with tf.GradientTape() as tape:
            logits = model(images, training=False)
            logits = logits[0] if isinstance(logits, list) else logits
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32)))
        gradients = iter(tape.gradient(loss, variables, unconnected_gradients="zero"))
        totals = []
        for name in names:
            changes = [tf.reshape(v * next(gradients), [-1, v.shape[-1]]) for v in layers[name]]
            totals.append(tf.square(tf.add_n([tf.reduce_sum(change, 0) for change in changes])))
        return totals

    sums = {name: np.zeros(len(channels.sites[name].writes)) for name in names}
    for images, labels in batches:
        for name, total in zip(names, effects(images, labels), strict=True):
            sums[name] += total.numpy()
    return sums
