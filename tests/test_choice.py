"""From images and a budget to a file: what is offered, what is priced, who goes on, and the page."""

import csv
from pathlib import Path

import pytest
from rich.console import Console

from tfcompact import models
from tfcompact.choice import choice_page, choosing, halving, offers, pricing
from tfcompact.choice.choosing import Choice, Config, Outcome
from tfcompact.choice.halving import halved
from tfcompact.choice.offers import Offer, of_the_zoo, varied
from tfcompact.choice.pricing import Priced, beside, priced
from tfcompact.cli.main import main
from tfcompact.errors import UserError
from tfcompact.latency.cost_table import SCHEMA, Setting, Table
from tfcompact.pipeline.target import Target
from tfcompact.records.device import Device

SETTING = Setting(Device("host", "h", "X", 2, "Linux"), "ai_edge_litert", "r", "xnnpack", 1, "ms")


def test_what_is_offered() -> None:
    """Every network that has an int8 form at sizes it takes, none larger than its own or than the images need."""
    found = of_the_zoo(500)
    assert all(models.spec(one.model).min_px <= one.px <= models.spec(one.model).image_px for one in found)
    assert not any(models.spec(one.model).float_only for one in found)
    assert [one.prior for one in found] == sorted((one.prior for one in found), reverse=True)
    assert {one.px for one in of_the_zoo(32)} == {64}
    v1 = {one.px: one.prior for one in found if one.model == "mobilenet_v1"}
    assert v1[128] == pytest.approx(v1[224] - 5.7)  # as MobileNetV1's own at that size
    assert len({one.model for one in found}) > 80


def test_few_sizes_of_a_variant_and_few_of_a_family() -> None:
    found = varied(of_the_zoo(500), 9)
    assert len(found) == 9
    families = [models.spec(one.model).family for one in found]
    assert max(map(families.count, families)) <= 3


def offer(name: str, macs: float, prior: float) -> Offer:
    return Offer(name, 96, macs, prior)


def test_only_what_may_fit_is_priced() -> None:
    """The cost of a multiply-add is learnt from the cheapest; what would cost far more is not looked at."""
    known = [offer(f"net{i}", 2.0**i, 50 + i) for i in range(12)]
    asked = []

    def price(one: Offer) -> Priced:
        asked.append(one.model)
        if one.model == "net3":
            raise UserError("CONV_2D is not in the table")
        return Priced(one, 0.1 * one.macs, 0.0)

    found, refused = priced(sorted(known, key=lambda o: -o.prior), price, 3.2, lambda line: None)
    assert asked == ["net0", "net5", "net4", "net3", "net2", "net1"]
    assert [one.offer.model for one in found if one.cost <= 3.2] == ["net0", "net5", "net4", "net2", "net1"]
    assert refused == ["net3 at 96 px: CONV_2D is not in the table"]


def test_another_budget_is_looked_at_too() -> None:
    """The most promising that fits it, though the budget itself would never have priced it."""
    known = sorted((offer(f"net{i}", 2.0**i, 50 + i) for i in range(12)), key=lambda o: -o.prior)
    first, _ = priced(known, lambda one: Priced(one, 0.1 * one.macs, 0.0), 3.2, lambda line: None)
    assert max(one.cost for one in first) == 3.2
    found = beside(known, first, lambda one: Priced(one, 0.1 * one.macs, 0.0), 6.4)
    assert [(one.offer.model, one.cost) for one in found] == [("net6", 6.4)]
    assert beside(known, first, lambda one: Priced(one, 0.1 * one.macs, 0.0), 1.6) == []

    def dearer(one: Offer) -> Priced:
        return Priced(one, 1.0 * one.macs, 0.0)

    assert [one.offer.model for one in beside(known, first, dearer, 51.2)] == ["net9", "net8", "net7"]


def test_a_candidate_that_fails_is_left_out_and_told() -> None:
    found = halved(["a", "b", "c"], (1,), lambda one, epochs: None if one == "b" else ord(one), 60)
    assert [result.candidate for result in found] == ["c", "a"]
    assert halved(["b"], (1, 3), lambda one, epochs: None, 60) == []


def test_a_third_goes_on_and_rungs_share_the_time() -> None:
    worth = dict(zip("abcdefghi", (3, 1, 4, 1, 5, 9, 2, 6, 8), strict=True))
    trained = []

    def train(one: str, epochs: int) -> float:
        trained.append((one, epochs))
        return worth[one] + epochs / 100

    found = halved(list(worth), (1, 3, 9), train, 60)
    assert [(r.candidate, r.epochs) for r in found[:4]] == [("f", 9), ("f", 3), ("i", 3), ("h", 3)]
    assert len(trained) == 9 + 3 + 1

    now = [0.0]

    def slow(one: str, epochs: int) -> float:
        now[0] += 60 * epochs
        return worth[one]

    found = halved(list(worth), (1, 2), slow, 8, clock=lambda: now[0])
    assert [r.candidate for r in found if r.epochs == 1] == ["c", "a", "b", "d"], "four minutes of four of nine"
    assert [r.candidate for r in found if r.epochs == 2] == ["c"]
    assert halving.KEEP == 3


@pytest.fixture
def place(tmp_path) -> Path:
    Table(SCHEMA, SETTING, 0, 0, step=16).save(tmp_path / "table.json")
    return tmp_path


@pytest.fixture
def by_macs(monkeypatch):
    """Prices by multiply-adds, and trainings that know the published accuracy."""
    monkeypatch.setattr(pricing.Pricer, "price", lambda self, one: Priced(one, one.macs / 1e7, 0.5))
    monkeypatch.setattr(Choice, "_trained", lambda self, one, epochs: one.offer.prior / 100 - 0.1 / epochs)

    class Exported:
        path = Path("runs/net/export-1")
        artifacts = (type("Artifact", (), {"path": "model.uint8.tflite"})(),)

    monkeypatch.setattr(Choice, "_exported", lambda self, chosen, epochs: Exported())
    monkeypatch.setattr(Choice, "_measured", lambda self, chosen, export: (91.25, 1.93))


def test_the_best_within_the_budget_is_chosen_and_the_page_says_why(place, by_macs, capsys) -> None:
    words = ["choose", "--data", "digits", "--budget", "2", "--table", str(place / "table.json")]
    assert main([*words, "--runs", str(place / "runs")]) == 0
    said = capsys.readouterr().out
    page, table = (Path(line) for line in said.splitlines()[-3:-1])
    assert page.name == "choice.md"
    text = page.read_text()
    assert "# digits within 2 ms" in text
    assert "measured 1.93 ms, 91.2 % of the test images" in text
    assert "half of it (1 ms): " in text
    assert "twice of it (4 ms): " in text
    assert "after 9 epochs, %" in text
    with table.open() as file:
        rows = list(csv.DictReader(file))
    inside = [row for row in rows if float(row["cost"]) <= 2]
    assert all(float(row["cost"]) <= 2 for row in rows if row["after_1"])
    chosen = next(row for row in inside if row["after_9"])
    assert f"**{chosen['network']} at 64 px**" in text


def test_an_impossible_budget_names_the_cheapest(place, by_macs, capsys) -> None:
    words = ["choose", "--data", "digits", "--budget", "0.0001", "--table", str(place / "table.json")]
    assert main([*words, "--runs", str(place / "runs")]) == 2
    err = capsys.readouterr().err
    assert "nothing costs 0.0001 ms or less; the cheapest is " in err
    assert len(err.splitlines()) == 1


def test_a_table_that_knows_nothing_says_what_to_do(place, capsys) -> None:
    target = Target("", data="digits", px=64, runs=place / "runs", table=place / "table.json")
    choice = Choice(Config(budget=1), target, Console(quiet=True))
    choice.pricer.table = choice.pricer.prices.table
    choice._images  # noqa: B018  (opened before the names are replaced)
    little = [one for one in of_the_zoo(8) if one.model == "mobilenet_v1_0.25"]
    with pytest.raises(UserError, match="is not in the latency table|others of its operators are not in"):
        choice.pricer.price(little[0])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"budget": 0}, "budget must be positive"),
        ({"rungs": (3, 1)}, "rungs must be rising"),
        ({"minutes": 0}, "minutes must be positive"),
        ({"candidates": 0}, "candidates must be 1 or more"),
    ],
)
def test_options_that_mean_nothing_are_refused(more, said) -> None:
    with pytest.raises(UserError, match=said):
        Config(**({"budget": 1} | more))


@pytest.mark.slow
def test_a_whole_choice_on_this_computer(tmp_path, monkeypatch) -> None:
    """Without a table: this computer's is made on the way; a second call finds everything."""
    few = [one for one in of_the_zoo(8) if one.model in ("mobilenet_v1_0.25", "mobilenet_v2_0.35")]
    monkeypatch.setattr(choosing, "of_the_zoo", lambda native: few)
    config = Config(budget=50, minutes=30, candidates=2, rungs=(1, 2), epoch_images=128, qat_epochs=0)
    target = Target("", data="digits", runs=tmp_path / "runs")
    outcomes = [Choice(config, target, Console(quiet=True)).run() for _ in range(2)]
    assert outcomes[0].export == outcomes[1].export
    assert outcomes[0].chosen == outcomes[1].chosen
    assert outcomes[0].export.artifacts[0].format == "uint8"
    assert outcomes[0].measured == pytest.approx(outcomes[0].chosen.cost, rel=0.8)
    assert len(list((tmp_path / "runs").glob("*/fit-*"))) == 3
    assert isinstance(outcomes[0], Outcome)
    assert len(list((tmp_path / "runs" / "tables").glob("this-computer-*.json"))) == 1
    assert "# digits within 50 ms" in choice_page.page(outcomes[0])
    assert offers.of_searches(tmp_path / "runs") == []
