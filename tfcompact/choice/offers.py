"""What there is to choose from: the zoo's variants at several image sizes, and architectures that a search found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcompact import models
from tfcompact.models import space_network

SIZES = (64, 96, 128, 160, 192, 224)
"""Image sizes in px that every variant is offered at, besides its own."""
OCTAVE = (70.9 - 65.2) / math.log2(224 / 128)
"""Points of accuracy that half the image size costs: MobileNetV1 has 70.9 at 224 px and 65.2 at 128 (TF-slim,
mobilenet_v1.md)."""


@dataclass(frozen=True)
class Offer:
    """A network at an image size, not yet priced. `prior` is what its published accuracy makes one expect, in points.

    `macs` are for one image, by the square of the size.
    """

    model: str
    px: int
    macs: float
    prior: float

    @property
    def label(self) -> str:
        """`mobilenet_v2_0.5 at 96 px`."""
        name = Path(self.model).parent.name if self.model.endswith(".json") else self.model
        return f"{name} at {self.px} px"


def of_the_zoo(native_px: int) -> list[Offer]:
    """Every variant with a published accuracy and an int8 form at every size that it takes, the best first.

    No image is enlarged to more than the next size above `native_px`, the short side that images have.
    """
    largest = max(SIZES[0], min((size for size in SIZES if size >= native_px), default=10**6))
    found = []
    for spec in models.specs().values():
        if spec.top1 is None or spec.float_only or spec.classes != 1000:
            continue
        for px in sorted({*SIZES, spec.image_px}):
            if spec.min_px <= px <= min(spec.image_px, largest):
                prior = spec.top1 - OCTAVE * math.log2(spec.image_px / px)
                found.append(Offer(spec.name, px, spec.macs * (px / spec.image_px) ** 2, prior))
    return sorted(found, key=lambda offer: (-offer.prior, offer.macs, offer.model))


def of_searches(runs: Path) -> list[Offer]:
    """The best architecture of every search under the runs directory, at the size that it was searched for.

    Nothing is published of them: they are as promising as whatever else there is.
    """
    found = []
    for file in sorted(runs.glob("search/*/best.json")):
        network = space_network.from_file(file)
        found.append(Offer(str(file), network.image_px, 0.0, math.inf))
    return found


def varied(offers: Sequence[Offer], count: int) -> list[Offer]:
    """The first `count` of the offers, of no variant more than two sizes, of no family more than a third."""
    by_model: dict[str, int] = {}
    by_family: dict[str, int] = {}
    found: list[Offer] = []
    for offer in offers:
        family = offer.model if offer.model.endswith(".json") else models.spec(offer.model).family
        if by_model.get(offer.model, 0) < 2 and by_family.get(family, 0) < max(1, count // 3):
            by_model[offer.model] = by_model.get(offer.model, 0) + 1
            by_family[family] = by_family.get(family, 0) + 1
            found.append(offer)
    return found[:count]
