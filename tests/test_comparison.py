"""The comparison of all ways: plans that are checked first, means and fronts, tables, and a run through all of it."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))

from tfcompact.cli import main
from tfcompact.comparison import comparing, comparison_files, comparison_plan, comparison_tables
from tfcompact.comparison.intervals import mean_interval, share_interval
from tfcompact.comparison.line import COSTS, at_equal_cost, front, lines
from tfcompact.comparison.row_result import RowResult
from tfcompact.errors import UnknownName, UserError
from tfcompact.pipeline.target import Target


def result(row: str, accuracy: float, macs: int, zipped: int, **more) -> RowResult:
    facts = {"kind": "compact model", "seed": 0, "images": 100, "float_accuracy": accuracy, "bytes": 2 * zipped}
    return RowResult(row=row, accuracy=accuracy, macs=macs, zipped_bytes=zipped, **facts | more)


PLAIN = [
    result("narrow", 0.50, 1_000_000, 10_000, plain=True, ms=1.0),
    result("wide", 0.70, 4_000_000, 40_000, plain=True, ms=4.0),
]


def test_the_default_plan_has_every_class_and_the_baselines() -> None:
    plan = comparison_plan.load("default")
    assert len(plan.rows) >= 16
    assert {"compact model", "decomposition", "quantization", "sparsification", "knowledge transfer", "chain"} <= {
        row.kind for row in plan.rows
    }
    options = [dict(step.options) for row in plan.rows for step in row.steps]
    importances = {step.get("importance", "l2") for step in options if "keep" not in step}
    assert {"l2", "bn", "taylor", "fpgm", "random"} <= importances
    assert sum(row.plain for row in plan.rows) >= 4


def test_what_is_compared_has_trained_as_long() -> None:
    plan = comparison_plan.load("default", {"base": {"epochs": 7}, "tune": {"epochs": 3}})
    of = {row.name: row for row in plan.rows}

    def epochs(name: str) -> int:
        return sum(step.options["epochs"] for step in of[name].steps)

    assert epochs("width 50 %") == 10 + 2
    assert epochs("width 50 %") == epochs("channels 50 %, L2") == epochs("distilled, KD") == epochs("zeros 75 %")


FIT = "[steps.x]\nstage='fit'\n"
ROW = "[[row]]\nname='a'\nclass='chain'\nships='float32'\nsteps=['x']\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no row"),
        ("[[row]]\nname='a'", "class of row 'a'"),
        ("[[row]]\nname='a'\nclass='chain'\nsteps=['x']", "step of row 'a'"),
        ("[[row]]\nname='a'\nclass='chain'\nsteps=[]", "has no steps"),
        ("[wrong]\na=1", "key of plan"),
        ("[steps.x]\nstage='fit'\nepochs='y'\n[[row]]\nname='a'\nclass='chain'\nsteps=['x']", "in the epochs of x"),
        ("[steps.x]\nstage='fit'\nepochs='x'\n[[row]]\nname='a'\nclass='chain'\nsteps=['x']", "in a circle"),
        ("[steps.x]\nstage='fit'\n[[row]]\nname='a'\nclass='chain'\nsteps=['x']", "gives a float network; end it in"),
        ("[steps.x]\nstage='fit'\nepoch=3\n[[row]]\nname='a'\nclass='chain'\nsteps=['x']", "option of x"),
        ("[steps.x]\nstage='fot'\n[[row]]\nname='a'\nclass='chain'\nsteps=['x']", "did you mean fit"),
        (
            "[steps.x]\nstage='distill'\nteacher='@teacher'\n[[row]]\nname='a'\nclass='chain'\nships='float32'\nsteps=['x']",
            "has no .teacher",
        ),
        ("not toml", "is not a plan"),
        ("row=3", "must be tables"),
        ("teacher=3\n" + FIT + ROW, "teacher of plan .* must be a table"),
        ("export=3\n" + FIT + ROW, "export of plan .* must be a table"),
        ("steps=3\n" + ROW, "steps of plan .* must be a table"),
        ("[steps]\nx=3\n" + ROW, "must hold tables"),
        (FIT + ROW + "px=0", "px of row 'a' must be a share"),
        (FIT + ROW + "px='big'", "px of row 'a' must be a share"),
        (FIT + ROW + "plain=1", "must be true or false"),
        (FIT + ROW.replace("float32", "float64"), "format that row 'a' ships"),
        (FIT + ROW + "with=3", "with of row 'a' must be a table"),
        (FIT + ROW + "with.x=3", "must hold tables"),
        (FIT + "epochs='y'\n[steps.y]\nstage='fit'\nepochs=1.5\n" + ROW, "must be a whole number"),
        (FIT + "[steps.y]\nstage='fit'\nepoch=1\n" + ROW, "option of y"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_one_line(text, words, tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as e:
        comparison_plan.load(str(file))
    assert "\n" not in str(e.value)


def test_a_plan_or_row_that_there_is_not() -> None:
    with pytest.raises(UnknownName, match="did you mean default"):
        comparison_plan.load("defualt")
    with pytest.raises(UnknownName, match="did you mean QAT"):
        comparison_plan.load("default").only(["QTA"])
    with pytest.raises(UserError, match="no row has step tune, of which only the epochs count; batch would do"):
        comparison_plan.load("default", {"tune": {"batch": 8}})
    plan = comparison_plan.load(
        "default", {"base": {"augment": {"flip": False}}, "longer": {"augment": {"flip": False}}}
    )
    assert plan.rows[0].steps[0].options["augment"] == {"flip": False}
    with pytest.raises(UnknownName, match="step of plan default"):
        comparison_plan.load("default", {"bose": {"epochs": 1}})


def test_the_plain_network_of_equal_cost_lies_between_two() -> None:
    two = [line for line in lines(PLAIN) if line.plain]
    assert at_equal_cost(two, lambda line: line.macs, 2_000_000) == pytest.approx(60)  # half way on the logarithm
    assert at_equal_cost(two, lambda line: line.macs, 4_000_000) == pytest.approx(70)
    assert at_equal_cost(two, lambda line: line.macs, 4_050_000) == pytest.approx(70)  # hardly beyond
    assert at_equal_cost(two, lambda line: line.macs, 5_000_000) is None
    assert at_equal_cost(two[:1], lambda line: line.macs, 1_000_000) is None


def test_lines_have_their_gains_and_fronts() -> None:
    found = lines([*PLAIN, result("pruned", 0.65, 2_000_000, 20_000, ms=2.5), result("poor", 0.4, 4_000_000, 5_000)])
    narrow, wide, pruned, poor = found
    assert (narrow.gain_macs, wide.gain_macs) == (None, None)
    assert pruned.gain_macs == pytest.approx(5)
    assert pruned.gain_zipped == pytest.approx(5)
    assert poor.gain_macs == pytest.approx(-30)
    assert poor.gain_zipped is None
    assert [line.fronts for line in found] == [("ms", "zip"), ("ms", "zip"), ("ms", "zip"), ("zip",)]
    assert [line.name for line in front(found, COSTS["zip"])] == ["poor", "narrow", "pruned", "wide"]


def test_seeds_become_a_mean_with_its_interval() -> None:
    seeds = [result("a", accuracy, 10, 10, seed=seed) for seed, accuracy in enumerate((0.5, 0.6, 0.7))]
    (line,) = lines(seeds)
    assert line.accuracy == pytest.approx(60)
    assert line.half == pytest.approx(4.303 * 10 / 3**0.5)
    assert line.seeds == 3
    assert mean_interval([1.0]) == (1.0, None)
    assert share_interval(0.5, 100) == pytest.approx(0.098)


def test_intervals_are_scipys() -> None:
    from scipy import stats

    values = [1.0, 4.0, 2.5, 3.0]
    middle, half = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=middle, scale=stats.sem(values))
    assert (middle - half, middle + half) == pytest.approx((low, high), rel=1e-3)


def test_a_row_that_failed_says_why_and_the_others_are_shown(tmp_path) -> None:
    failed = RowResult(row="cut | in two", kind="decomposition", seed=0, error="no split | lowers its cost")
    results = [*PLAIN, failed]
    found = lines(results)
    table, legend = comparison_tables.terminal_table(found, 100)
    assert table.row_count == 2
    assert "100 test images" in legend
    assert comparison_tables.failures(found) == ["3 cut | in two: no split | lowers its cost"]
    written = comparison_files.write(results, "net: photos", tmp_path)
    assert sorted(path.name for path in written) == ["comparison.png", "report.csv", "report.json", "report.md"]
    page = (tmp_path / "report.md").read_text()
    assert "- 3 cut \\| in two: no split \\| lowers its cost" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text())))
    assert [row["row"] for row in rows] == ["narrow", "wide", "cut | in two"]
    kept = [RowResult.from_json(row) for row in json.loads((tmp_path / "report.json").read_text())]
    assert kept == results


def test_where_every_row_failed_there_is_no_plot_of_an_earlier_time(tmp_path) -> None:
    comparison_files.write(PLAIN, "t", tmp_path)
    assert (tmp_path / "comparison.png").is_file()
    comparison_files.write([RowResult("a", "chain", 0, error="no")], "t", tmp_path)
    assert not (tmp_path / "comparison.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processors", "a53"], "no emulated processor named 'a53'"),
        (["--seeds", "0"], "seeds 0 must be 1 or more|1 or more"),
        (["--test-images", "0"], "1 or more"),
        (["--rows", "QTA"], "did you mean QAT"),
        (["--set", "base.epoch=3"], "did you mean epochs"),
        (["--model", "mobilenet_v9"], "no model named"),
    ],
)
def test_words_are_refused_before_anything_is_trained(words, said, tmp_path, capsys) -> None:
    assert main.main(["compress", "--runs", str(tmp_path / "runs"), *words]) != 0
    heard = capsys.readouterr()
    assert re.search(said, heard.err)
    assert heard.out == ""
    assert not (tmp_path / "runs").exists()


PLAN = """
[steps.base]
stage = "fit"
epochs = 1
epoch_images = 64
validation_images = 32
norm_batches = 1

[steps.halved]
stage = "prune"
multiple = 8
epochs = 0

[steps.split]
stage = "decompose"
keep = 0.05
epochs = 0
moment_images = 0

[steps.ptq]
stage = "quantize"
epochs = 0
calibration_images = 32
sqnr_images = 0

[export]
images = 32
largest_loss = 100
least_agreement = 0
samples = 0

[[row]]
name = "float"
class = "the network itself"
steps = ["base"]
ships = "float32"

[[row]]
name = "halved"
class = "sparsification"
steps = ["base", "halved", "ptq"]

[[row]]
name = "split"
class = "decomposition"
steps = ["base", "split", "ptq"]
"""


@pytest.mark.slow
def test_a_plan_is_run_and_found_again(tmp_path, capsys) -> None:
    plan = tmp_path / "tiny.toml"
    plan.write_text(PLAN)
    words = ["compress", "--model", "mobilenet_v1_0.25", "--data", "digits", "--px", "32", "--plan", str(plan)]
    words += ["--runs", str(tmp_path / "runs"), "--test-images", "64", "--processors", "none"]
    assert main.main(words) == 0
    said = capsys.readouterr().out
    assert "failed: 3 split: " in said
    assert "cannot be reached" in said or "no split" in said
    report = tmp_path / "runs" / "report" / "compress" / "mobilenet_v1_0.25"
    first = json.loads((report / "report.json").read_text())
    assert [bool(row["error"]) for row in first] == [False, False, True]
    assert first[1]["macs"] < 0.6 * first[0]["macs"]
    assert first[1]["bytes"] < first[0]["bytes"] / 3
    assert first[0]["images"] == 64
    runs = sorted((tmp_path / "runs").glob("*/*-*"))
    assert main.main(words) == 0
    assert "already there" in capsys.readouterr().out
    assert sorted((tmp_path / "runs").glob("*/*-*")) == runs
    next(report.glob("rows/*")).write_text("{")  # what is damaged is found out again
    fit = next((tmp_path / "runs" / "mobilenet_v1_0.25").glob("fit-*"))
    without = [word for word in words if word not in ("--data", "digits", "--px", "32")]
    assert main.main([*without, "--parent", fit.name]) == 0  # on the images of the parent, at their size
    assert "digits at 32 px" in capsys.readouterr().out
    assert sorted((tmp_path / "runs").glob("*/*-*")) == runs
    again = json.loads((report / "report.json").read_text())
    assert [row | {"ms": 0} for row in again] == [row | {"ms": 0} for row in first]


def test_a_fault_of_ours_is_a_row_that_failed(tmp_path, monkeypatch) -> None:
    target = Target("mobilenet_v1_0.25", data="digits", px=64, runs=tmp_path)
    plan = comparison_plan.load("default").only(["QAT", "PTQ"])
    told = io.StringIO()
    comparison = comparing.Comparison(plan, target, Console(file=told))

    def broken(self, config, parent=None, start=None):
        raise ZeroDivisionError("somewhere\ndeep")

    monkeypatch.setattr(comparing.Pipeline, "run", broken)
    results = comparison.results()
    assert [result.error for result in results] == ["ZeroDivisionError: somewhere deep"] * 2
    assert "Traceback" in told.getvalue()


def test_another_network_or_image_is_the_rows_own(tmp_path) -> None:
    row = comparison_plan.load("default").only(["image 75 %"]).rows[0]
    target = Target("mobilenet_v1_0.25", data="digits", px=64, runs=tmp_path)
    comparison = comparing.Comparison(comparison_plan.load("default"), target, Console(quiet=True))
    assert comparison._pipeline(row.model, row.px, 3).target == Target(
        "mobilenet_v1_0.25", data="digits", px=48, seed=3, runs=tmp_path
    )
    assert comparison.images_text == "digits at 64 px"
