"""One architecture block by block, as `tfcompact describe` prints it. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from tfcompact.networks.costs import CACHE_PJ, DRAM_PJ, Block, Profile
from tfcompact.report.block_line import layout
from tfcompact.report.short_numbers import digits, shape_text
from tfcompact.report.table_columns import GAP, Column, fitting, omitted_headings, table_of

OPERATORS = "operators"  # the column that takes what room is left


def blocks_table(profile: Profile, width: int = 100) -> tuple[Table, str, Table]:
    """One line a block with what it is and what it costs, then all together; the sums in words; and a legend."""
    rows, everything = profile.blocks, profile.whole
    columns = _columns(profile, least=30 if width >= 100 else 26)
    useful = [column for column in columns if any(map(column.text, rows))]
    shown = fitting(useful, (*rows, everything), width + 1, GAP)
    room = width - sum(GAP + c.width((*rows, everything)) for c in shown if c.heading != OPERATORS) - 1
    table = table_of(shown)
    for block in (*rows, everything):
        cells = (layout(block, room) if c.heading == OPERATORS else c.text(block) for c in shown)
        table.add_row(*cells, style="bold" if block is everything else "")
    return table, _summary(profile), _legend(profile, shown, room, omitted_headings(useful, shown))


def _columns(profile: Profile, least: int) -> tuple[Column[Block], ...]:
    """All columns there are; the operators have `least` characters, and a block that needs more is summed up."""
    several = len({name for block in profile.blocks for name in block.nonlinearities}) > 1
    return (
        Column("block", lambda b: b.name, left=True),
        Column(OPERATORS, lambda b: layout(b, least), left=True),
        Column("input → output", lambda b: f"{shape_text(b.input)} → {shape_text(b.output)}", left=True),
        Column("t", lambda b: "" if b.expansion is None else f"{b.expansion:.3g}", yields=3),
        Column("s", lambda b: str(b.stride), yields=6),
        Column("SE", lambda b: str(b.squeezed or ""), yields=2),
        Column("act", lambda b: " ".join(b.nonlinearities) if several else "", yields=4, left=True),
        Column("params\nk", lambda b: digits(b.cost.params / 1e3)),
        Column("MACs\nM", lambda b: digits(b.cost.macs / 1e6)),
        Column("written\nkB", lambda b: digits(b.cost.written_bytes / 1e3), yields=5),
        Column("moved\nkB", lambda b: digits(b.cost.moved_bytes / 1e3), yields=1),
        Column("MACs\n/byte", lambda b: digits(b.cost.intensity)),
        Column("energy\nµJ", lambda b: digits(b.cost.energy_pj / 1e6)),
    )


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


def _legend(profile: Profile, shown: Sequence[Column[Block]], room: int, omitted: str) -> Table:
    """What the words, columns and numbers mean, and what they are computed from."""
    precision = profile.precision
    used = dict.fromkeys(name for block in profile.blocks for name in block.nonlinearities)
    words = " ".join(layout(block, room) for block in profile.blocks)
    lines = {
        "56²x24": "56 x 56 positions of 24 channels",
        OPERATORS: "; ".join(meaning for word, meaning in _WORDS.items() if word in words),
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
