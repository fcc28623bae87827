"""The width multiplier for any network: every layer with the same share of its channels (arXiv:1704.04861, 3.3).

It is the plain answer to every way of making a network smaller, and so what each of them is compared with.
"""

from __future__ import annotations

import math
import random

from tfcompact.compress.channels.atoms import Group, channels
from tfcompact.compress.channels.slicing import smaller
from tfcompact.errors import UserError
from tfcompact.frameworks import Model, keras

STEP = 8
"""Channels are a multiple of this, as MobileNets have them."""


def narrowed(model: Model, share: float) -> Model:
    """A network like `model` with about that share of the channels in every layer, with random weights.

    Channels that hang together, those of residual blocks for example, stay of equal number. Raises `UserError` where
    no layer can lose any.
    """
    structure = channels(model)
    gone = {root for group in structure.groups for root in group.classes[_kept(group, share) :]}
    if not gone and share < 1:
        raise UserError(
            f"no layer of {model.name} can lose channels by itself: they hang together, or are few; take a narrower "
            "variant of it"
        )
    return fresh(smaller(model, structure, gone))


def of_random_widths(model: Model, rng: random.Random, *, step: int = 16, least: float = 0.2) -> Model:
    """A network like `model` in which every group of layers has a width of its own, with random weights.

    Each is drawn from the multiples of `step` channels between the share `least` of what it has and all of it.
    """
    structure = channels(model)
    gone: set[int] = set()
    for group in structure.groups:
        whole = len(group.classes) * group.width
        choices = [n for n in range(step, whole, step) if n >= least * whole and n % group.width == 0]
        kept = rng.choice([*choices, whole]) // group.width
        gone.update(group.classes[kept:])
    return fresh(smaller(model, structure, gone))


def fresh(model: Model) -> Model:
    """A network like `model` with random weights, as its layers' initializers give them."""
    found: Model = keras.models.clone_model(model)
    return found


def _kept(group: Group, share: float) -> int:
    """How many classes of the group stay: a multiple of `STEP` channels, no less than 0.9 of what was asked for."""
    whole = len(group.classes) * group.width
    wanted = whole * share
    rounded = max(STEP, int(wanted + STEP / 2) // STEP * STEP)
    if rounded < 0.9 * wanted:
        rounded += STEP
    return min(len(group.classes), max(1, math.ceil(rounded / group.width)))
