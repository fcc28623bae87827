"""Architectures as tables: all of them, or one layer by layer."""

from __future__ import annotations

from rich.table import Table

from tfcompact import models
from tfcompact.errors import UnknownName
from tfcompact.options import require_choice

_SHORT = {  # so that names, which reports address layers by, stay whole on 80 columns
    "BatchNormalization": "BatchNorm",
    "DepthwiseConv2D": "DepthwiseConv",
    "GlobalAveragePooling2D": "GlobalAvgPool",
    "AveragePooling2D": "AvgPool",
    "MaxPooling2D": "MaxPool",
}
SORTS = ("family", "name", "parameters", "macs", "accuracy")


def models_table(family: str | None = None, sort: str = "family") -> Table:
    """Every variant: parameters, multiply-adds at its image size, published accuracy. Imports no TensorFlow."""
    require_choice("order", sort, SORTS)
    if family is not None and family not in models.FAMILIES:
        raise UnknownName("family", family, models.FAMILIES)
    rows = [s for s in models.specs().values() if family in (None, s.family)]
    key = {
        "family": None,
        "name": lambda s: s.name,
        "parameters": lambda s: s.params.trainable,
        "macs": lambda s: s.macs,
        "accuracy": lambda s: -(s.top1 or 0.0),
    }[sort]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("model")
    for title in ("image px", "parameters", "multiply-adds", "ImageNet top-1, published"):
        table.add_column(title, justify="right")
    for s in sorted(rows, key=key) if key else rows:
        top1 = "" if s.top1 is None else f"{s.top1:.1f} %"
        table.add_row(s.name, str(s.image_px), f"{sum(s.params):,}", f"{s.macs / 1e6:,.1f} M", top1)
    return table


def layers_table(name: str, px: int | None = None, classes: int = 1000) -> Table:
    """One line a layer: output shape, parameters, multiply-adds, and sums. Raises `UserError` for a wrong size."""
    from tfcompact import graph

    model = models.build(name, px=px, classes=classes)
    total = graph.cost(model)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), show_footer=True)
    table.title, table.title_justify = f"{name}, {model.input_shape[1]} px, {classes} classes", "left"
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("output", justify="right")
    table.add_column("params", justify="right", footer=f"{total.trainable + total.non_trainable:,}")
    table.add_column("MACs", justify="right", footer=f"{total.macs / 1e6:,.2f} M")
    for layer in model.layers[1:]:
        macs = graph.macs(layer)
        table.add_row(
            layer.name,
            _SHORT.get(type(layer).__name__, type(layer).__name__),
            "x".join(str(n) for n in layer.output_shape[1:]),
            f"{layer.count_params():,}" if layer.count_params() else "",
            f"{macs / 1e6:,.2f} M" if macs else "",
        )
    return table
