"""One architecture layer by layer, as `tfcompact describe --layers` prints it."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_SHORT = {  # so that names, which reports address layers by, stay whole on 80 columns
    "BatchNormalization": "BatchNorm",
    "DepthwiseConv2D": "DepthwiseConv",
    "GlobalAveragePooling2D": "GlobalAvgPool",
    "AveragePooling2D": "AvgPool",
    "MaxPooling2D": "MaxPool",
}


def layers_table(model: Any) -> Table:
    """One line a layer of a Keras model: output shape, parameters, multiply-adds, and sums."""
    from tfcompact.networks import rewrite

    total = rewrite.cost(model)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), show_footer=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("output", justify="right")
    table.add_column("params", justify="right", footer=f"{total.trainable + total.non_trainable:,}")
    table.add_column("MACs", justify="right", footer=f"{total.macs / 1e6:,.2f} M")
    for layer in model.layers[1:]:
        macs = rewrite.macs(layer)
        table.add_row(
            layer.name,
            _SHORT.get(type(layer).__name__, type(layer).__name__),
            "x".join(str(n) for n in layer.output_shape[1:]),
            f"{layer.count_params():,}" if layer.count_params() else "",
            f"{macs / 1e6:,.2f} M" if macs else "",
        )
    return table
