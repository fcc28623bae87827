"""Runs a plan row by row, as ordinary runs, which are found again; a row that fails says why and the others go on."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from tfcompact import files, stages
from tfcompact.comparison.comparison_plan import TEACHER, Plan, Row, Step
from tfcompact.comparison.row_result import RowResult
from tfcompact.errors import UserError
from tfcompact.measure import any_device, emulation, host
from tfcompact.measure.accuracy import accuracy_of
from tfcompact.measure.backends.arm_processors import PROCESSORS
from tfcompact.measure.backends.instruction_proxy import EMULATOR
from tfcompact.pipeline.measuring import images_to_test
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured, load_recipe
from tfcompact.pipeline.starting import FROM_WEIGHTS, IMAGENET
from tfcompact.pipeline.target import Target
from tfcompact.records.formats import INTEGER, ORIGINAL
from tfcompact.runs import lineage, store
from tfcompact.runs.scan import read_json
from tfcompact.tflite import runtime

VERSION = 1
"""Of what is kept of a row: part of its name, so that another way of judging never takes over an old figure."""
LONGEST = 500  # characters of a reason
QUICK_S = 5.0  # a row that took less was there already, and says nothing of how long others take


@dataclass(frozen=True)
class Comparison:
    """A plan on a target. `seeds` follow the target's; `processors` are emulated ones whose instructions are counted.

    `base` is a finished run that stands for every first step called `base`, where the network is trained already.
    """

    plan: Plan
    target: Target
    console: Console
    seeds: int = 1
    processors: tuple[str, ...] = ()
    test_images: int | None = None
    base: str | None = None

    def results(self) -> list[RowResult]:
        """Every row with every seed, in the plan's order, those of one seed after the other; then their times."""
        found: list[RowResult] = []
        tasks = [
            (seed, row) for seed in range(self.target.seed, self.target.seed + self.seeds) for row in self.plan.rows
        ]
        took: list[float] = []
        for number, (seed, row) in enumerate(tasks, 1):
            left = sum(took) / len(took) * (len(tasks) - number + 1) / 60 if took else None
            told = "" if left is None else f", about {left:.0f} min left"
            of_seed = f", seed {seed}" if self.seeds > 1 else ""
            title = escape(f"{number} of {len(tasks)}: {row.name}{of_seed}")
            self.console.rule(f"[bold]{title}[/]{told}", align="left")
            started = time.monotonic()
            found.append(self.result(row, seed))
            if (seconds := time.monotonic() - started) > QUICK_S:
                took.append(seconds)
        return self._timed(found)

    @property
    def images_text(self) -> str:
        """What the images are, for a title: `photos at 64 px`."""
        pipeline = self._pipeline(None, 1, self.target.seed)
        return f"{pipeline.images().name} at {pipeline.subject.px(None)} px"

    def result(self, row: Row, seed: int) -> RowResult:
        """One row with one seed, without its time. What fails is in its `error`."""
        try:
            exported = self._exported(row, seed)
            return self._judged(row, seed, exported)
        except UserError as error:
            reason = str(error)
        except Exception as error:  # out of memory, or a fault of ours: it is told whole, and the other rows go on
            self.console.print_exception()
            reason = f"{type(error).__name__}: {error}"
        self._log(f"failed: {reason}")
        return RowResult(row.name, row.kind, seed, row.plain, error=" ".join(reason.split())[:LONGEST])

    def _exported(self, row: Row, seed: int) -> store.Run:
        """The export run at the end of a row's chain."""
        pipeline = self._pipeline(row.model, row.px, seed)
        run = self._chain(row, seed)
        formats = tuple(dict.fromkeys((ORIGINAL, row.ships)))
        config = configured("export", {**self.plan.export, "formats": formats})
        exported = pipeline.export(config, run.name)
        if missing := [format for format in formats if format not in [a.format for a in exported.artifacts]]:
            raise UserError(f"no {missing[0]} file could be made: {exported.notes['refused'].get(missing[0])}")
        return exported

    def _chain(self, row: Row, seed: int) -> store.Run:
        """The run at the end of a row's stages."""
        pipeline = self._pipeline(row.model, row.px, seed)
        run: store.Run | None = None
        for step in row.steps:
            if run is None and step.id == "base" and self.base and row.model is None and row.px == 1:
                run = store.find(self.target.runs, pipeline.spec.name, self.base)
                continue
            run = pipeline.run(configured(step.stage, self._options(step), step.id), run.name if run else None)
        assert run is not None
        return run

    def _options(self, step: Step) -> dict[str, Any]:
        """The step's options, with the teacher's run in its place."""
        return {name: self._teacher() if value == TEACHER else value for name, value in step.options.items()}

    def _teacher(self) -> str:
        """The run of the plan's teacher, which all seeds have in common: `efficientnet_lite0/fit-3f9a10c2`."""
        row = self.plan.teacher
        assert row is not None
        pipeline = self._pipeline(row.model, row.px, self.target.seed)
        run: store.Run | None = None
        for step in row.steps:
            options = dict(step.options)
            if run is None and stages.stage(step.stage).starts_new:
                options = self._from_imagenet(pipeline) | options
            run = pipeline.run(configured(step.stage, options, step.id), run.name if run else None)
        assert run is not None
        return f"{run.model}/{run.name}"

    def _from_imagenet(self, pipeline: Pipeline) -> dict[str, Any]:
        """The options of a training that starts from ImageNet's weights; none where there are no such weights."""
        from tfcompact.weights import pretrained

        try:
            pretrained.find(pipeline.spec, IMAGENET)
        except UserError as error:
            self._log(f"the teacher is trained from scratch: {error}")
            return {}
        return dict(load_recipe(FROM_WEIGHTS)[0].options)

    def _judged(self, row: Row, seed: int, exported: store.Run) -> RowResult:
        """What is known of an export, from where it was kept, or found out now and kept."""
        pipeline = self._pipeline(row.model, row.px, seed)
        kept = self._kept(exported)
        try:
            known = RowResult.from_json(read_json(kept))
        except (OSError, UserError, TypeError, AttributeError):  # not there, or damaged: it can be found out again
            known = self._found_out(row, seed, exported, pipeline)
        known = replace(known, row=row.name, kind=row.kind, plain=row.plain, seed=seed)
        lacking = [] if seed > self.target.seed else [p for p in self.processors if p not in known.instructions]
        for processor in lacking:
            if (count := self._instructions(exported, row.ships, processor)) is not None:
                known = replace(known, instructions={**known.instructions, processor: count})
        files.write_json(kept, known.to_json())
        return known

    def _instructions(self, exported: store.Run, format: str, processor: str) -> int | None:
        """What one inference takes on an emulated processor; None where it could not be counted, which is told."""
        config = emulation.Config(cpu=processor, formats=(format,))
        try:
            return any_device.measure_run(exported, self.target.runs, config, log=self._log).rows[0].instructions
        except UserError as error:
            self._log(f"no instructions of {processor}: {error}")
            return None

    def _found_out(self, row: Row, seed: int, exported: store.Run, pipeline: Pipeline) -> RowResult:
        from tfcompact.networks import rewrite
        from tfcompact.networks.costs import FLOAT32, INT8
        from tfcompact.networks.operators import profile

        source = lineage.float_source(exported)
        network = rewrite.inference(pipeline.load(source))
        cost = rewrite.cost(network)
        precision = INT8 if row.ships in INTEGER else FLOAT32
        test = images_to_test(pipeline.subject, exported).first(self.test_images)
        paths = {artifact.format: exported.path / artifact.path for artifact in exported.artifacts}
        accuracies = {
            format: accuracy_of(runtime.LiteModel(paths[format], threads=os.cpu_count() or 1), test)
            for format in dict.fromkeys((ORIGINAL, row.ships))
        }
        content = paths[row.ships].read_bytes()
        return RowResult(
            row=row.name,
            kind=row.kind,
            seed=seed,
            plain=row.plain,
            model=exported.model,
            px=exported.px,
            ships=row.ships,
            run=exported.name,
            parameters=cost.trainable,
            macs=cost.macs,
            float_accuracy=accuracies[ORIGINAL].top1,
            accuracy=accuracies[row.ships].top1,
            images=accuracies[row.ships].images,
            bytes=len(content),
            zipped_bytes=len(zlib.compress(content, 9)),
            energy_uj=profile(network, precision).total.energy_pj / 1e6,
            minutes=sum(run.provenance["seconds"] for run in exported.chain) / 60,
        )

    def _timed(self, found: Sequence[RowResult]) -> list[RowResult]:
        """The results of the first seed with their times, all taken in turns."""
        first = [result for result in found if not result.error and result.seed == self.target.seed]
        subjects = []
        for result in first:
            run = store.find(self.target.runs, result.model, result.run)
            (artifact,) = (a for a in run.artifacts if a.format == result.ships)
            subjects.append(host.Subject(run.path / artifact.path, artifact))
        if not subjects:
            return list(found)
        self._log(f"times {len(subjects)} files in turns")
        rows = host.measure_interleaved(subjects)
        ms = {result.row: row.percentile_ms(50) for result, row in zip(first, rows, strict=True)}
        return [
            replace(result, ms=ms.get(result.row)) if result.seed == self.target.seed else result for result in found
        ]

    def _kept(self, exported: store.Run) -> Path:
        judged = f"{VERSION}-{exported.name}-{self.test_images}"
        name = hashlib.sha256(judged.encode()).hexdigest()[:8]
        folder = self.target.runs / "report" / "compress" / exported.model / "rows"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{exported.name}-{name}.json"

    def _pipeline(self, model: str | None, px: float, seed: int) -> Pipeline:
        return self._opened(model or self.target.model, px, seed)

    @functools.cached_property
    def _target(self) -> Target:
        """The target, on the images of the finished run that stands for the base: all rows see what it saw."""
        if self.base is None:
            return self.target
        run = store.find(self.target.runs, Pipeline(self.target).spec.name, self.base)
        source = self.target.data or str(run.provenance["data"]["source"])
        return replace(self.target, data=source, px=self.target.px or run.px)

    @functools.cached_property
    def _opened(self) -> Callable[[str, float, int], Pipeline]:
        @functools.cache
        def opened(model: str, px: float, seed: int) -> Pipeline:
            target = replace(self._target, model=model, seed=seed)
            if px != 1:
                whole = Pipeline(target, Console(quiet=True)).subject.px(None)
                target = replace(target, px=round(whole * px))
            return Pipeline(target, self.console)

        return opened

    def _log(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)


def emulated(console: Console) -> tuple[str, ...]:
    """The processors that can be emulated here, none where QEMU is not there; the user is told which."""
    if shutil.which(EMULATOR) is None:
        console.print("no instructions are counted: apt-get install qemu-user", highlight=False)
        return ()
    return tuple(PROCESSORS)
