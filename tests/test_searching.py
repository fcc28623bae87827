"""A search from the words typed to the files that it leaves."""

import csv
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from tfcompact.cli.main import main
from tfcompact.errors import Busy, UserError
from tfcompact.export import candidate
from tfcompact.latency.cost_table import SCHEMA, Alone, Setting, Table
from tfcompact.latency.interpolation import Prediction
from tfcompact.models import space_network
from tfcompact.models.architecture import build
from tfcompact.models.space import Space
from tfcompact.pipeline.target import Target
from tfcompact.records.device import Device
from tfcompact.search import searching
from tfcompact.search.one_shot import kendall
from tfcompact.search.search_options import Config
from tfcompact.search.searching import Search, best
from tfcompact.tflite.fused_groups import read

SPACE = """
px = [32]
classes = 1000
stem = 8
head = 32

[[rows]]
out = [8, 16]
stride = 2
expansion = [1, 2, 3]
kernel = [3, 5]

[[rows]]
out = [16, 24, 32]
stride = 2
repeats = [1, 2]
expansion = [2, 4]
"""
SETTING = Setting(Device("emulated", "arm64-x-insn", "X", 1, "QEMU"), "insn", "runtime", "xnnpack", 1, "instructions")


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "small.toml").write_text(SPACE)
    Table(SCHEMA, SETTING, 0, 0).save(tmp_path / "table.json")
    return tmp_path


class Prices:
    """Costs that grow with everything."""

    def price(self, architecture) -> Prediction:
        cost = sum(row.out * row.expansion * row.repeats * row.kernel**0.5 for row in architecture.rows)
        return Prediction(cost, 0.25)


def accuracy(architecture, seed: int = 0) -> float:
    """The wider the better, less and less so, and luck."""
    size = Prices().price(architecture).cost
    luck = random.Random(f"{architecture}{seed}").uniform(-0.02, 0.02)
    return 0.9 - 5 / size + luck


@pytest.fixture
def quick(monkeypatch):
    """Candidates are judged by a formula; the list of those that were trained, with their seeds."""
    trained = []

    def fake(self, architecture, seed):
        trained.append((architecture, seed))
        return accuracy(architecture, seed), f"net/fit-{len(trained)}"

    monkeypatch.setattr(Search, "_trained", fake)
    monkeypatch.setattr(Search, "blocks", Prices())
    return trained


def words(place: Path, *more: str) -> list[str]:
    return [
        *("search", "--space", str(place / "small.toml"), "--table", str(place / "table.json")),
        *("--runs", str(place / "runs"), "--target-cost", "150", *more),
    ]


def test_it_ends_near_the_cost_that_was_asked_for(place, quick, capsys) -> None:
    assert main(words(place, "--trials", "60", "--px", "32")) == 0
    said = capsys.readouterr()
    paths = [Path(line) for line in said.out.splitlines()[-3:]]
    assert [path.name for path in paths] == ["trials.csv", "trials.png", "best.json"]
    with paths[0].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 == len({row["name"] for row in rows})
    assert [int(row["seeds"]) for row in rows[:4]] == [3, 3, 3, 1]
    rewards = [float(row["reward"]) for row in rows[:3]]
    assert rewards == sorted(rewards, reverse=True)
    found = space_network.from_file(paths[2]).architecture
    assert Prices().price(found).cost == pytest.approx(150, rel=0.15)
    assert found.classes == 10
    assert "60 of 60" in said.out
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_the_same_words_find_it_done_and_more_trials_go_on(place, quick, capsys) -> None:
    main(words(place, "--trials", "12", "--finalists", "0", "--px", "32"))
    first = list(quick)
    main(words(place, "--trials", "12", "--finalists", "0", "--px", "32"))
    assert quick == first
    main(words(place, "--trials", "15", "--finalists", "0", "--px", "32"))
    assert quick[:12] == first
    assert len(quick) == 15


def test_a_study_of_something_else_is_not_mixed_with_it(place, quick, capsys) -> None:
    main(words(place, "--trials", "2", "--px", "32"))
    assert main(words(place, "--trials", "2", "--px", "32", "--epochs", "9")) == 2
    assert (
        'the study search has proxy ["alone", 3, 10000, 2000], not ["alone", 9, 10000, 2000]'
        in capsys.readouterr().err
    )
    ms = Setting(Device("host", "h", "X", 2, "Linux"), "ai_edge_litert", "r", "xnnpack", 1, "ms")
    Table(SCHEMA, ms, 0, 0).save(place / "table.json")
    assert main(words(place, "--trials", "2", "--px", "32")) == 2
    assert 'has table "' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--target-cost", "1"], "the smallest network of"),
        (["--target-cost", "0"], "target_cost must be positive"),
        (["--controller", "evolutoin"], "did you mean evolution"),
        (["--trials", "0"], "trials must be 1 or more"),
        (["--study", "a/b"], "study must be letters"),
        (["--table", "none.json"], "cannot be read"),
        (["--model", "mobilenet_v2"], "no option --model"),
        (["--space", "mnasnt"], "mnasnet"),
    ],
)
def test_what_cannot_be_is_one_line(place, quick, capsys, more, said) -> None:
    assert main(words(place, "--px", "32", *more)) == 2
    err = capsys.readouterr().err.splitlines()
    assert said in err[-1]


def test_a_candidate_without_a_price_stops_the_search_and_is_no_bad_one(place, quick, monkeypatch) -> None:
    class Some(Prices):
        def price(self, architecture):
            if architecture.rows[0].kernel == 5:
                raise UserError("CONV_2D is not in the latency table")
            return super().price(architecture)

    monkeypatch.setattr(Search, "blocks", Some())
    target = Target("", data="digits", px=32, runs=place / "runs", table=place / "table.json")
    config = Config(space=str(place / "small.toml"), target_cost=150, trials=40)
    search = Search(config, target, Console(quiet=True))
    with pytest.raises(UserError, match="is not in the latency table"):
        search.run()
    assert [t.state.name for t in search.ledger.study.trials][-1] == "FAIL"


@pytest.mark.slow
def test_candidates_are_ordinary_runs(place, capsys) -> None:
    """Priced by operators, trained on digits, and found again."""
    space = Space.load(place / "small.toml")
    rng = random.Random(0)
    rows = {}
    for _ in range(3):
        for text in read(candidate.int8_file(build(space.sample(rng)))).configurations:
            rows[text] = Alone(float(len(text)) + 1000, True)
    for out in (10,):  # the digits' classes
        named = Space(**(vars(space) | {"classes": out}))
        for text in read(candidate.int8_file(build(named.sample(rng)))).configurations:
            rows[text] = Alone(float(len(text)) + 1000, True)
    Table(SCHEMA, SETTING, 10, 10, rows, step=16).save(place / "table.json")
    more = ["--trials", "3", "--epochs", "1", "--epoch-images", "64", "--validation-images", "50", "--px", "32"]
    more += ["--target-cost", "15000", "--finalists", "1", "--finalist-seeds", "1", "--controller", "random"]
    assert main(words(place, *more)) == 0
    runs = sorted((place / "runs").glob("net-*/fit-*/provenance.json"))
    assert len(runs) == 4
    networks = {json.loads(path.read_text())["network"]["kind"] for path in runs}
    assert networks == {"architecture"}
    before = [path.stat().st_mtime_ns for path in runs]
    assert main(words(place, *more)) == 0
    assert [path.stat().st_mtime_ns for path in runs] == before


def test_the_front_is_of_accuracy_and_cost(place, quick) -> None:
    target = Target("", data="digits", px=32, runs=place / "runs", table=place / "table.json")
    config = Config(space=str(place / "small.toml"), target_cost=150, trials=20, controller="nsga2")
    found = Search(config, target, Console(quiet=True)).run()
    leading = best(found)
    assert [row.cost for row in leading] == sorted(row.cost for row in leading)
    assert [row.accuracy for row in leading] == sorted(row.accuracy for row in leading)


@pytest.mark.slow
def test_shared_weights_are_trained_once_and_compared_with_training_alone(place, quick, monkeypatch, capsys) -> None:
    """Every candidate is judged in them; Kendall's tau says how far their order is that of training alone."""
    more = ["--trainer", "oneshot", "--shared-epochs", "1", "--epoch-images", "256", "--validation-images", "60"]
    more += ["--trials", "6", "--compared", "5", "--finalists", "1", "--px", "32"]
    assert main(words(place, *more)) == 0
    said = capsys.readouterr().out
    assert said.count("trains the shared weights: 1 epochs") == 1
    assert "Kendall's tau of shared weights and of 5 networks trained alone: " in said
    assert len(quick) == 3 + 5  # one finalist with three seeds, and those to compare with
    (shared,) = (place / "runs" / "search" / "search").glob("shared-*.npz")
    before = shared.stat().st_mtime_ns
    main(words(place, *more))
    assert shared.stat().st_mtime_ns == before
    assert "trains the shared weights" not in capsys.readouterr().out
    shared.write_bytes(b"cut off")
    assert main(words(place, *more[:-6], "--trials", "9", "--px", "32")) == 2
    assert "holds no shared weights of this space" in capsys.readouterr().err


def test_kendall_s_tau_is_of_orders() -> None:
    assert kendall([1, 2, 3, 4], [10, 20, 30, 40]) == 1
    assert kendall([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert kendall([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)


def test_a_training_that_another_worker_is_at_is_waited_for(place, monkeypatch) -> None:
    """Finalists are every worker's: the second takes what the first made."""
    calls = []

    class Made:
        notes = {"validation_accuracy": 0.75}
        model, name = "net", "fit-1"

    class Others:
        def __init__(self, target, console) -> None:
            pass

        def run(self, config):
            calls.append(config)
            if len(calls) < 3:
                raise Busy("another process is working on it")
            return Made()

    monkeypatch.setattr(searching, "Pipeline", Others)
    monkeypatch.setattr(searching, "BUSY_S", 0.0)
    target = Target("", data="digits", px=32, runs=place / "runs", table=place / "table.json")
    search = Search(Config(space=str(place / "small.toml"), target_cost=150), target, Console(quiet=True))
    member = Space.load(place / "small.toml").sample(random.Random(0))
    assert search._trained(member, 0) == (0.75, "net/fit-1")
    assert len(calls) == 3
