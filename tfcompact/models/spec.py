"""What is known of an architecture before it is built. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfcompact.errors import UserError


class Params(NamedTuple):
    """Parameters of the inference network with 1000 classes."""

    trainable: int
    non_trainable: int


@dataclass(frozen=True)
class ModelSpec:
    """One variant of a family.

    `build(shape, classes)` gives a Keras model: input `[n, px, px, 3]` float32, normalized; output logits
    `[n, classes]`. Where `aux_weight` is set, `build(..., aux=True)` adds the training-time auxiliary logits as a
    second output, whose loss counts with that weight. `params`, `macs` (one image of `image_px`, 1000 classes) and
    `top1` (published ImageNet accuracy in percent) have their `source`.
    """

    name: str
    family: str
    build: Callable[..., Any]
    image_px: int
    min_px: int
    params: Params
    macs: int
    top1: float | None
    source: str
    aux_weight: float | None = None

    def shape(self, px: int) -> tuple[int, int, int]:
        """The input shape at `px`. Raises `UserError` naming the smallest size where `px` is below it."""
        if px < self.min_px:
            raise UserError(
                f"{self.name} needs images of at least {self.min_px} px, not {px}; try --px {self.min_px}"
            )
        return (px, px, 3)
