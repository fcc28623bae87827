"""From images and a budget to a file: prices, halving, quantization-aware training, export, a measurement."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Console

from tfcompact.choice import halving
from tfcompact.choice.halving import Result
from tfcompact.choice.offers import Offer, of_searches, of_the_zoo, varied
from tfcompact.choice.pricing import Priced, Pricer, beside, priced
from tfcompact.errors import UserError
from tfcompact.measure import any_device, emulation, host
from tfcompact.options import opt, require
from tfcompact.pipeline import starting
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured, load_recipe
from tfcompact.pipeline.target import Target
from tfcompact.runs import store

FORMATS = ("uint8", "int8", "float32")
OTHER_BUDGETS = (0.5, 2.0)
"""Times the budget for which the page says what there would be."""
TRAINING_SHARE = 0.7
"""The share of the minutes that candidates are trained in; the rest is for rounding the winner."""


@dataclass(frozen=True)
class Config:
    """How a choice goes."""

    budget: float = opt(0.0, "what one inference may cost: ms, or the unit of --table")
    minutes: float = opt(60.0, "minutes for training; what was begun is finished")
    candidates: int = opt(9, "networks that are trained, the most promising within the budget")
    rungs: tuple[int, ...] = opt((1, 3, 9), "epochs of each rung; a third of the networks goes on to the next")
    epoch_images: int = opt(5000, "training images in an epoch, others in every epoch; 0 for all")
    qat_epochs: int = opt(2, "epochs of quantization-aware training of the winner")
    extend: bool = opt(False, "measure what the table lacks, where its device is this computer or an emulated one")

    def __post_init__(self) -> None:
        require(self.budget > 0, "budget", self.budget, "positive")
        require(self.minutes > 0, "minutes", self.minutes, "positive")
        require(self.candidates >= 1, "candidates", self.candidates, "1 or more")
        rising = bool(self.rungs) and list(self.rungs) == sorted(set(self.rungs)) and self.rungs[0] >= 1
        require(rising, "rungs", self.rungs, "rising numbers of epochs")
        for name in ("epoch_images", "qat_epochs"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


@dataclass(frozen=True)
class Outcome:
    """What was chosen, from what, and why. `measured` is the cost of the file, in the unit of the table, if known."""

    budget: float
    unit: str
    device: str
    images: str
    priced: tuple[Priced, ...]
    refused: tuple[str, ...]
    results: tuple[Result[Priced], ...]
    chosen: Priced
    export: store.Run
    accuracy: float | None
    measured: float | None


class Choice:
    """A choice on a target's images; `target.model` is not asked for, `target.table` prices, if there is one."""

    def __init__(self, config: Config, target: Target, console: Console) -> None:
        self.config, self.target, self.console = config, target, console
        self._failed: list[str] = []

    def run(self) -> Outcome:
        """Prices, trains, and makes the file. Raises `UserError` where nothing is within the budget."""
        config, data = self.config, self._images
        offers = [*of_searches(self.target.runs), *of_the_zoo(data.native_px)]
        if self.target.px:
            offers = [offer for offer in offers if offer.px == self.target.px]
        found, refused = priced(offers, self.pricer.price, config.budget, self._log)
        inside = self._inside(found, refused)
        for times in OTHER_BUDGETS:
            found += beside(offers, found, self.pricer.price, times * config.budget)
        self.console.rule("[bold]training[/]", align="left")
        results = halving.halved(inside, config.rungs, self._trained, TRAINING_SHARE * config.minutes)
        if not results:
            raise UserError(f"no candidate could be trained; the first: {self._failed[0]}")
        chosen = results[0].candidate
        export = self._exported(chosen, results[0].epochs)
        accuracy, measured = self._measured(chosen, export)
        setting = self.pricer.table.setting
        return Outcome(
            config.budget,
            setting.unit,
            setting.device.name,
            data.name,
            tuple(found),
            (*refused, *self._failed),
            tuple(results),
            chosen,
            export,
            accuracy,
            measured,
        )

    @cached_property
    def pricer(self) -> Pricer:
        """What prices, by the user's table or this computer's."""
        runs = self.target.runs
        return Pricer(
            self.target.table,
            runs / "tables",
            (self.target.cache or runs / "cache") / "int8",
            len(self._images.classes),
            self._log,
            extend=self.config.extend,
        )

    def _inside(self, found: list[Priced], refused: list[str]) -> list[Priced]:
        """The candidates to train, the most promising first."""
        if not found:
            raise UserError(f"no network could be priced; the first: {refused[0] if refused else 'there is none'}")
        inside = [one for one in found if one.cost <= self.config.budget]
        if not inside:
            least = min(found, key=lambda one: one.cost)
            raise UserError(
                f"nothing costs {self.config.budget:g} {self.pricer.unit} or less; the cheapest is "
                f"{least.offer.label} with {least.cost:.4g}"
            )
        inside.sort(key=lambda one: (-one.offer.prior, one.cost))
        wanted = varied([one.offer for one in inside], self.config.candidates)
        return [one for one in inside if one.offer in wanted]

    def _trained(self, candidate: Priced, epochs: int) -> float | None:
        """The validation accuracy of a candidate after that many epochs; None for one that fails, which is told."""
        try:
            run = self._fit(candidate, epochs)
        except UserError as error:
            self._failed.append(f"{candidate.offer.label}: {error}")
            self._log(f"failed: {self._failed[-1]}")
            return None
        accuracy = float(run.notes["validation_accuracy"])
        self._log(f"{candidate.offer.label}: {accuracy:.1%} after {epochs} epochs")
        return accuracy

    def _fit(self, candidate: Priced, epochs: int) -> store.Run:
        pipeline = self._pipeline(candidate.offer)
        start = starting.decided(pipeline.spec, pipeline.subject.source(None), None, _pretrained)
        options: dict[str, Any] = dict(load_recipe(start.recipe)[0].options)
        options |= {"epochs": epochs, "epoch_images": self.config.epoch_images, "weights": start.weights}
        return pipeline.run(configured("fit", options), None, start)

    def _exported(self, chosen: Priced, epochs: int) -> store.Run:
        """The winner's files, after quantization-aware training."""
        self.console.rule(f"[bold]{chosen.offer.label}[/]", align="left")
        pipeline = self._pipeline(chosen.offer)
        fit = self._fit(chosen, epochs)
        options = {"epochs": self.config.qat_epochs, "epoch_images": self.config.epoch_images}
        quantized = pipeline.run(configured("quantize", options), fit.name)
        return pipeline.export(configured("export", {"formats": FORMATS}), quantized.name)

    def _measured(self, chosen: Priced, export: store.Run) -> tuple[float | None, float | None]:
        """Test accuracy of the file, and its cost on the device of the table where that is at hand."""
        pipeline = self._pipeline(chosen.offer)
        kind = self.pricer.table.setting.device.kind
        rows = pipeline.measure(host.Config(formats=FORMATS[:1]), export.name).rows
        accuracy = rows[0].accuracy.top1 if rows and rows[0].accuracy else None
        if kind == "host":
            return accuracy, rows[0].percentile_ms(50) if rows else None
        if kind != "emulated":
            return accuracy, None
        cpu = self.pricer.table.setting.device.name.removeprefix("arm64-").removesuffix("-insn")
        try:
            config = emulation.Config(cpu=cpu, formats=FORMATS[:1])
            counted = any_device.measure_run(export, self.target.runs, config, log=self._log).rows
        except UserError as error:
            self._log(f"not counted: {error}")
            return accuracy, None
        count = counted[0].instructions
        return accuracy, None if count is None else float(count)

    def _pipeline(self, offer: Offer) -> Pipeline:
        return Pipeline(dataclasses.replace(self.target, model=offer.model, px=offer.px), self.console)

    @cached_property
    def _images(self) -> Any:
        return Pipeline(dataclasses.replace(self.target, model="mobilenet_v2", px=None), self.console).images()

    def _log(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)


def _pretrained(spec: Any, name: str) -> Any:
    """The weights of that name; Keras' own are left out, whose download may take long."""
    from tfcompact.weights import pretrained

    return pretrained.find(spec, name)
