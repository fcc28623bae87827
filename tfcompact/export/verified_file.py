"""From a Keras model to verified `.tflite` files. Export is a gate: a file that fails a check is not written."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from tfcompact import files
from tfcompact.data.images import normalize
from tfcompact.export import converter
from tfcompact.export.gate import Config, Evidence, Source, pass_gate
from tfcompact.records.artifact import Artifact
from tfcompact.tflite import metadata, runtime


def export(source: Source, format: str, config: Config, evidence: Evidence, directory: Path) -> Artifact:
    """Writes `model.<format>.tflite` to `directory` if it passes every check, and returns its record.

    Raises `RejectedArtifact` that says which check failed, and where agreement is lost, at which layer.
    """
    if format == "int16x8":
        from tfcompact.compress.quantization.lowering import lower

        source = dataclasses.replace(source, model=lower(source.model))
    calibration = normalize(evidence.calibration.astype(np.float32), source.normalization)
    content = metadata.attach(
        converter.convert(source.model, format, calibration),
        name=source.name,
        description=f"Image classifier, {len(source.classes)} classes, {format}. Made by tfcompact.",
        labels=source.classes,
        normalization=source.normalization,
        model=source.name,
        run=source.run,
    )
    checks = pass_gate(content, source, format, config, evidence)
    path = directory / f"model.{format}.tflite"
    files.write_bytes(path, content)
    file = runtime.LiteModel(content)
    return Artifact(
        model=source.name,
        run=directory.name.removesuffix(".partial"),
        path=path.name,
        format=format,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        image_px=file.image_px,
        classes=file.classes,
        normalization=source.normalization,
        input=file.input_quantization,
        output=file.output_quantization,
        checks=source.facts | checks,
    )
