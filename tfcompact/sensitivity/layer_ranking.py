"""A quantized network whose roundings can be switched on and off, one operator's at a time, and what each does alone.

A unit is what one operator of the file computes and rounds: a convolution with its ReLU, an addition, a gate. Its
roundings are switched on in a network of the same weights with nothing else rounded, traced once: the switches are
variables, and so are the kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcompact.compress.quantization import for_xnnpack
from tfcompact.compress.quantization.pixel_grid import INPUT
from tfcompact.compress.quantization.quantizers import Wrapper
from tfcompact.compress.quantization.rules import fuses_relu, rule_for
from tfcompact.frameworks import keras, tf
from tfcompact.models.layers import ShiftedReLU6
from tfcompact.networks import operators, rewrite
from tfcompact.tflite import divergence

L = keras.layers
BATCH = 64


@dataclass(frozen=True)
class Unit:
    """One operator: the Keras layers it is made of, by the first of which it is called, and what is rounded of it.

    `output` is the output's shape for one image. `roundings` are the layers whose outputs' rounding belongs to it:
    none where a concatenation rounds its output, two where a ReLU takes over its range. `joins` are the units for
    which this one, a concatenation, rounds.
    """

    layers: tuple[str, ...]
    kind: str
    output: tuple[int, ...]
    macs: int
    has_kernel: bool
    roundings: tuple[str, ...]
    joins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its first layer."""
        return self.layers[0]


@dataclass(frozen=True)
class Damage:
    """What a unit's roundings do, alone: SQNR of the logits in dB, and the share of images with the same class.

    `kernel_db` and `output_db` are the SQNR with only kernel and bias, or only the output, rounded; None where there
    is no such rounding. A ratio without any noise is infinite.
    """

    unit: Unit
    sqnr_db: float
    agreement: float
    kernel_db: float | None
    output_db: float | None


@dataclass(frozen=True)
class Ranking:
    """The damage of every unit, worst first, and of all roundings together, over `images` images.

    `median_db` is the SQNR of the median image with all roundings. Where it is far above `all_db`, a few images have
    most of the noise: their values lie outside the ranges.
    """

    rows: tuple[Damage, ...]
    all_db: float
    all_agreement: float
    median_db: float
    images: int


def units(qat: Any) -> tuple[Unit, ...]:
    """The units of a quantization-aware network in topological order."""
    rows = {layer.name: (layer, sources, readers) for layer, sources, readers in rewrite.calls(qat)}
    found: dict[str, Unit] = {}
    home: dict[str, str] = {}  # a layer -> the unit that computes its values
    for name, (layer, sources, _) in rows.items():
        inner = _inner(layer)
        rounds = (name,) if _rounds(layer) else ()
        home[name] = home.get(sources[0], "") if sources else ""
        host = found.get(home[name])
        if name == INPUT or rule_for(inner).output == "none":
            continue
        if isinstance(inner, L.ReLU) and host:
            before, _, others = rows[sources[0]]
            fused = fuses_relu(_inner(before)) and others == [name]
            more = (name,) if fused else ()  # one alone computes nothing: it picks from values on the same grid
            found[host.name] = dataclasses.replace(
                host,
                layers=(*host.layers, *more),
                kind=f"{host.kind} {_word(inner)}" if fused else host.kind,
                roundings=(*host.roundings, *rounds),
            )
            continue
        joined = sources if isinstance(inner, L.Concatenate) else []
        home[name] = name
        found[name] = Unit(
            (name, *for_xnnpack.beside(inner, len(sources))),
            _word(inner),
            tuple(layer.output_shape[1:]),
            rewrite.macs(layer),
            rule_for(inner).kernel_axis is not None,
            rounds,
            tuple(dict.fromkeys(home[s] for s in joined if home[s] in found and not found[home[s]].roundings)),
        )
    return tuple(found.values())


class Switches:
    """A quantization-aware network with a switch for each rounding, all off: then it is a float network.

    Only the image stays rounded, which changes no pixel.
    """

    def __init__(self, qat: Any) -> None:
        self._kernels: dict[str, tuple[Any, list[np.ndarray], list[np.ndarray]]] = {}  # layer, exact, rounded
        self._switches: dict[str, Any] = {}
        self._on: set[str] = set()  # the layers whose kernels are the rounded ones

        def rule(layer: Any, x: Any) -> Any:
            if not isinstance(layer, Wrapper):
                return None
            inner = layer.layer.__class__.from_config(layer.layer.get_config())
            out = inner(x)
            if inner.weights:
                exact = [value.numpy() for value, _, _ in layer._weight_vars]
                rounded = [quantizer(value, False, weights=w).numpy() for value, quantizer, w in layer._weight_vars]
                inner.set_weights(exact)
                self._kernels[layer.name] = (inner, exact, rounded)
            if layer.quantize_config.output:
                ends = layer._output_quantizer_vars
                switch = _Switch(float(ends["min_var"].numpy()), float(ends["max_var"].numpy()))
                out = switch(out)
                self._switches[layer.name] = switch.on
            return out

        self.model = rewrite.rewrite(qat, rule)
        self._run = tf.function(lambda images: self.model(images, training=False))
        self.round((), ())

    def plain(self) -> Any:
        """The float network without switches: the same weights, nothing rounded, in layers of Keras alone."""
        self.round((), ())
        return rewrite.rewrite(self.model, lambda layer, x: x if isinstance(layer, _Switch) else None)

    @property
    def weights(self) -> dict[str, list[np.ndarray]]:
        """Kernel and, where there is one, bias of every layer that has them, as they are before rounding."""
        return {name: exact for name, (_, exact, _) in self._kernels.items()}

    def round(self, kernels: Collection[str] | None, outputs: Collection[str] | None) -> None:
        """Rounds kernel and bias of the layers `kernels`, the outputs of `outputs`, and nothing else; None: all."""
        for name, (layer, exact, rounded) in self._kernels.items():
            on = kernels is None or name in kernels
            if on != (name in self._on):
                layer.set_weights(rounded if on else exact)
                self._on ^= {name}
        for name, switch in self._switches.items():
            switch.assign(outputs is None or name in outputs or name == INPUT)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The logits, float32 `[n, classes]`, of normalized `images` `[n, px, px, 3]`."""
        parts = [self._run(tf.constant(images[i : i + BATCH])).numpy() for i in range(0, len(images), BATCH)]
        return np.concatenate(parts)


def rank(qat: Any, images: np.ndarray, progress: Callable[[Sequence[Unit]], Iterable[Unit]] = iter) -> Ranking:
    """The ranking of all units by what their roundings do alone to the logits of normalized `images`, worst first.

    `images` are `[n, px, px, 3]`. The order is by SQNR, then agreement. The reference is the same network with
    nothing rounded. Of a run without training this is its float parent; otherwise training has moved the weights,
    which is no damage of rounding.
    `progress` wraps the iteration over the units.
    """
    network = Switches(qat)
    reference = network.logits(images)

    def judged(kernels: Collection[str], outputs: Collection[str]) -> tuple[float, float]:
        network.round(kernels, outputs)
        return _judged(reference, network.logits(images))

    def damage(unit: Unit) -> Damage:
        kernel = (unit.name,) if unit.has_kernel else ()
        both = judged(kernel, unit.roundings)
        alone = kernel and unit.roundings
        kernel_db = judged(kernel, ())[0] if alone else both[0]
        output_db = judged((), unit.roundings)[0] if alone else both[0]
        return Damage(unit, *both, kernel_db if kernel else None, output_db if unit.roundings else None)

    # A gate before a concatenation, say, is rounded by that.
    rounded = [unit for unit in units(qat) if unit.has_kernel or unit.roundings]
    rows = sorted((damage(unit) for unit in progress(rounded)), key=lambda row: (row.sqnr_db, row.agreement))
    network.round(None, None)
    logits = network.logits(images)
    median = float(np.median([divergence.sqnr_db(one, other) for one, other in zip(reference, logits, strict=True)]))
    return Ranking(tuple(rows), *_judged(reference, logits), median, len(images))


def _judged(reference: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """The SQNR in dB, and the share of images with the same class."""
    return divergence.sqnr_db(reference, logits), float(np.mean(logits.argmax(1) == reference.argmax(1)))


def kept_with(names: Iterable[str], of: Collection[Unit]) -> tuple[str, ...]:
    """`names` of units with those that a concatenation among them rounds for: its rounding happens in them."""
    by_name = {unit.name: unit for unit in of}
    kept: dict[str, None] = {}
    open_ends = list(names)
    while open_ends:
        name = open_ends.pop(0)
        if name not in kept:
            kept[name] = None
            open_ends.extend(by_name[name].joins)
    return tuple(kept)


class _Switch(L.Layer):  # type: ignore[misc, name-defined]
    """`x`, rounded to 8 bits over [low, high] while `on`."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.on = tf.Variable(False, trainable=False)

    def call(self, x: Any) -> Any:
        rounded = lambda: tf.quantization.fake_quant_with_min_max_vars(x, self.low, self.high)  # noqa: E731
        return tf.cond(self.on, rounded, lambda: tf.identity(x))


def _inner(layer: Any) -> Any:
    return layer.layer if isinstance(layer, Wrapper) else layer


def _rounds(layer: Any) -> bool:
    return isinstance(layer, Wrapper) and bool(layer.quantize_config.output)


def _word(layer: Any) -> str:
    return "relu6(x+3)" if isinstance(layer, ShiftedReLU6) else operators.kind_word(layer)
