"""Loads a parent run, runs a stage, saves the result: every face (command line, Python, make) goes through here.

A stage asked for again with the same parent, options, data and seed is not run again: its finished run is returned.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tfcompact import files, models, stages
from tfcompact.data.imageset import ImageSet
from tfcompact.errors import UserError
from tfcompact.export import gate
from tfcompact.frameworks import keras
from tfcompact.measure import any_device
from tfcompact.measure.measurer import Measured
from tfcompact.pipeline import exporting, measuring, starting, steps
from tfcompact.pipeline.identity import about, inputs_of, recorded
from tfcompact.pipeline.prices import Prices
from tfcompact.pipeline.recipe import configured_steps, load_recipe
from tfcompact.pipeline.starting import Start
from tfcompact.pipeline.subject import Subject, summary
from tfcompact.pipeline.target import Target
from tfcompact.records.artifact import Normalization
from tfcompact.runs import lineage, store
from tfcompact.stages.contract import Stage
from tfcompact.training import strategy
from tfcompact.training.context import Context, Loaded


class Pipeline:
    """One target, its data opened once. `console` gets the progress; nothing is printed where it is quiet."""

    def __init__(self, target: Target, console: Console | None = None) -> None:
        self.target = target
        self.console = console if console and strategy.workers().chief else Console(quiet=True)
        self.subject = Subject(target, self.console)
        self.spec = self.subject.spec

    def run(self, config: Any, parent: str | None = None, start: Start | None = None) -> store.Run:
        """The finished run of the stage whose config this is, made now unless it is there.

        `parent` is a run's name; by default the newest that gives what the stage takes. `start` is recorded, where it
        was decided what to start from. Raises `UserError` for a config that is no stage's, unusable data, and where
        there is no parent.
        """
        name, stage = stages.stage_of(config)
        self._meet()
        if reason := self._left_out(stage):
            raise UserError(reason)
        before = self._parent(name, stage, parent)
        data, px = self.images(before), self.subject.px(before)
        weights = self._weights(stage.weights(config), before)
        seen = weights.normalization if weights else before.normalization if before else Normalization()
        normalization = stage.normalization(seen)
        inputs = inputs_of(name, stage.version, config, before, data, px, self.target.seed)
        inputs["normalization"] = normalization.to_json()
        if weights:
            inputs["weights"] = {"from": weights.label, "sha256": weights.sha256}
        if loads := {asked: self._find(asked).name for asked in stage.loads(config)}:
            inputs["loads"] = loads
        if prices := stage.prices(config):
            inputs["table"] = self._table.identity

        facts = {
            "gives": stage.gives,
            "summary": stage.summary(config),
            "data": about(data, self.subject.source(before)),
            "workers": len(strategy.workers().addresses),
        }
        if start:
            facts["start"] = start.facts

        def make(directory: Path) -> None:
            self.log(summary(data))
            context = Context(
                spec=self.spec,
                data=data,
                px=px,
                normalization=normalization,
                seed=self.target.seed,
                directory=directory,
                console=self.console,
                load=self._loaded,
                **(self._table.doors if prices else {}),
            )
            keep = steps.keeper(self.target.runs, inputs, facts, context, self.load, _save)
            result, notes = self._made(stage, config, replace(context, keep=keep), before, weights, seen)
            _save(result, directory / "model.h5")
            files.write_json(directory / "notes.json", notes)

        return recorded(self.target.runs, self.spec, inputs, facts, make, self.console)

    def export(self, config: gate.Config | None = None, parent: str | None = None) -> store.Run:
        """The finished run with the exported files, their `artifacts.json`, labels, model card and sample images.

        Integer files come from a quantized run, float ones from the float network behind it. A format that does not
        pass the gate is left out, and why is in the notes; where it is the first one, `RejectedArtifact` is raised
        and nothing is written.
        """
        before = self._exportable(parent)
        config = exporting.allowed(before, config, self.log)
        data = self.images(before)
        inputs = inputs_of("export", exporting.VERSION, config, before, data, before.px, self.target.seed)
        facts = {"data": about(data, self.subject.source(before))}
        made = exporting.Export(before, self.spec, config, data, self.load, self.log)
        return recorded(self.target.runs, self.spec, inputs, facts, made.write, self.console, alone=True)

    def measure(self, config: any_device.Config | None = None, parent: str | None = None) -> Measured:
        """What `measuring.measured` gives: rows of the newest export, or of `parent`, and what failed."""
        return measuring.measured(self.subject, config, parent, self.log)

    def train(
        self,
        recipe: str = starting.AUTO,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        first: Mapping[str, Any] | None = None,
    ) -> store.Run:
        """The export run at the end of a recipe: its steps, export, and measurements on this machine.

        The recipe `auto` is `finetune` where ImageNet's weights can be had for photographs, else `default`; the log
        says which and why. Of several workers only the chief exports and measures; the others return the run of the
        last step. `overrides` are options by the steps' ids: `{"fit": {"epochs": 30}}`, `first` those of the first
        step, whose weights may be `none`. Raises `UnknownName` for a recipe, step or option there is none of.
        """
        changed: dict[str, Mapping[str, Any]] = dict(overrides or {})
        id = load_recipe(starting.FROM_SCRATCH if recipe == starting.AUTO else recipe)[0].id
        options, start = dict(changed.get(id, {})) | dict(first or {}), None
        if recipe == starting.AUTO:
            start = self._start(options.get("weights"))
            recipe, options["weights"] = start.recipe, start.weights
        elif options.get("weights") == starting.NONE:
            options["weights"] = None
        if options:
            changed[id] = options
        *steps, (_, export_config), (_, measure_config) = configured_steps(recipe, changed)
        parent: store.Run | None = None
        for step, config in steps:
            if reason := self._left_out(stages.stage(step.stage)):
                self.log(f"{step.id} is left out: {reason}")
                continue
            self.console.rule(f"[bold]{step.id}[/]", align="left")
            parent = self.run(config, parent.name, None) if parent else self.run(config, None, start)
        if not strategy.workers().chief:  # the rest is done once, by the chief
            assert parent is not None
            return parent
        self.console.rule("[bold]export[/]", align="left")
        exported = self.export(export_config, parent.name if parent else None)
        self.console.rule("[bold]measure[/]", align="left")
        self.measure(measure_config, exported.name)
        return exported

    def load(self, run: store.Run | str) -> Any:
        """The Keras model of a finished run of this network, or of the one called `name`, `model/name` of another."""
        from tfcompact.weights import saved

        found = self._find(run) if isinstance(run, str) else run
        return saved.of_run(found)

    def images(self, run: store.Run | None = None) -> ImageSet:
        """The images asked for, else those of the run. Raises `UserError` where their classes differ from its."""
        return self.subject.images(run)

    def log(self, line: str) -> None:
        """Tells the user one line."""
        self.console.print(line, highlight=False, markup=False)

    def _made(
        self,
        stage: Stage[Any],
        config: Any,
        context: Context,
        before: store.Run | None,
        weights: Any,
        seen: Normalization,
    ) -> tuple[Any, dict[str, Any]]:
        """What the stage makes of its network: the parent's, or a new one with the weights it is to start from."""
        keras.utils.set_random_seed(self.target.seed)
        with strategy.strategy().scope():
            if before:
                model = self.load(before)
            else:
                model = models.built(self.spec, px=context.px, classes=len(context.data.classes), aux=True)
            if weights:
                model = weights.start(model, context.data.classes)
                kept = "its head too" if weights.keeps_head(context.data.classes) else "with a new head"
                self.log(f"starts from {weights.label}, {kept}")
            if not seen.uniform and context.normalization.uniform:
                from tfcompact.compress.quantization.lowering import renormalized

                model = renormalized(model, seen, context.normalization)
            made: tuple[Any, dict[str, Any]] = stage.run(model, config, context)
            return made

    def _start(self, weights: str | None) -> starting.Start:
        """Where a training starts from; the user is told, and where the same command did otherwise before."""
        data = self.images()  # before anything is fetched or said: there may be none
        start = starting.decided(self.spec, self.subject.source(None), weights, self._pretrained)
        self.log(start.line)
        earlier = starting.otherwise(store.finished(self.target.runs, self.spec.name), start, data.digest)
        if weights is None and earlier:
            self.log(earlier)
        return start

    @staticmethod
    def _pretrained(spec: models.Spec, name: str) -> Any:
        """The weights of that name."""
        from tfcompact.weights import pretrained

        return pretrained.find(spec, name)

    def _meet(self) -> None:
        """Waits for the other workers, if there are any: TensorFlow wants that before anything else."""
        if strategy.workers().several:
            self.log(f"waits for {len(strategy.workers().addresses)} workers")
            strategy.strategy()

    def _left_out(self, stage: Stage[Any]) -> str | None:
        """Why this network cannot go through the stage; None where it can."""
        if stage.gives == "quantized" and self.spec.float_only:
            return f"{self.spec.name} {self.spec.float_only}"
        return None

    def _parent(self, name: str, stage: Stage[Any], asked: str | None) -> store.Run | None:
        """The run to start from, None for a stage that starts from a new network."""
        kinds = " or a ".join(stage.takes)
        if asked is not None:
            found = self._find(asked)
            kind = lineage.network(found)
            if kind not in stage.takes:
                holds = f"a {kind} network" if kind else "files, not a network"
                giving = " or ".join(stages.giving(taken) for taken in stage.takes)
                raise UserError(f"{asked} holds {holds}; {name} takes a {kinds} one, which {giving} makes")
            return found
        if stage.starts_new:
            return None
        run = store.newest(
            self.target.runs,
            self.spec.name,
            lambda run: lineage.network(run) in stage.takes and run.stage != name and lineage.is_result(run),
        )
        if run is None:
            raise UserError(
                f"no finished run of {self.spec.name} under {self.target.runs} holds a {kinds} network, which {name} "
                f"takes; try: make {stages.first()} MODEL={self.spec.name}"
            )
        return run

    def _exportable(self, asked: str | None) -> store.Run:
        """The run to export: the one asked for, else the newest that holds a network."""
        if asked is not None:
            run = self._find(asked)
            if lineage.network(run) is None:
                raise UserError(f"{asked} holds files, not a network; give the run that they were made of")
            return run
        newest = store.newest(self.target.runs, self.spec.name, lineage.holds_result)
        if newest is None:
            raise UserError(
                f"no finished run of {self.spec.name} under {self.target.runs} holds a network; "
                f"try: make {stages.first()} MODEL={self.spec.name}"
            )
        return newest

    def _find(self, name: str) -> store.Run:
        """The finished run called `name`, of this network, or `model/name` of another."""
        model, _, own = name.rpartition("/")
        return store.find(self.target.runs, model or self.spec.name, own)

    def _loaded(self, name: str) -> Loaded:
        """Another run's network, with what it must be fed with."""
        run = self._find(name)
        return Loaded(f"{run.model}/{run.name}", self.load(run), run.px, run.normalization, run.classes)

    def _weights(self, name: str | None, before: store.Run | None) -> Any:
        """The weights asked for, None where a training starts from random ones or from another run."""
        if name is None:
            return None
        if before:
            raise UserError(f"give --parent {before.name} or --weights {name}, not both")
        return self._pretrained(self.spec, name)

    @functools.cached_property
    def _table(self) -> Prices:
        """The latency table that prices networks. Raises `UserError` where none was given."""
        if self.target.table is None:
            raise UserError("this stage asks what networks cost; give a latency table with --table")
        return Prices.load(self.target.table)


def _save(model: Any, path: Path) -> None:
    from tfcompact.weights import saved

    saved.save(model, path)
