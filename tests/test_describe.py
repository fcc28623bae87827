"""The tables of `models` and `describe` as they are printed, at several widths."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from tfcompact import models
from tfcompact.errors import UnknownName
from tfcompact.networks.costs import FLOAT32, INT8, Block, Cost, Operator
from tfcompact.networks.operators import profile
from tfcompact.report import architectures, block_table
from tfcompact.report.block_line import layout


def printed(width: int, *things) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(*things, sep="\n", highlight=False)
    return console.file.getvalue().splitlines()


def line(lines: list[str], first: str) -> list[str]:
    """The words of the line that begins with `first`."""
    return next(words for text in lines if (words := text.split())[:1] == [first])


@pytest.fixture(scope="module", params=["mobilenet_v3_small", "inception_v3", "shufflenet_v1_g3"])
def network(request):
    return profile(models.build(request.param))


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_blocks_fit_the_terminal_and_lose_no_row(network, width):
    table, sums, legend = block_table.blocks_table(network, width)
    lines = printed(width, table)
    assert len(lines) == 2 + len(network.blocks) + 1  # two lines of heading, and the sums: nothing is wrapped
    assert "…" not in "".join(lines)
    assert [text.split()[0] for text in lines[2:]] == [*(b.name for b in network.blocks), "all"]
    for text in printed(width, sums, legend):
        assert len(text) <= width


def test_what_is_left_out_is_said():
    costs = profile(models.build("mobilenet_v3_small"))
    narrow, wide = (printed(width, *block_table.blocks_table(costs, width)) for width in (80, 120))
    assert any(text.startswith("not shown") and "written" in text for text in narrow)
    assert not any(text.startswith("not shown") for text in wide)
    assert line(wide, "block4") == [
        *("block4", "1x1", "dw5x5", "SE", "1x1", "add", "14²x40", "→", "14²x40", "6", "1", "64", "h_swish"),
        *("58.3", "4.97", "157", "429", "11.6", "15.6"),
    ]


def test_sums_and_energy_are_told_in_full():
    model = models.build("mobilenet_v2")
    text = " ".join(" ".join(printed(100, block_table.blocks_table(profile(model, INT8))[1])).split())
    assert "3,538,984 parameters, 300,774,272 MACs." in text
    assert "peak at 1,505 kB while block1_0_depthwise runs: block1_0_expand 1,204 + block1_0_depthwise 301." in text
    _, sums, legend = block_table.blocks_table(profile(model, FLOAT32))
    text = " ".join(" ".join(printed(100, sums, legend)).split())
    assert "peak at 6,021 kB" in text
    assert "energy MACs x 4.6 pJ + bytes of weights x 160 pJ (DRAM)" in text
    assert "float32 4 bytes a weight or activation, 4 a bias" in text


def block(*steps: tuple[str, str, tuple[str, ...]]) -> Block:
    shape = (4, 4, 8)
    parts = tuple(
        Operator(
            f"b_{n}", kind, tuple(f"b_{r}" for r in reads), (shape,), shape, kernel=(1, 1) if "x" in kind else None
        )
        for n, kind, reads in steps
    )
    return Block("b", parts, Cost(), shape, shape, 1, None, None, ())


FIRE = block(("s", "1x1", ("x",)), ("e3", "3x3", ("s",)), ("e1", "1x1", ("s",)), ("c", "concat", ("e1", "e3")))
GATED = block(
    ("depthwise", "dw3x3", ("x",)),
    ("se_squeeze", "mean", ("depthwise",)),
    ("se_reduce", "1x1", ("se_squeeze",)),
    ("se_expand", "1x1", ("se_reduce",)),
    ("se_excite", "mul", ("depthwise", "se_expand")),
    ("project", "1x1", ("se_excite",)),
    ("add", "add", ("x", "project")),
)
KINDS = ("relu", "1x1", "dw7x7", "bn", "lrn", "relu", "1x1", "bn")
LONG = block(*((str(i), kind, (str(i - 1),)) for i, kind in enumerate(KINDS)))
BRANCHED = block(
    ("0", "1x1", ("x",)), ("1_0", "1x1", ("x",)), ("1_1", "3x3", ("1_0",)), ("c", "concat", ("0", "1_1"))
)
CROSSED = block(("p", "1x1", ()), ("q", "3x3", ()), ("r", "add", ("p", "q")), ("s", "max3x3", ("p",)))


@pytest.mark.parametrize(
    ("part", "room", "text"),
    [
        (FIRE, 40, "1x1 (1x1 | 3x3) concat"),
        (FIRE, 12, "2·1x1 3x3"),
        (FIRE, 6, "4 operators"),
        (LONG, 14, "2·1x1 dw7x7 +5"),
        (GATED, 40, "dw3x3 SE 1x1 add"),
        (BRANCHED, 40, "(1x1 | 1x1 3x3) concat"),
        (CROSSED, 40, "1x1 3x3 add max3x3"),
    ],
)
def test_layout(part, room, text):
    assert layout(part, room) == text


def test_every_model_has_a_whole_line_at_80_columns():
    table, legend = architectures.models_table(width=80)
    lines = [text for text in printed(80, table) if text.strip()]
    assert [text.split()[0] for text in lines[2:]] == [spec.name for spec in architectures.chosen()]
    assert "Not shown" not in legend
    assert architectures.models_table(width=70)[1].endswith("Not shown: image, for want of width.")
    assert " ".join(line(lines, "mobilenet_v2")) == "mobilenet_v2 224 3.54 301 71.8 keras torchvision timm"


def test_models_by_family_and_in_order():
    names = [spec.name for spec in architectures.chosen("mobilenet_v2", "accuracy")]
    assert names[:2] == ["mobilenet_v2_1.4", "mobilenet_v2_1.3"]
    macs = [spec.macs for spec in architectures.chosen(sort="macs")]
    assert macs == sorted(macs)
    assert [s.family for s in architectures.chosen()] == sorted(
        (s.family for s in architectures.chosen()), key=_place
    )
    with pytest.raises(UnknownName, match="did you mean mobilenet_v2"):
        architectures.chosen("mobilenetv2")
    with pytest.raises(UnknownName, match="order"):
        architectures.chosen(sort="size")


def _place(family: str) -> int:
    return models.FAMILIES.index(family)


def test_sources_are_told_once_and_in_the_same_order():
    assert architectures.sources(models.spec("mobilenet_v3_small")) == ("keras", "torchvision", "timm")
    assert architectures.sources(models.spec("squeezenet_1.1")) == ("torchvision", "pypi")
    assert architectures.sources(models.spec("shufflenet_v1_g3")) == ()


def test_models_are_listed_without_tensorflow():
    code = "import sys; from tfcompact.cli.main import main; main(['models']); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0
