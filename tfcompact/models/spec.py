"""What is known of an architecture before it is built. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tfcompact.errors import UserError
from tfcompact.frameworks import Model
from tfcompact.records.artifact import Normalization
from tfcompact.records.network import Network


class Params(NamedTuple):
    """Parameters of the inference network."""

    trainable: int
    non_trainable: int


@dataclass(frozen=True)
class KerasWeights:
    """Published weights of `tf_keras.applications.<application>(**options)`, a network equal to ours.

    Layers with weights correspond in the order in which they were made. `normalization` is what its
    `preprocess_input` and its own first layers do to a pixel, channels in the order of RGB; where it turns them to
    BGR besides, the stem takes blue first (`bgr`).
    """

    application: str
    normalization: Normalization
    options: Mapping[str, object] = field(default_factory=dict)
    bgr: bool = False


@dataclass(frozen=True)
class TorchWeights:
    """A state dict of `model` as `library` (torchvision, timm) writes it, for a network equal to ours but in detail.

    `module(name)` is the path of the torch module that holds the weights of our layer `name` (a convolution, batch
    normalization or dense layer). The details: PyTorch pads both sides alike where TensorFlow's SAME with a stride
    of 2 pads the end (`symmetric`), batch normalization's `epsilon`, a stem that takes blue first (`bgr`), maxima
    whose windows begin at the first pixel and hang over the end (`ceil`, PyTorch's ceil_mode), and averages with
    stride 1 that count the zeros beyond the border (`counts_padding`).
    """

    library: str
    model: str
    module: Callable[[str], str]
    normalization: Normalization
    epsilon: float = 1e-5
    symmetric: bool = True
    bgr: bool = False
    ceil: bool = False
    counts_padding: bool = False


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights inside a Python package that the extra `tfcompact[weights]` installs; it is never imported.

    `path` is the file's, as the package installs it, and `sha256` its content's. `state` says how to read it.
    """

    package: str
    version: str
    path: str
    sha256: str
    state: TorchWeights


@dataclass(frozen=True)
class ModelSpec:
    """One variant of a family.

    `build(shape, classes)` gives a Keras model: input `[n, px, px, 3]` float32, normalized; output logits
    `[n, classes]`. Where `aux_weight` is set, `build(..., aux=True)` adds training-time auxiliary logits as further
    outputs, whose losses count with that weight. `params` and `macs` are those of the inference network for one
    image of `image_px` and `classes` classes; `top1` is the published accuracy in percent, on ImageNet where classes
    are 1000, else on CIFAR; all have their `source`. `keras`, `torch` and `packaged` say where weights are published;
    `float_only` why there is no int8 of it.
    """

    name: str
    family: str
    build: Callable[..., Model]
    image_px: int
    min_px: int
    params: Params
    macs: int
    top1: float | None
    source: str
    aux_weight: float | None = None
    classes: int = 1000
    keras: KerasWeights | None = None
    torch: tuple[TorchWeights, ...] = ()
    packaged: PackagedWeights | None = None
    float_only: str | None = None

    @property
    def record(self) -> Network:
        """What a run of it says that it is of."""
        return Network("spec", self.name)

    def shape(self, px: int) -> tuple[int, int, int]:
        """The input shape at `px`. Raises `UserError` naming the smallest size where `px` is below it."""
        if px < self.min_px:
            raise UserError(
                f"{self.name} needs images of at least {self.min_px} px, not {px}; try --px {self.min_px}"
            )
        return (px, px, 3)


IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""255 x (0.485, 0.456, 0.406) and 255 x (0.229, 0.224, 0.225): torchvision's and keras' "torch" mode."""
HALVES = Normalization()
"""`pixel / 127.5 - 1`: keras' "tf" mode and TF-slim."""
CAFFE = Normalization((123.68, 116.779, 103.939), (1.0,))
"""The mean pixel taken away: keras' "caffe" mode, which turns the channels to BGR besides; ours stay RGB."""
