"""NetAdapt: makes a network cheaper step by step, by what a layer's channels cost on a device (arXiv:1804.03230)."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from tfcompact.errors import UserError
from tfcompact.files import write_bytes, write_json, write_text
from tfcompact.frameworks import Model
from tfcompact.options import opt, require, require_choice
from tfcompact.stages.contract import Notes, Stage
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Tuning, training_text

if TYPE_CHECKING:
    from tfcompact.compress.adaptation.proposals import Proposal
    from tfcompact.compress.adaptation.trials import Judged
    from tfcompact.compress.channels.atoms import Channels

COSTS = ("table", "macs", "params")
PROPOSALS = ("filters", "v3")
SELECT = ("accuracy", "ratio")
MOST_ITERATIONS = 500
TRACE, PLOT = "trace.csv", "trace.png"


@dataclass(frozen=True)
class Config(Tuning):
    """Options of `netadapt`."""

    keep: float = opt(0.5, "share of the network's cost that is the budget, in (0, 1)")
    budget: float = opt(0.0, "the budget itself, in the unit of the cost, instead of a share; 0 for --keep")
    cost: str = opt("table", "what the budget is of: table (ms or instructions, by --table), macs or params")
    proposals: str = opt(
        "filters", "filters (any layers' channels) or v3 (a block's expansion, or the bottleneck that blocks share)"
    )
    select: str = opt("accuracy", "which proposal is taken: the most accurate, or by the ratio of accuracy to cost")
    first_step: float = opt(0.05, "share of the first cost that the first step saves, in (0, 1)")
    decay: float = opt(0.97, "what the share is multiplied by at each step, in (0, 1]")
    short_steps: int = opt(50, "training steps of a proposal before it is judged; 0 for none")
    shortlist: int = opt(6, "proposals that are trained, the best as they stand; 0 for all")
    judge_images: int = opt(1000, "training images held out to judge proposals, balanced over classes")
    cap: float = opt(0.8, "share at most that goes of channels that hang together in one step, in (0, 1)")
    multiple: int = opt(0, "widths are multiples of this; 0: the step of the table's kernels, 8 without a table")
    distill: float = opt(0.5, "share of the loss of the last training that is agreement with the parent, in [0, 1]")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("cost", self.cost, COSTS)
        require_choice("proposals", self.proposals, PROPOSALS)
        require_choice("select", self.select, SELECT)
        for name in ("keep", "first_step", "cap"):
            require(0 < getattr(self, name) < 1, name, getattr(self, name), "in (0, 1)")
        require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        for name in ("budget", "short_steps", "shortlist", "multiple"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.judge_images >= 1, "judge_images", self.judge_images, "1 or more")


AFTER = (
    *("keep", "budget", "epochs", "epoch_images", "validation_images", "warmup_epochs", "distill"),
    *("early_stopping", "ema"),
)
"""Options that decide how far it goes, and what follows: a step does not depend on them."""


def run(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    """A copy of `model` whose cost is within the budget, trained on, and how it came to be.

    Every step is kept as a run of its own. Raises `UserError` where the budget is not below the network's cost, or
    cannot be reached.
    """
    from tfcompact.compress.adaptation.proposals import target_of
    from tfcompact.compress.adaptation.trace_plot import trace_png
    from tfcompact.compress.distillation.teachers import of_a_tuning
    from tfcompact.compress.sparsity.masks import kept_zeros, kernels_of
    from tfcompact.networks import rewrite
    from tfcompact.training import evaluation, loop

    first = _cost(model, config, context)
    budget = config.budget or config.keep * first
    if budget >= first:
        raise UserError(f"the network costs {first:g} already, which is within the budget of {budget:g}")
    network, cost, before, prices = model, first, "start", _Prices(model, config, context)
    rows: list[dict[str, Any]] = []
    steps: list[str] = []
    plain = {name: value for name, value in dataclasses.asdict(config).items() if name not in AFTER}
    while cost > budget:
        number = len(steps) + 1
        if number > MOST_ITERATIONS:
            raise UserError(f"the budget was not reached in {MOST_ITERATIONS} steps; give a larger --first-step")
        target = target_of(cost, first, config.first_step, config.decay, number, budget)
        key = {"iteration": number, "target": target, "after": before, "options": plain}
        kept = context.keep(key, partial(_step, network, cost, target, prices, config))
        network, before = kept.model, kept.run
        chosen = kept.notes["chosen"]
        cost = chosen["cost"]
        steps.append(kept.run)
        rows += [{"iteration": number, "target": target, **row} for row in kept.notes["proposals"]]
        context.log(
            f"step {number}: {chosen['name']} to {chosen['width']} channels, {cost / first:.1%} of the cost left, "
            f"{chosen['accuracy']:.1%} of the images that judge"
        )
        write_text(context.directory / TRACE, _as_csv(rows))
    write_bytes(context.directory / PLOT, trace_png(rows, first, f"{model.name}, {_summary(config)}"))
    notes: Notes = {"first_cost": first, "budget": budget, "cost": cost, "steps": steps}
    network = rewrite.clone(network)
    if config.epochs:
        hooks = of_a_tuning(model, network, context.spec.aux_weight or 0.0, config.distill)
        notes |= loop.train(
            network, config, context, hooks=[*hooks, *kept_zeros(kernels_of(network))], from_start=True
        )
    else:
        notes["validation_accuracy"] = evaluation.evaluator(network)(evaluation.validation(config, context))[1]
    counted = rewrite.cost(rewrite.inference(network))
    return network, notes | {"macs": counted.macs, "parameters": counted.trainable}


def _step(
    network: Model, cost: float, target: float, prices: _Prices, config: Config, context: Context
) -> tuple[Model, Notes]:
    """The network after one step of the algorithm, and every proposal that there was."""
    from tfcompact.compress.adaptation import proposals as proposing
    from tfcompact.compress.adaptation.trials import Trials
    from tfcompact.compress.channels.atoms import channels
    from tfcompact.compress.channels.importance import importance
    from tfcompact.compress.channels.slicing import smaller

    structure = channels(network)
    of = proposing.axes(structure, config.proposals)
    if not of:
        raise UserError(f"{network.name} has no channels of the kind that --proposals {config.proposals} narrows")
    scores = None if config.proposals == "v3" else importance(network, structure, "l2")
    order = proposing.orders(structure, scores)
    price = prices.of(structure)
    multiple = config.multiple or (context.step if config.cost == "table" else 8)
    found = proposing.proposals(structure, of, lambda gone: price(gone)[0], target, cap=config.cap, multiple=multiple)
    if not found:
        raise UserError(
            f"no layer can lose enough by itself to get from {cost:g} to {target:g}; give a smaller --first-step, a "
            "larger --cap, a smaller --multiple, or a larger budget"
        )
    held = dataclasses.replace(context, data=context.data.held_out(config.judge_images))
    judging = dataclasses.replace(config, validation_images=0)
    trials = Trials(network, structure, judging, held, config.short_steps)
    classes = {id(one): proposing.classes_of(one, order) for one in found}
    plain = {id(one): trials.judge(classes[id(one)], tuned=False) for one in found}
    ranked = sorted(found, key=lambda one: (plain[id(one)].loss, one.cost, one.axis.name))
    tried = ranked[: config.shortlist or None] if config.short_steps else ranked
    start = trials.judge((), tuned=False)
    before = (start.accuracy, cost)
    best, point, weights, tuned = tried[0], (-1.0, cost), trials.weights, {}
    for one in tried:
        tuned[id(one)] = trials.judge(classes[id(one)], tuned=True)
        now = (tuned[id(one)].accuracy, one.cost)
        if len(tuned) == 1 or proposing.better(config.select, before, now, point):
            best, point, weights = one, now, trials.tuned_weights()
    made = smaller(trials.model_with(weights), structure, classes[id(best)])
    counted = _cost(made, config, context)
    if counted >= cost:
        raise UserError(
            f"{best.axis.name} at {best.width} channels was predicted to bring the cost from {cost:g} to "
            f"{best.cost:g}, and costs {counted:g}; measure more widths: tfcompact latency-table --extend --widths 8"
        )
    rows = [_row(one, plain, tuned, one is best, price) for one in ranked]
    chosen = {
        "name": best.axis.name,
        "kind": best.axis.kind,
        "width": best.width,
        "accuracy": tuned[id(best)].accuracy,
        "predicted": best.cost,
        "cost": counted,
        "rank": tried.index(best) + 1,
    }
    write_json(context.directory / "proposals.json", rows)
    return made, {"chosen": chosen, "proposals": rows, "accuracy_before": start.accuracy}


class _Prices:
    """What the network that a run begins with costs where its groups have lost classes.

    Groups keep their place while they become narrower, so one look at the first network serves all steps.
    """

    def __init__(self, model: Model, config: Config, context: Context) -> None:
        from tfcompact.compress.channels.atoms import channels

        self.model, self.config, self.context = model, config, context
        self.structure = channels(model)
        self.orders = [list(group.classes) for group in self.structure.groups]

    def of(self, structure: Channels) -> Callable[[Mapping[int, int]], tuple[float, float]]:
        """The cost, and the share of it that was interpolated, of a narrower network that loses further classes."""
        before = [
            len(mine.classes) - len(its.classes)
            for mine, its in zip(self.structure.groups, structure.groups, strict=True)
        ]

        def price(gone: Mapping[int, int]) -> tuple[float, float]:
            return self._price({place: count + gone.get(place, 0) for place, count in enumerate(before)})

        return price

    @cached_property
    def _price(self) -> Callable[[Mapping[int, int]], tuple[float, float]]:
        from tfcompact.compress.channels import falls
        from tfcompact.compress.channels.selection import Costs
        from tfcompact.compress.channels.slicing import smaller

        if self.config.cost == "table":
            probes = [
                (gone, smaller(self.model, self.structure, classes))
                for gone, classes in falls.probes(self.structure, self.orders)
            ]
            return self.context.price_widths(self.model, falls.falls(self.structure), probes)

        def plain(gone: Mapping[int, int]) -> tuple[float, float]:
            costs = Costs(self.structure, self.config.cost)
            costs.remove([root for place, count in gone.items() for root in self.orders[place][:count]])
            return costs.total, 0.0

        return plain


def _row(
    one: Proposal, plain: Mapping[int, Judged], tuned: Mapping[int, Judged], chosen: bool, price: Any
) -> dict[str, Any]:
    """A proposal as a row of the trace."""
    after = tuned.get(id(one))
    return {
        "name": one.axis.name,
        "kind": one.axis.kind,
        "width": one.width,
        "cost": one.cost,
        "interpolated": round(price(one.gone)[1], 4),
        "untrained_loss": round(plain[id(one)].loss, 6),
        "accuracy": after.accuracy if after else None,
        "chosen": chosen,
    }


def _cost(network: Model, config: Config, context: Context) -> float:
    """What the network costs, in what the budget is of."""
    from tfcompact.compress.channels.atoms import channels
    from tfcompact.compress.channels.selection import Costs

    return context.price(network) if config.cost == "table" else Costs(channels(network), config.cost).total


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _summary(config: Config) -> str:
    goal = f"{config.budget:g}" if config.budget else f"{config.keep:.0%}"
    what = {"table": "of the table's cost", "macs": "multiply-adds", "params": "parameters"}[config.cost]
    tuned = training_text(config) if config.epochs else "not trained on at the end"
    return f"NetAdapt to {goal} {what}, {config.proposals}, by {config.select}, {tuned}"


STAGE = Stage(
    config=Config,
    run=run,
    version=1,
    takes=("float",),
    gives="float",
    prices=lambda config: config.cost == "table",
    summary=_summary,
)
