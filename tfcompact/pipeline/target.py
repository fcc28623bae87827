"""What a command works on. No TensorFlow here, so that the command line can ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfcompact.options import opt
from tfcompact.runs.store import ROOT


@dataclass(frozen=True)
class Target:
    """An architecture, its images, and where results go."""

    model: str = opt(
        "mobilenet_v2", "architecture, as `tfcompact models` lists them, or the .json file of one from a search space"
    )
    data: str | None = opt(
        None, "a folder CLASS/*.jpg, digits, fashion_mnist, cifar10 or tfds:NAME; the parent run's, else digits"
    )
    px: int | None = opt(None, "side of the images in px; the parent run's, else the published or the data's own")
    seed: int = opt(0, "seed of everything random")
    runs: Path = opt(ROOT, "directory of all runs")
    cache: Path | None = opt(None, "directory of decoded images; <runs>/cache unless given")
    table: Path | None = opt(None, "latency table that prices networks, for stages that ask what one costs")
    skip_unreadable: bool = opt(False, "leave out images that cannot be read, and list them")
