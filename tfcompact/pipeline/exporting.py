"""An export run: the files of a network in every format asked for, and what lies beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfcompact import files, stages
from tfcompact.data.imageset import ImageSet
from tfcompact.errors import RejectedArtifact, UserError
from tfcompact.export import gate, model_card, verified_file
from tfcompact.models import Spec
from tfcompact.records import formats
from tfcompact.records.artifact import Artifact
from tfcompact.runs import lineage, store

VERSION = 1
"""Of what is exported: to be raised when the same network gives other files."""
LONGEST_NAME = 200  # bytes of a class in the name of a sample, which may have 255
CALIBRATION_IMAGES = 8


@dataclass(frozen=True)
class Export:
    """One export: of which run, how, of what images, by whom loaded and told."""

    run: store.Run
    spec: Spec
    config: gate.Config
    data: ImageSet
    load: Callable[[store.Run], Any]
    log: Callable[[str], None]

    def write(self, directory: Path) -> None:
        """Fills the directory: files, records, labels, model card, sample images, notes.

        A format that does not pass the gate is left out, and why is in the notes. Raises `RejectedArtifact` where it
        is the first one, which is the file for the app: without it there is no export.
        """
        images, labels = self.data.arrays("validation", px=self.run.px, limit=self.config.images)
        sources = self._sources()
        artifacts, refused = [], {}
        for format in self.config.formats:
            evidence = gate.Evidence(images, labels, self._calibration(format))
            try:
                artifact = verified_file.export(sources[format], format, self.config, evidence, directory)
            except RejectedArtifact as rejection:
                if format == self.config.formats[0]:
                    raise
                refused[format] = str(rejection)
                self.log(str(rejection))
                continue
            artifacts.append(artifact)
            self.log(_told(artifact))
        first = sources[self.config.formats[0]]
        lines = [*history_lines(self.run, self.data), *refused.values()]
        files.write_text(directory / "labels.txt", "".join(f"{c}\n" for c in self.data.classes))
        files.write_text(directory / "model_card.md", model_card.model_card(first, artifacts, lines))
        _write_samples(directory / "samples", images[: self.config.samples], labels, self.data.classes)
        files.write_json(directory / "artifacts.json", [a.to_json() for a in artifacts])
        notes = {"accuracy": artifacts[0].checks["accuracy"], "refused": refused}
        files.write_json(directory / "notes.json", notes)

    def _sources(self) -> Mapping[str, gate.Source]:
        """The network of each format: the quantized one of the run, the float one that it is a form of."""
        from tfcompact.compress.quantization.for_xnnpack import shipped
        from tfcompact.networks import rewrite

        behind = lineage.float_source(self.run)
        network = rewrite.inference(self.load(behind))
        plain = source_of(self.spec, behind, network, network)
        found = dict.fromkeys(formats.FORMATS, plain)
        if lineage.network(self.run) == "quantized":
            rounded = source_of(self.spec, self.run, shipped(self.load(self.run)), network)
            found |= dict.fromkeys(formats.INTEGER, rounded)
        return found

    def _calibration(self, format: str) -> np.ndarray:
        """Training images `[n, px, px, 3]` that the converter sees; those of int16x8 decide its ranges."""
        limit = gate.OBSERVED_IMAGES if format == "int16x8" else CALIBRATION_IMAGES
        found, _ = self.data.arrays("train", px=self.run.px, limit=limit)
        return found


def allowed(run: store.Run, config: gate.Config | None, log: Callable[[str], None]) -> gate.Config:
    """The config with formats that the run can give; where none was asked for, all of them.

    Raises `UserError` where integer files are asked for of a run that is not quantized.
    """
    config = config or gate.Config()
    if lineage.network(run) == "quantized":
        return config
    if config.formats == formats.USUAL:
        log(f"{run.name} is the newest run and not quantized: float files only")
        return dataclasses.replace(config, formats=tuple(f for f in formats.USUAL if f not in formats.INTEGER))
    if set(config.formats) & set(formats.INTEGER):
        raise UserError(
            f"{run.name} is not quantized, so it has no {' or '.join(formats.INTEGER)} file; "
            f"try: make {stages.giving('quantized')} MODEL={run.model}"
        )
    return config


def source_of(spec: Spec, run: store.Run, model: Any, network: Any) -> gate.Source:
    """`model`, made by `run`, to be exported; `network` is the float one whose cost is recorded."""
    from tfcompact.networks import rewrite

    counted = rewrite.cost(network)
    return gate.Source(
        model=model,
        name=spec.name,
        run=run.name,
        normalization=run.normalization,
        classes=run.classes,
        facts={"parameters": counted.trainable + counted.non_trainable, "macs": counted.macs},
    )


def history_lines(run: store.Run, data: ImageSet) -> list[str]:
    """The images that the run saw, then one line for each stage behind it."""
    sizes = data.sizes
    lines = [
        f"Data: {data.name}, {sizes['train']} training, {sizes['validation']} validation and {sizes['test']} test "
        f"images; digest `{data.digest[:16]}`."
    ]
    for made in run.chain:
        seed, version = made.provenance["inputs"]["seed"], made.provenance["versions"]["tfcompact"]
        lines.append(f"`{made.name}`: {lineage.summary(made)}, seed {seed}, tfcompact {version}.")
    return lines


def _told(artifact: Artifact) -> str:
    checks = artifact.checks
    return (
        f"{artifact.path}: {artifact.bytes / 1e6:.2f} MB, validation accuracy {checks['accuracy']:.1%}, agreement "
        f"with Keras {checks['agreement']:.1%}, {checks['xnnpack_partitions']} XNNPACK partition(s)"
    )


def _write_samples(directory: Path, images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    directory.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        name = "".join(c if c.isalnum() or c in " _." else "_" for c in classes[labels[i]])
        name = name.encode()[:LONGEST_NAME].decode(errors="ignore")
        Image.fromarray(image).save(directory / f"{name}-{i}.png")
