"""A whole `train` that takes seconds, for rigs that disturb it: its command, and what it has to leave."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

WORDS = (
    *("train", "--model", "mobilenet_v1_0.25", "--data", "digits", "--px", "32", "--set"),
    *("fit.epochs=1", "fit.epoch_images=128", "fit.validation_images=64", "fit.norm_batches=1"),
    *("quantize.epochs=1", "quantize.epoch_images=64", "quantize.validation_images=64", "quantize.norm_batches=1"),
    *("quantize.calibration_images=32", "export.images=32", "export.largest_loss=100", "export.least_agreement=0"),
    *('export.formats=["uint8","float32"]', "measure.repeats=50", "measure.min_seconds=0", "measure.images=16"),
)


def words(folder: Path) -> list[str]:
    """The arguments of `tfcompact` that train into a folder."""
    return [*WORDS[:7], "--runs", str(folder / "runs"), *WORDS[7:]]


def command(folder: Path) -> list[str]:
    """The command line that trains into a folder."""
    return [sys.executable, "-m", "tfcompact", *words(folder)]


def exported(folder: Path) -> dict[str, str]:
    """The sha256 of every exported file, without which run it is in."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "runs").glob("*/export-*/model.*.tflite"))
    }


def leftovers(folder: Path) -> list[str]:
    """What a finished training must not leave."""
    found = [
        path for path in (folder / "runs").rglob("*") if re.search(r"\.tmp$|\.partial$|^\.lock$|^scratch$", path.name)
    ]
    return [str(path.relative_to(folder)) for path in found if "/cache/" not in str(path)]
