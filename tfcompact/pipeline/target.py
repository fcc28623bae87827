"""What a command works on. No TensorFlow here, so that the command line can ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfcompact.errors import UserError
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

    def __post_init__(self) -> None:
        """Raises `UserError` for a path that no record could hold, before anything is trained."""
        for path in (self.runs, self.cache, self.table, self.data):
            try:
                str(path or "").encode()
            except UnicodeEncodeError:
                raise UserError(f"{str(path)!r} is not UTF-8 and cannot be recorded; give a path that is") from None
