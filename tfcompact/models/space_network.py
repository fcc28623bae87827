"""A member of a search space as a network to train, as a row of the zoo is one. No TensorFlow before `build`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.frameworks import Model
from tfcompact.models.architecture import Architecture, build
from tfcompact.records.network import Network


@dataclass(frozen=True)
class SpaceNetwork:
    """An `Architecture` in the place of a `ModelSpec`: `name` is made of a word and the architecture's content.

    Nothing is published of it, neither weights nor accuracy.
    """

    name: str
    architecture: Architecture
    family: str = "space"
    aux_weight: None = None
    float_only: None = None
    keras: None = None
    torch: tuple[()] = ()
    packaged: None = None

    @property
    def image_px(self) -> int:
        """The side of the images that the architecture names."""
        return self.architecture.px

    @property
    def min_px(self) -> int:
        """The smallest side at which the last feature map still has a pixel of its own."""
        return 2 * math.prod(row.stride for row in self.architecture.rows)  # the stem halves too

    @property
    def classes(self) -> int:
        """The number of classes that the architecture names."""
        return self.architecture.classes

    @property
    def record(self) -> Network:
        """What a run of it says that it is of."""
        return Network("architecture", self.name, self.architecture.to_json())

    def shape(self, px: int) -> tuple[int, int, int]:
        """The input shape at `px`. Raises `UserError` naming the smallest size where `px` is below it."""
        if px < self.min_px:
            raise UserError(
                f"{self.name} needs images of at least {self.min_px} px, not {px}; try --px {self.min_px}"
            )
        return (px, px, 3)

    def build(self, shape: tuple[int, int, int], classes: int) -> Model:
        """A new Keras model with random weights: `[n, px, px, 3]` normalized float32 -> logits `[n, classes]`."""
        return build(dataclasses.replace(self.architecture, px=shape[0], classes=classes), name=self.name)


def from_architecture(architecture: Architecture, word: str = "net") -> SpaceNetwork:
    """The network of this architecture, called `<word>-<eight digits of its content's sha256>`."""
    text = json.dumps(architecture.to_json(), sort_keys=True)
    return SpaceNetwork(f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:8]}", architecture)


def from_file(path: Path) -> SpaceNetwork:
    """The network whose architecture the JSON file holds, called after the file.

    Raises `UserError` where it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give the JSON file of an architecture") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); give the JSON file of an architecture") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no architecture, but {type(content).__name__}; it must be an object")
    try:
        architecture = Architecture.from_json(content)
    except (UserError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no architecture: {error}") from None
    word = re.sub(r"[^a-z0-9_]+", "_", path.stem.lower()).strip("_") or "net"
    return from_architecture(architecture, word)


def from_record(record: Network) -> SpaceNetwork:
    """The network that a run of kind `architecture` says that it is of."""
    assert record.architecture is not None
    return SpaceNetwork(record.name, Architecture.from_json(record.architecture))
