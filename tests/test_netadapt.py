"""NetAdapt: what it proposes, that masks stand for smaller networks, and that it goes on after a kill."""

import csv
import dataclasses
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from fake_images import FakeImages

from tfcompact import models
from tfcompact.compress.adaptation import proposals as proposing
from tfcompact.compress.adaptation.proposals import Axis, axes, better, orders, proposals, target_of
from tfcompact.compress.adaptation.trials import Trials
from tfcompact.compress.channels.atoms import Channels, Group, channels
from tfcompact.compress.channels.selection import Costs
from tfcompact.compress.channels.slicing import smaller, zeroed
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.models.blocks import conv, depthwise, logits, squeeze_excite
from tfcompact.networks import rewrite
from tfcompact.pipeline.steps import keeper
from tfcompact.records.artifact import Normalization
from tfcompact.runs import lineage, store
from tfcompact.stages import netadapt
from tfcompact.training.context import Context

L = keras.layers
SPEC = SimpleNamespace(
    name="tiny", aux_weight=0.4, record=SimpleNamespace(to_json=lambda: {"kind": "spec", "name": "tiny"})
)


def network(dropout: float = 0.1):
    """A stem, two inverted residuals with a gate that share a bottleneck, a head, and an auxiliary head."""
    keras.utils.set_random_seed(1)
    inputs = L.Input((8, 8, 3), name="image")
    x = conv(inputs, 16, 3, 2, name="stem")
    for i in range(2):
        y = conv(x, 32, act="h_swish", name=f"block{i}_expand")
        y = depthwise(y, 3, act="h_swish", name=f"block{i}_depthwise")
        y = squeeze_excite(y, 16, gate="h_sigmoid", name=f"block{i}_se")
        y = conv(y, 24, act=None, name=f"block{i}_project")
        x = L.Add(name=f"block{i}_add")([x, y]) if i else y
    head = conv(x, 40, name="head")
    ends = [logits(L.GlobalAveragePooling2D(name="pool")(head), 3, dropout=dropout)]
    ends.append(L.Dense(3, name="aux")(L.GlobalAveragePooling2D(name="aux_pool")(x)))
    return keras.Model(inputs, ends, name="tiny")


def context(directory: Path, **changes) -> Context:
    directory.mkdir(parents=True, exist_ok=True)
    made = Context(SPEC, FakeImages(train=160), 8, Normalization(), 0, directory, Console(quiet=True))
    return dataclasses.replace(made, **changes)


def options(**changes) -> netadapt.Config:
    usual = {
        "cost": "macs", "keep": 0.6, "first_step": 0.15, "short_steps": 3, "shortlist": 3, "judge_images": 32,
        "epochs": 1, "batch": 16, "norm_batches": 2, "ema": 0.9,
    }  # fmt: skip
    return netadapt.Config(**(usual | changes))


def test_a_masked_network_learns_what_the_smaller_one_does(tmp_path) -> None:
    """After steps of training with clipping, weight decay and auxiliary heads the weights that are left are equal.

    Without dropout, whose random numbers are another lot for another number of channels.
    """
    model = network(dropout=0)
    structure = channels(model)
    rng = np.random.default_rng(0)
    gone = {int(r) for g in structure.groups for r in rng.permutation(g.classes)[: len(g.classes) // 3]}
    config = options(clip_norm=0.05, learning_rate=0.5, optimizer="sgd")  # Adam makes much of rounding errors
    here = context(tmp_path, data=FakeImages(train=160).held_out(32))
    masked = Trials(model, structure, config, here, 6)
    less = smaller(model, structure, gone)
    alone = Trials(less, channels(less), config, here, 6)
    for tuned in (False, True):
        one, other = masked.judge(gone, tuned=tuned), alone.judge((), tuned=tuned)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.accuracy == other.accuracy
    small = smaller(masked.model_with(masked.tuned_weights()), structure, gone)
    before = less.get_weights()
    names = [weight.name for weight in small.weights]
    for name, ours, theirs in zip(names, small.get_weights(), alone.tuned_weights(), strict=True):
        assert np.abs(ours - theirs).max() < 2e-4, name
    assert max(np.abs(a - b).max() for a, b in zip(alone.tuned_weights(), before, strict=True)) > 0.01
    full = masked.model_with(masked.tuned_weights())
    images = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
    for a, b in zip(full(images), zeroed(full, structure, gone)(images), strict=True):
        assert np.abs(a - b).max() < 1e-5


def test_a_trial_leaves_nothing_to_the_next(tmp_path) -> None:
    model = network()
    structure = channels(model)
    trials = Trials(model, structure, options(), context(tmp_path, data=FakeImages(train=160).held_out(32)), 4)
    gone = list(structure.groups[0].classes[:4])
    first = trials.judge(gone, tuned=True)
    weights = trials.tuned_weights()
    trials.judge(structure.groups[1].classes[:8], tuned=True)
    assert trials.judge(gone, tuned=True) == first
    assert all(map(np.array_equal, weights, trials.tuned_weights()))


def toy(widths: tuple[int, ...]) -> Channels:
    """Groups of so many classes of one channel each."""
    starts = np.cumsum([0, *widths])
    groups = [
        Group((f"layer{i}",), tuple(range(a, b)), 1) for i, (a, b) in enumerate(itertools.pairwise(starts.tolist()))
    ]
    return Channels({}, frozenset(), tuple(groups))


def test_a_concave_accuracy_is_within_one_step_of_the_best() -> None:
    """Linear cost, and an accuracy that is a sum of concave functions of the widths: greedy is nearly exhaustive."""
    whole, prices, worth = (16, 16, 16), (3.0, 2.0, 5.0), (1.0, 2.0, 1.5)

    def cost(widths) -> float:
        return sum(p * w for p, w in zip(prices, widths, strict=True))

    def accuracy(widths) -> float:
        return sum(v * np.sqrt(w) for v, w in zip(worth, widths, strict=True))

    widths, first = whole, cost(whole)
    budget = 0.5 * first
    number, targets = 0, []
    while cost(widths) > budget:
        number += 1
        structure = toy(widths)
        target = target_of(cost(widths), first, 0.04, 0.97, number, budget)

        def price(gone, widths=widths):
            return cost([w - gone.get(i, 0) for i, w in enumerate(widths)])

        found = proposals(structure, axes(structure, "filters"), price, target, cap=0.8, multiple=1)
        points = [[w - one.gone.get(i, 0) for i, w in enumerate(widths)] for one in found]
        widths = max(points, key=accuracy)
        assert cost(widths) <= target
        targets.append(target)
    assert targets == sorted(targets, reverse=True)
    best = max(accuracy(w) for w in itertools.product(*(range(1, n + 1) for n in whole)) if cost(w) <= budget)
    assert accuracy(widths) >= best - max(accuracy([w + 1 for w in widths]) - accuracy(widths), 0)
    assert accuracy(widths) >= 0.985 * best


def test_a_proposal_is_the_largest_width_that_meets_the_target() -> None:
    structure = toy((64, 64))
    price = lambda gone: 128.0 - sum(gone.values())  # noqa: E731
    found = proposals(structure, axes(structure, "filters"), price, 100, cap=0.8, multiple=16)
    assert [(one.width, one.cost) for one in found] == [(32, 96), (32, 96)]
    assert not proposals(structure, axes(structure, "filters"), price, 50, cap=0.8, multiple=16)


def test_of_two_points() -> None:
    before = (0.9, 100.0)
    assert better("accuracy", before, (0.8, 90), (0.79, 50))
    assert better("accuracy", before, (0.8, 80), (0.8, 90))
    assert better("ratio", before, (0.7, 50), (0.85, 90))
    assert not better("ratio", before, (0.91, 99), (0.90, 90)), "a gain is no reason for the smallest step"


def test_the_ways_of_mobilenet_v3() -> None:
    """Expansions with their gates, and bottlenecks with all that share them; neither the stem nor the head."""
    structure = channels(network())
    found = axes(structure, "v3")
    assert [(axis.name, axis.kind, len(axis.followers)) for axis in found] == [
        ("block0_expand", "expansion", 1),
        ("block1_expand", "expansion", 1),
        ("block0_project", "bottleneck", 0),
    ]
    assert set(structure.groups[found[2].group].producers) == {"block0_project", "block1_project"}
    gates = structure.groups[found[0].followers[0]]
    assert gates.producers == ("block0_se_reduce",)


def test_every_proposal_of_mobilenet_v3_builds() -> None:
    """Residuals are as many as before, and every width is a multiple of 8."""
    model = models.build("mobilenet_v3_small", px=32, classes=10)
    structure = channels(model)
    order = orders(structure, None)
    adds = [layer.name for layer in model.layers if isinstance(layer, L.Add)]
    costs = Costs(structure, "macs").total
    price = _macs(structure, order)
    found = proposals(structure, axes(structure, "v3"), price, 0.995 * costs, cap=0.8, multiple=8)
    kinds = [one.axis.kind for one in found]
    assert kinds.count("expansion") >= 6
    assert kinds.count("bottleneck") >= 4
    for one in found:
        less = smaller(model, structure, proposing.classes_of(one, order))
        assert [layer.name for layer in less.layers if isinstance(layer, L.Add)] == adds
        assert rewrite.cost(less).macs == price(one.gone) <= 0.995 * costs
        changed = [
            layer.filters
            for layer, old in zip(less.layers, model.layers, strict=True)
            if getattr(layer, "filters", None) and layer.filters != old.filters
        ]
        assert changed
        assert all(width % 8 == 0 for width in changed)


def _macs(structure, order):
    def price(gone) -> float:
        costs = Costs(structure, "macs")
        costs.remove([root for place, count in gone.items() for root in order[place][:count]])
        return costs.total

    return price


class Runs:
    """A runs directory of one network, and how its stage is called; `kill_at` is the step whose making is killed."""

    def __init__(self, root: Path, kill_at: int | None = None) -> None:
        self.root, self.kill_at, self.made = root, kill_at, []
        self.models = {}

    def run(self, **changes):
        inputs = {"parent": None, "stage": "netadapt", "config": {}, "px": 8, "seed": 0}
        here = context(self.root / "making")
        keep = keeper(self.root, inputs, {"gives": "float"}, here, self._load, self._save)

        def watched(key, make):
            def making(own):
                self.made.append(key["iteration"])
                found = make(own)
                if key["iteration"] == self.kill_at:
                    raise KeyboardInterrupt
                return found

            return keep(key, making)

        keras.backend.clear_session()
        return netadapt.run(network(), options(**changes), dataclasses.replace(here, keep=watched))

    def _save(self, model, path: Path) -> None:
        path.write_bytes(b"saved")
        self.models[path.parent.name.removesuffix(".partial")] = model

    def _load(self, run: store.Run):
        return self.models[run.name]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A whole run, its notes and its runs directory."""
    runs = Runs(tmp_path_factory.mktemp("adapted"))
    return *runs.run(), runs


def test_it_ends_within_the_budget(adapted) -> None:
    model, notes, runs = adapted
    first = Costs(channels(network()), "macs").total
    assert Costs(channels(model), "macs").total <= 0.6 * first
    assert notes["first_cost"] == first
    assert len(notes["steps"]) == len(runs.made) == max(runs.made) >= 2
    with (runs.root / "making" / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if row["chosen"] == "True"]
    assert [int(row["iteration"]) for row in chosen] == runs.made
    costs = [float(row["cost"]) for row in chosen]
    assert costs == sorted(costs, reverse=True)
    assert all(float(row["cost"]) <= float(row["target"]) for row in rows)
    assert (runs.root / "making" / "trace.png").read_bytes().startswith(b"\x89PNG")
    found = store.finished(runs.root, "tiny")
    assert [run.name for run in found] == notes["steps"]
    assert not any(map(lineage.is_result, found))


def test_a_further_budget_finds_the_steps_again(adapted) -> None:
    model, notes, runs = adapted
    before = list(runs.made)
    _, further = runs.run(keep=0.4, epochs=0)
    assert further["steps"][: len(before)] == notes["steps"]
    assert runs.made == [*before, *range(len(before) + 1, len(further["steps"]) + 1)]


def test_killed_in_any_step_it_ends_with_the_same_bits(adapted, tmp_path) -> None:
    model, notes, _ = adapted
    runs = Runs(tmp_path, kill_at=2)
    with pytest.raises(KeyboardInterrupt):
        runs.run()
    runs.kill_at = None
    again, same = runs.run()
    assert runs.made[:3] == [1, 2, 2]
    assert same == notes
    assert all(map(np.array_equal, model.get_weights(), again.get_weights()))


def test_a_budget_that_is_no_budget_or_out_of_reach_is_one_line(tmp_path) -> None:
    with pytest.raises(UserError, match="costs 180k already|already, which is within the budget of 1e"):
        Runs(tmp_path / "a").run(budget=1e9)
    with pytest.raises(UserError, match="no layer can lose enough by itself"):
        Runs(tmp_path / "b").run(keep=0.01, first_step=0.98)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"select": "loss"}, "loss"), ({"cost": "ms"}, "ms"), ({"decay": 1.5}, "decay"), ({"judge_images": 0}, "judge")],
)
def test_options_that_mean_nothing_are_refused(wrong, message) -> None:
    with pytest.raises(UserError, match=message):
        options(**wrong)


def test_axes_of_a_network_without_blocks_are_said_to_be_none(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    inputs = L.Input((8, 8, 3), name="image")
    x = L.GlobalAveragePooling2D()(conv(conv(inputs, 16, 3, name="a"), 24, 3, name="b"))
    plain = keras.Model(inputs, logits(x, 3, dropout=0.0), name="plain")
    assert axes(channels(plain), "v3") == []
    assert axes(channels(plain), "filters") == [Axis("a", "filters", 0), Axis("b", "filters", 1)]
