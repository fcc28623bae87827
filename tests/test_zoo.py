"""docs/zoo.md is what docs/zoo.py writes, and a name the networks do not have is an error."""

import importlib.util
from pathlib import Path

import pytest

from tfcompact import models
from tfcompact.errors import UserError

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def zoo():
    spec = importlib.util.spec_from_file_location("zoo", DOCS / "zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def names(zoo):
    return zoo.Names("mobilenet_v2_0.35")


def test_the_committed_table_has_every_variant_as_it_is_now(zoo):
    assert zoo.table() in (DOCS / "zoo.md").read_text()


@pytest.mark.parametrize("family", models.FAMILIES)
def test_every_family_has_its_page(zoo, family):
    assert zoo.heading(family)
    assert models.spec(zoo.EXAMPLES[family]).family == family
    assert {path.stem for path in zoo.PROSE.glob("*.md")} == set(models.FAMILIES)


@pytest.mark.slow
def test_the_committed_page_is_what_would_be_written(zoo):
    assert (DOCS / "zoo.md").read_text() == zoo.page()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{block3_1_depthwise.work}", "14·14·144·3·3 = 254,016"),
        ("{block3_1_expand.work}", "14·14·144·24 = 677,376"),
        ("{logits.work}", "1000·1280 = 1,280,000"),
        ("{block3_1.plain(3)}", f"{14 * 14 * 24 * 24 * 9:,}"),
        ("{block3_1.plain(1, 7)}", f"{14 * 14 * 24 * 24 * 7:,}"),
        ("{net.macs:M} and {net.params:k}", "59.3 M and 1,691.2 k"),
        ("{net.share('3x3'):%}", "9 %"),
        ("{1 / 8:.1%}, {3 / 2}", "12.5 %, 1.5"),
        ("{spec('mobilenet_v2').macs}", "300,774,272"),
        ("as it is", "as it is"),
    ],
)
def test_expressions(zoo, names, text, value):
    assert zoo.filled(text, names) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{block3_9.macs}",
            r"\{block3_9.macs\}: no layer of mobilenet_v2_0.35 named 'block3_9'; did you mean block3_",
        ),
        ("{spec('mobilenetv2').macs}", "no model named 'mobilenetv2'"),
        ("{net.flops}", "flops"),
        ("{pool.work}", "pool is no convolution or dense layer"),
        ("{open('x')}", "named 'open'"),
        ("{net.macs:Q}", "net.macs:Q"),
    ],
)
def test_an_expression_without_a_value_is_named(zoo, names, text, said):
    with pytest.raises(UserError, match=said):
        zoo.filled(text, names)


def test_a_wrong_name_in_a_page_names_the_file(zoo, monkeypatch):
    monkeypatch.setattr(zoo, "prose", lambda family: "## MobileNet V2\n\n{nothing.macs}")
    with pytest.raises(
        UserError, match=r"docs/zoo/mobilenet_v2.md: \{nothing.macs\}: no layer of mobilenet_v2 named"
    ):
        zoo.section("mobilenet_v2")


def test_paragraphs_are_wrapped_and_tables_are_not(zoo):
    text = zoo.wrapped("## Title\n\n" + "word " * 40 + "\n\n| a |\n|---|\n| " + "x" * 200 + " |")
    title, paragraph, table = text.split("\n\n")
    assert max(map(len, paragraph.splitlines())) <= 118
    assert len(table.splitlines()) == 3
