"""Loads a parent run, runs a stage, saves the result: every face (command line, Python, make) goes through here.

A stage asked for again with the same parent, options, data and seed is not run again: its finished run is returned.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tfcompact import files, models
from tfcompact.data import absolute, open_images
from tfcompact.errors import RejectedArtifact, UserError
from tfcompact.export import gate, model_card, verified_file
from tfcompact.frameworks import keras, tf
from tfcompact.measure import host
from tfcompact.measure.android import fleet
from tfcompact.networks import rewrite
from tfcompact.pipeline.recipe import configured_steps, stage_named
from tfcompact.pipeline.target import Target
from tfcompact.records import formats
from tfcompact.records.artifact import Normalization
from tfcompact.records.measurement import Measurement
from tfcompact.runs import lineage, measurements, store
from tfcompact.training.context import Context


class Pipeline:
    """One target, its data opened once. `console` gets the progress; nothing is printed where it is quiet."""

    def __init__(self, target: Target, console: Console | None = None) -> None:
        self.target = target
        self.spec = models.spec(target.model)
        self.console = console or Console(quiet=True)

    def run(self, name: str, config: Any = None, parent: str | None = None) -> store.Run:
        """The finished run of stage `name` (`fit`, `quantize`), made now unless it is there.

        `config` is the stage's `Config`; `parent` a run's name, else the newest that feeds the stage. Raises
        `UserError` for unknown names, unusable data, and where no parent is there.
        """
        module = stage_named(name)
        config = config or module.Config()
        if name == "quantize" and self.spec.float_only:
            raise UserError(f"{self.spec.name} {self.spec.float_only}")
        before = self._parent(module.FROM, parent)
        data, px = self._data(before), self._px(before)
        start = self._start(config, before)
        seen = start.normalization if start else self._normalization(before)  # by the network as it comes
        normalization = seen
        if name == "quantize":
            from tfcompact.compress.quantization.pixel_grid import on_grid

            normalization = on_grid(seen)
        inputs = {
            "parent": before.name if before else None,
            "stage": name,
            "config": dataclasses.asdict(config),
            "data": data.digest,
            "px": px,
            "normalization": normalization.to_json(),
            "seed": self.target.seed,
        }
        if start:
            inputs["weights"] = {"from": start.label, "sha256": start.sha256}

        def make(directory: Path) -> None:
            context = Context(
                spec=self.spec,
                data=data,
                px=px,
                normalization=normalization,
                seed=self.target.seed,
                directory=directory,
                console=self.console,
                load=self.load,
            )
            keras.utils.set_random_seed(self.target.seed)
            with _strategy().scope():
                model = self._network(before, px, len(data.classes))
                if start:
                    model = start.start(model, data.classes)
                    kept = "its head too" if start.keeps_head(data.classes) else "with a new head"
                    self.console.print(f"starts from {start.label}, {kept}", highlight=False, markup=False)
                if not seen.uniform and normalization.uniform:
                    from tfcompact.compress.quantization.lowering import renormalized

                    model = renormalized(model, seen, normalization)
                result, notes = module.run(model, config, context)
            from tfcompact.weights import saved

            saved.save(result, directory / "model.h5")
            files.write_json(directory / "notes.json", notes)

        return self._record(name, inputs, data, make)

    def export(self, config: gate.Config | None = None, parent: str | None = None) -> store.Run:
        """The finished run with the exported files, their `artifacts.json`, labels, model card and sample images.

        Integer files come from the quantized run, float ones from the fit run before it. A format that does not pass
        the gate is left out, and why is in the notes; where it is the first one, `RejectedArtifact` is raised and
        nothing is written.
        """
        before = self._parent(("quantize", "fit"), parent)
        integer = before.stage == "quantize"
        config = config or gate.Config()
        if config.formats == formats.USUAL and not integer:  # all that this run allows
            config = dataclasses.replace(config, formats=tuple(f for f in formats.USUAL if f not in formats.INTEGER))
            self.console.print(
                f"{before.name} is the newest run and not quantized: float files only", highlight=False
            )
        if not integer and set(config.formats) & set(formats.INTEGER):
            raise UserError(
                f"{before.name} is not quantized, so it has no {' or '.join(formats.INTEGER)} file; "
                f"try: make quantize MODEL={self.spec.name}"
            )
        data, px = self._data(before), self._px(before)
        inputs = {
            "parent": before.name,
            "stage": "export",
            "config": dataclasses.asdict(config) | {"formats": list(config.formats)},
            "data": data.digest,
            "px": px,
            "seed": self.target.seed,
        }

        def make(directory: Path) -> None:
            images, labels = data.arrays("validation", px=px, limit=config.images)
            calibration, _ = data.arrays("train", px=px, limit=8)
            evidence = gate.Evidence(images, labels, calibration)
            fit = lineage.float_source(before)
            network = rewrite.inference(self.load(fit.name))
            source = self._source(fit, network, network)
            sources = dict.fromkeys((*formats.USUAL, "int16x8"), source)
            judged = dict.fromkeys(sources, evidence)
            if "int16x8" in config.formats:  # what these images give are its ranges
                observed, _ = data.arrays("train", px=px, limit=gate.OBSERVED_IMAGES)
                judged["int16x8"] = gate.Evidence(images, labels, observed)
            if integer:
                from tfcompact.compress.quantization.for_xnnpack import shipped

                source = self._source(before, shipped(self.load(before.name)), network)
                sources |= dict.fromkeys(formats.INTEGER, source)
            artifacts, refused = [], {}
            for format in config.formats:
                try:
                    artifact = verified_file.export(sources[format], format, config, judged[format], directory)
                except RejectedArtifact as rejection:
                    if format == config.formats[0]:  # the file for the app: without it there is no export
                        raise
                    refused[format] = str(rejection)
                    self.console.print(str(rejection), highlight=False, markup=False)
                    continue
                artifacts.append(artifact)
                self.console.print(
                    f"{artifact.path}: {artifact.bytes / 1e6:.2f} MB, validation accuracy "
                    f"{artifact.checks['accuracy']:.1%}, agreement with Keras {artifact.checks['agreement']:.1%}, "
                    f"{artifact.checks['xnnpack_partitions']} XNNPACK partition(s)",
                    highlight=False,
                )
            (directory / "labels.txt").write_text("".join(f"{c}\n" for c in data.classes), encoding="utf-8")
            card = model_card.model_card(source, artifacts, [*_history(before, data), *refused.values()])
            (directory / "model_card.md").write_text(card, encoding="utf-8")
            _write_samples(directory / "samples", images[: config.samples], labels, data.classes)
            files.write_json(directory / "artifacts.json", [a.to_json() for a in artifacts])
            accuracy = artifacts[0].checks["accuracy"]
            files.write_json(directory / "notes.json", {"accuracy": accuracy, "refused": refused})

        return self._record("export", inputs, data, make)

    def measure(
        self, config: host.Config | fleet.Config | None = None, parent: str | None = None
    ) -> list[Measurement]:
        """Latency, memory and test accuracy on this machine of every file of the newest export (or of `parent`).

        All files are timed in turns, so that they see the same machine. The rows are saved under `runs`. With an
        `android.Config` it is done on phones, or emulated, and without accuracy; what fails there is printed.
        """
        config = config or host.Config()
        run = self._parent(("export",), parent)
        if isinstance(config, fleet.Config):
            log = functools.partial(self.console.print, highlight=False, markup=False)
            return list(fleet.measure_run(run, self.target.runs, config, log).rows)
        data, px = self._data(run), self._px(run)
        count = min(data.sizes["test"], config.images or data.sizes["test"])

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for start in range(0, count, 256):
                yield data.arrays("test", px=px, start=start, limit=min(start + 256, count))

        test = host.TestImages(batches, "test", data.digest)
        subjects = [
            host.Subject(run.path / artifact.path, artifact, threads, config.delegate, test, config.softmax)
            for threads in config.threads
            for artifact in run.artifacts
        ]
        rows = host.measure_interleaved(subjects, config)
        for row in rows:
            measurements.save_measurement(self.target.runs, row)
        return rows

    def train(self, recipe: str = "default", overrides: Mapping[str, Mapping[str, Any]] | None = None) -> store.Run:
        """The export run at the end of a recipe: its stages, export, and measurements on this machine.

        `overrides` are options by the steps' ids: `{"fit": {"epochs": 30}}`. Raises `UnknownName` for a recipe, step
        or option there is none of.
        """
        *steps, (_, export_config), (_, measure_config) = configured_steps(recipe, overrides or {})
        parent: store.Run | None = None
        for step, config in steps:
            if step.stage == "quantize" and self.spec.float_only:
                self.console.print(f"float files only: {self.spec.name} {self.spec.float_only}", highlight=False)
                continue
            self.console.rule(f"[bold]{step.id}[/]", align="left")
            parent = self.run(step.stage, config, parent.name if parent else None)
        self.console.rule("[bold]export[/]", align="left")
        exported = self.export(export_config, parent.name if parent else None)
        self.console.rule("[bold]measure[/]", align="left")
        self.measure(measure_config, exported.name)
        return exported

    def load(self, name: str) -> Any:
        """The Keras model of the finished run called `name`."""
        from tfcompact.weights import saved

        return saved.load(store.find(self.target.runs, self.spec.name, name).path / "model.h5")

    @functools.cache  # noqa: B019  (a pipeline lives as long as one command)
    def _open(self, source: str) -> Any:
        data = open_images(
            source,
            cache=self.target.cache or self.target.runs / "cache",
            skip_unreadable=self.target.skip_unreadable,
            log=lambda line: self.console.print(line, highlight=False, markup=False),
        )
        for note in data.notes:
            self.console.print(note, highlight=False, markup=False)
        return data

    def _data(self, parent: store.Run | None) -> Any:
        """The images asked for, else the parent's. Raises `UserError` where their classes differ from it."""
        recorded = parent.provenance["data"] if parent else None
        data = self._open(self.target.data or (recorded["source"] if recorded else "digits"))
        if recorded and tuple(recorded["classes"]) != data.classes:
            raise UserError(
                f"{parent.name if parent else ''} was trained on {len(recorded['classes'])} classes of "
                f"{recorded['source']}, not on the {len(data.classes)} of {data.name}; "
                f"try: make fit MODEL={self.spec.name} DATA={self.target.data}"
            )
        return data

    def _px(self, parent: store.Run | None) -> int:
        """The side of the images: asked for, the parent's, or what suits data and network."""
        if parent:
            made: int = parent.provenance["inputs"]["px"]
            if self.target.px not in (None, made):
                raise UserError(
                    f"{parent.name} has images of {made} px, not {self.target.px}; run fit at that size first"
                )
            return made
        if self.target.px is not None:
            return self.spec.shape(self.target.px)[0]
        return suitable_px(self.spec, self._data(None).native_px)

    def _normalization(self, parent: store.Run | None) -> Normalization:
        recorded = parent.provenance["inputs"]["normalization"] if parent else None
        return Normalization.from_json(recorded) if recorded else Normalization()

    def _start(self, config: Any, before: store.Run | None) -> Any:
        """The weights asked for, None where a training starts from random ones or from another run."""
        name = getattr(config, "weights", None)
        if name is None:
            return None
        if before:
            raise UserError(f"give --parent {before.name} or --weights {name}, not both")
        from tfcompact.weights import pretrained

        return pretrained.find(self.spec, name)

    def _parent(self, stages: tuple[str, ...], name: str | None) -> Any:
        """The run to start from, None for a stage that starts from a new network."""
        if name is not None:
            run = store.find(self.target.runs, self.spec.name, name)
            wanted = stages or ("fit",)  # what starts from a new network can also go on from a trained one
            if run.stage not in wanted:
                raise UserError(f"{name} is a {run.stage} run; needed here: {' or '.join(wanted)}")
            return run
        return store.newest(self.target.runs, self.spec.name, stages) if stages else None

    def _network(self, parent: store.Run | None, px: int, classes: int) -> Any:
        if parent:
            return self.load(parent.name)
        return models.build(self.spec.name, px=px, classes=classes, aux=True)

    def _source(self, run: store.Run, model: Any, network: Any) -> gate.Source:
        """`model`, made by `run`, to be exported; `network` is the float one whose cost is recorded."""
        counted = rewrite.cost(network)
        return gate.Source(
            model=model,
            name=self.spec.name,
            run=run.name,
            normalization=self._normalization(run),
            classes=tuple(run.provenance["data"]["classes"]),
            facts={"parameters": counted.trainable + counted.non_trainable, "macs": counted.macs},
        )

    def _record(self, name: str, inputs: dict[str, Any], data: Any, make: Any) -> store.Run:
        inputs = json.loads(json.dumps(inputs))
        path = self.target.runs / self.spec.name / f"{name}-{store.key(inputs)}"
        if (path / "provenance.json").is_file():
            self.console.print(f"already there: {path}", highlight=False)
            return store.Run(path)
        source = self.target.data or inputs_source(inputs, self.target.runs / self.spec.name) or "digits"
        facts = {
            "data": {
                "source": absolute(source),
                "name": data.name,
                "classes": list(data.classes),
                "sizes": dict(data.sizes),
            }
        }
        with store.recording(self.target.runs, self.spec.name, name, inputs, facts) as directory:
            make(directory)
        return store.Run(path)


def inputs_source(inputs: Mapping[str, Any], directory: Path) -> str | None:
    """Where the parent's images came from, if there is a parent."""
    if inputs["parent"] is None:
        return None
    source: str = store.Run(directory / inputs["parent"]).provenance["data"]["source"]
    return source


def suitable_px(spec: models.ModelSpec, native_px: int) -> int:
    """The published size for photographs; for smaller images the next multiple of 32 from 64 up the network takes."""
    wanted = max(64, -(-native_px // 32) * 32, spec.min_px)
    return min(wanted, spec.image_px)


def _strategy() -> Any:
    """How the work is spread: over machines where TF_CONFIG names them, over this one's GPUs, or not at all."""
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _history(run: store.Run, data: Any) -> list[str]:
    """One line for each stage behind a run."""
    sizes = data.sizes
    lines = [
        f"Data: {data.name}, {sizes['train']} training, {sizes['validation']} validation and {sizes['test']} test "
        f"images; digest `{data.digest[:16]}`."
    ]
    for made in run.chain:
        config = made.provenance["inputs"]["config"]
        lines.append(
            f"`{made.name}`: {config['epochs']} epochs, batch {config['batch']}, {config['optimizer']} at "
            f"{config['learning_rate']:g}, seed {made.provenance['inputs']['seed']}, tfcompact "
            f"{made.provenance['versions']['tfcompact']}."
        )
    return lines


def _write_samples(directory: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    from PIL import Image

    directory.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        name = "".join(c if c.isalnum() or c in " _." else "_" for c in classes[labels[i]])
        Image.fromarray(image).save(directory / f"{name}-{i}.png")
