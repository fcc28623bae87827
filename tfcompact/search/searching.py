"""A search: a controller proposes, a latency table prices, short trainings judge, and the best are judged again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from tfcompact import files
from tfcompact.errors import Busy, UserError
from tfcompact.models import space_network
from tfcompact.models.architecture import Architecture
from tfcompact.models.space import Space
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.prices import Prices
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.space_prices import SpacePrices
from tfcompact.pipeline.target import Target
from tfcompact.records.artifact import Normalization
from tfcompact.search import rewards
from tfcompact.search.controllers import controller
from tfcompact.search.fronts import front
from tfcompact.search.ledger import FACTS, Ledger, Taken, catch_up
from tfcompact.search.one_shot import OneShot, kendall
from tfcompact.search.search_options import Config
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training

BUSY_S = 2.0
"""Seconds until a worker looks again whether another one has finished a training."""


@dataclass(frozen=True)
class Found:
    """A candidate: its architecture, accuracy as a share of validation images, predicted cost, and reward."""

    architecture: Architecture
    accuracy: float
    cost: float
    interpolated: float
    reward: float
    run: str
    seeds: int = 1

    @property
    def name(self) -> str:
        """The name that its runs have."""
        return space_network.from_architecture(self.architecture).name


class Search:
    """A search on a target's images, one worker of it. `target.table` prices, `target.seed` is the controller's.

    Raises `UserError` where there is no table, or the space has nothing that costs about what is asked for.
    """

    def __init__(self, config: Config, target: Target, console: Console) -> None:
        if target.table is None:
            raise UserError("a search asks what networks cost; give a latency table with --table")
        self.config, self.target, self.console = config, target, console
        self.prices = Prices.load(target.table)
        self.reward = rewards.reward(config.reward, config.target_cost, config.weight)
        self.folder = target.runs / "search" / config.study

    @cached_property
    def space(self) -> Space:
        """The space at the target's image size, for its classes."""
        whole = Space.named(self.config.space)
        data = self._images
        px = self.target.px or min(max(64, -(-data.native_px // 32) * 32), max(whole.px))
        return whole.at(px, len(data.classes))

    @cached_property
    def blocks(self) -> SpacePrices:
        """What members cost."""
        digest = hashlib.sha256(self.prices.sha256.encode()).hexdigest()[:8]
        return SpacePrices(self.prices, self.target.runs / "cache" / "blocks" / digest)

    @cached_property
    def ledger(self) -> Ledger:
        """The study, which other workers may share."""
        storage = self.config.storage or str(self.folder.with_suffix(".journal"))
        return Ledger(storage, self.config.study, self.terms, self._counts)

    @property
    def terms(self) -> dict[str, Any]:
        """What all workers of a study agree on."""
        config = self.config
        return {
            "space": hashlib.sha256(json.dumps(self.space.to_json(), sort_keys=True).encode()).hexdigest()[:16],
            "data": self._images.digest[:16],
            "table": self.prices.sha256[:16],
            "unit": self.prices.table.setting.unit,
            "controller": config.controller,
            "seed": self.target.seed,
            "reward": [config.reward, config.target_cost, config.weight],
            "proxy": self._proxy,
        }

    @property
    def _proxy(self) -> list[Any]:
        """How candidates are judged: what a study's accuracies mean."""
        config = self.config
        epochs = config.epochs if config.trainer == "alone" else config.shared_epochs
        return [config.trainer, epochs, config.epoch_images, config.validation_images]

    @cached_property
    def shared(self) -> OneShot:
        """The weights that all members share, trained now unless another worker did."""
        config = self.config
        training = Training(
            epochs=config.shared_epochs, epoch_images=config.epoch_images, validation_images=config.validation_images
        )
        context = Context(
            SimpleNamespace(),
            self._images,
            self.space.px[0],
            Normalization(),
            self.target.seed,
            self.folder,
            self.console,
        )
        name = hashlib.sha256(json.dumps(self.terms, sort_keys=True).encode()).hexdigest()[:8]
        return OneShot(self.space, training, context, self.folder / f"shared-{name}.npz")

    def order(self) -> tuple[float, int] | None:
        """Kendall's tau between shared weights and training alone, and of how many; None where nothing is shared."""
        if self.config.trainer == "alone" or self.config.compared < 2:
            return None
        rng = random.Random(self.target.seed)
        members = [self.space.sample(rng) for _ in range(self.config.compared)]
        shared = [self.shared.accuracy(member) for member in members]
        alone = [self._trained(member, self.target.seed)[0] for member in members]
        return kendall(shared, alone), len(members)

    def run(self) -> list[Found]:
        """Works until all trials are done; then every candidate, the best first, the finalists by all their seeds."""
        self._check_reach()
        proposing = controller(self.config.controller, self._counts, self.target.seed)
        took: list[float] = []
        while True:
            catch_up(self.ledger, proposing, self.reward)
            taken = self.ledger.take(proposing, self.config.trials)
            if taken is None:
                break
            started = time.monotonic()
            self._evaluate(taken, took)
            took.append(time.monotonic() - started)
        return self._finals(self.found())

    def found(self) -> list[Found]:
        """The candidates that are evaluated by now, the best first."""
        rows = [self._of(trial) for trial in self.ledger.done()]
        return sorted(rows, key=lambda row: -row.reward)

    def _of(self, trial: Any) -> Found:
        accuracy, cost = trial.values
        facts = trial.user_attrs[FACTS]
        architecture = self.space.architecture(self.ledger.told(trial, 0.0).choices)
        return Found(architecture, accuracy, cost, facts["interpolated"], self.reward(accuracy, cost), facts["run"])

    def _evaluate(self, taken: Taken, took: Sequence[float]) -> None:
        """One trial: priced, trained, written down."""
        architecture = self.space.architecture(taken.choices)
        try:
            with self.ledger.working(taken):
                cost, interpolated = self.blocks.price(architecture)
                accuracy, run = self._judged(architecture)
        except UserError:  # a candidate that cannot be priced or trained is a fault, not a bad candidate
            self.ledger.fail(taken)
            raise
        self.ledger.finish(taken, accuracy, cost, {"run": run, "interpolated": round(interpolated, 4)})
        done = len(self.ledger.done())
        left = statistics.median([*took, 0][-20:]) * (self.config.trials - done) / 60 if took else None
        told = "" if left is None else f", about {left:.0f} min left"
        unit = self.prices.table.setting.unit
        self._log(
            f"{done} of {self.config.trials}: {accuracy:.1%}, {cost:.4g} {unit}, reward "
            f"{self.reward(accuracy, cost):.4f}{told}"
        )

    def _judged(self, architecture: Architecture) -> tuple[float, str]:
        """The accuracy of a candidate, and the run that it is of; there is none where weights are shared."""
        if self.config.trainer == "oneshot":
            return self.shared.accuracy(architecture), ""
        return self._trained(architecture, self.target.seed)

    def _trained(self, architecture: Architecture, seed: int) -> tuple[float, str]:
        """The validation accuracy of a candidate after its short training, an ordinary run, and the run's name."""
        network = space_network.from_architecture(architecture)
        file = self.folder / "architectures" / network.name / "net.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(file, architecture.to_json())
        target = dataclasses.replace(self.target, model=str(file), px=architecture.px, seed=seed)
        pipeline = Pipeline(target, Console(quiet=True))
        config = self.config
        options = {
            "epochs": config.epochs,
            "epoch_images": config.epoch_images,
            "validation_images": config.validation_images,
        }
        while True:
            try:
                run = pipeline.run(configured("fit", options))
                break
            except Busy:  # finalists, and those to compare with, are every worker's
                time.sleep(BUSY_S)
        return float(run.notes["validation_accuracy"]), f"{run.model}/{run.name}"

    def _finals(self, found: list[Found]) -> list[Found]:
        """The candidates, the first of them judged by the mean over further seeds: the best of many was lucky."""
        first, rest = found[: self.config.finalists], found[self.config.finalists :]
        again = []
        for row in first:
            seeds = range(self.target.seed, self.target.seed + 1 + self.config.finalist_seeds)
            accuracies = [self._trained(row.architecture, seed)[0] for seed in seeds]  # the first is there, if alone
            mean = statistics.mean(accuracies)
            again.append(
                dataclasses.replace(row, accuracy=mean, reward=self.reward(mean, row.cost), seeds=len(accuracies))
            )
        return [*sorted(again, key=lambda row: -row.reward), *rest]

    def _check_reach(self) -> None:
        """Raises `UserError` where what is smallest costs more than twice the target: nothing would be near it."""
        cheapest = self.space.architecture(self._smallest())
        cost, _ = self.blocks.price(cheapest)
        unit = self.prices.table.setting.unit
        if cost > 2 * self.config.target_cost:
            raise UserError(
                f"the smallest network of {self.config.space} costs {cost:.4g} {unit} at {self.space.px[0]} px, far "
                f"above {self.config.target_cost:g}; give a smaller --px, a narrower space, or a larger --target-cost"
            )
        self._log(f"from {cost:.4g} {unit} on; {self.config.target_cost:g} asked for")

    def _smallest(self) -> tuple[int, ...]:
        """The choices with the least of everything that is a number, and no gates."""
        found = []
        for _, options in self.space.decisions:
            numbers = [float(option) if isinstance(option, int | float) else 0.0 for option in options]
            found.append(numbers.index(min(numbers)))
        return tuple(found)

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        return tuple(len(options) for _, options in self.space.decisions)

    @cached_property
    def _images(self) -> Any:
        return Pipeline(dataclasses.replace(self.target, model="mobilenet_v2"), self.console).images()

    def _log(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)


def best(found: Sequence[Found]) -> list[Found]:
    """Those that no other one beats in accuracy and cost, by rising cost."""
    return [found[i] for i in front([(row.accuracy, row.cost) for row in found])]
