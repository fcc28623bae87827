"""All architectures: one file a family, one line of `SPECS` a variant. No TensorFlow is imported before `build`."""

from __future__ import annotations

from importlib import import_module

from tfcompact.errors import UnknownName
from tfcompact.frameworks import Model
from tfcompact.models.space_network import SpaceNetwork
from tfcompact.models.spec import ModelSpec, Params

__all__ = ["FAMILIES", "ModelSpec", "Params", "SpaceNetwork", "Spec", "build", "built", "spec", "specs"]

Spec = ModelSpec | SpaceNetwork
"""What a network that is not trained yet is built from."""

FAMILIES = (
    "squeezenet",
    "shufflenet_v1",
    "shufflenet_v2",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "mnasnet",
    "googlenet",
    "inception_v2",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "xception",
    "efficientnet",
    "efficientnet_lite",
    "efficientnet_v2",
    "nasnet",
    "densenet",
    "resnet",
)


def specs() -> dict[str, ModelSpec]:
    """Every variant of every family by its name."""
    rows = (row for family in FAMILIES for row in import_module(f"tfcompact.models.{family}").SPECS)
    return {row.name: row for row in rows}


def spec(name: str) -> ModelSpec:
    """The variant called `name`. Raises `UnknownName` that suggests the nearest."""
    known = specs()
    if name not in known:
        raise UnknownName("model", name, known, listed_by="tfcompact models")
    return known[name]


def build(name: str, *, px: int | None = None, classes: int | None = None, aux: bool = False) -> Model:
    """A new Keras model with random weights: `[n, px, px, 3]` normalized float32 -> logits `[n, classes]`.

    `px` and `classes` default to the published ones. With `aux`, architectures with training-time auxiliary heads get
    theirs as further outputs. Raises `UnknownName`, and `UserError` for a size the network cannot take.
    """
    return built(spec(name), px=px, classes=classes, aux=aux)


def built(row: Spec, *, px: int | None = None, classes: int | None = None, aux: bool = False) -> Model:
    """What `build` gives, of a row of the zoo or a member of a search space."""
    extra = {"aux": True} if aux and row.aux_weight else {}
    return row.build(
        row.shape(row.image_px if px is None else px), row.classes if classes is None else classes, **extra
    )
