"""Which layers of a quantized run suffer most from rounding, and what keeping the worst of them float buys and costs.

The ranking is `layer_ranking`'s; what is kept float is compared by `float_layers`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcompact import files
from tfcompact.data import open_images
from tfcompact.data.images import normalize
from tfcompact.data.imageset import ImageSet
from tfcompact.errors import UserError
from tfcompact.options import opt, require, require_choice
from tfcompact.records import formats
from tfcompact.runs import lineage, store
from tfcompact.sensitivity import float_layers
from tfcompact.sensitivity.float_layers import Comparison
from tfcompact.weights import saved

if TYPE_CHECKING:
    from tfcompact.sensitivity.layer_ranking import Ranking, Unit

IMAGES = 256  # where neither the user nor the run says how many


@dataclass(frozen=True)
class Config:
    """What the layers are judged on, and what is done about the worst."""

    images: int | None = opt(None, "calibration images to judge each layer on; as many as the run's unless given")
    limit: int = opt(20, "rows to print, the worst layers; 0 for all")
    json: Path | None = opt(None, "a file for the whole ranking, and the comparison")
    keep_float: int = opt(0, "write a file in which this many of the worst layers stay float, and compare it")
    readers: bool = opt(False, "keep what reads these layers float too: an 8-bit reader gets their outputs in 8 bits")
    format: str = opt("uint8", "of the files: uint8 or int8")
    out: Path | None = opt(None, "the file with float layers; ./<model>.mixed.tflite unless given")
    validation_images: int = opt(500, "validation images on which the files are compared")

    def __post_init__(self) -> None:
        require(self.images is None or self.images >= 1, "images", self.images, "1 or more")
        require(self.limit >= 0, "limit", self.limit, "0 or more")
        require(self.keep_float >= 0, "keep_float", self.keep_float, "0 or more")
        require_choice("format", self.format, formats.INTEGER)
        require(self.validation_images >= 1, "validation_images", self.validation_images, "1 or more")
        for path in (self.json, self.out if self.keep_float else None):
            if path is not None:
                _check_free(path)


class Study:
    """A quantized run with its images, to be looked into as `config` says.

    Raises `UserError` where the file to be written is there already.
    """

    def __init__(self, run: store.Run, data: ImageSet, config: Config) -> None:
        self.run, self.data, self.config = run, data, config
        self.out = config.out or Path(f"{run.model}.mixed.tflite")
        if config.keep_float:
            _check_free(self.out)

    @cached_property
    def qat(self) -> Any:
        """The run's network, a Keras model."""
        return saved.of_run(self.run)

    def ranking(self, progress: Callable[[Sequence[Unit]], Iterable[Unit]] = iter) -> Ranking:
        """All layers by what rounding each alone costs, worst first. `progress` wraps the iteration over them."""
        from tfcompact.sensitivity import layer_ranking

        recorded = self.run.provenance["inputs"]["config"].get("calibration_images", IMAGES)
        pixels, _ = self.data.arrays("train", px=float_layers.px_of(self.run), limit=self.config.images or recorded)
        return layer_ranking.rank(self.qat, normalize(pixels, float_layers.normalization_of(self.run)), progress)

    def comparison(self, ranking: Ranking) -> Comparison:
        """The file in which the worst layers are float, beside its neighbours.

        Raises `UserError` where there are not as many layers as are to be kept.
        """
        config, most = self.config, len(ranking.rows)
        require(config.keep_float <= most, "keep_float", config.keep_float, f"at most {most}")
        return float_layers.compared(
            self.run,
            self.qat,
            self.data,
            [row.unit.name for row in ranking.rows[: config.keep_float]],
            readers=config.readers,
            format=config.format,
            count=config.validation_images,
        )

    def write(self, comparison: Comparison) -> Path:
        """Writes the file with float layers, and returns its path. Raises `UserError` where one is there by now."""
        _check_free(self.out)
        files.write_bytes(self.out, comparison.mixed)
        return self.out


def as_json(run: store.Run, ranking: Ranking, comparison: Comparison | None) -> dict[str, Any]:
    """All that was found, as plain dicts, lists and scalars; null for what is infinite."""
    content: dict[str, Any] = {"model": run.model, "run": run.name} | dataclasses.asdict(ranking)
    if comparison is not None:
        rows = [dataclasses.asdict(row) for row in comparison.rows]
        content |= {"kept_float": comparison.kept, "files": rows}
    finite: dict[str, Any] = _finite(content)
    return finite


def quantized_run(path: Path) -> store.Run:
    """The finished run in the directory `path`. Raises `UserError` unless it holds a quantized network."""
    path = path.resolve()
    run = store.find(path.parent.parent, path.parent.name, path.name)
    if lineage.network(run) != "quantized":
        raise UserError(f"{path} holds no quantized network; give a run that does, as tfcompact runs lists them")
    return run


def open_data(
    run: store.Run, source: str | None, cache: Path | None, skip_unreadable: bool, log: Callable[[str], None]
) -> ImageSet:
    """The images of `run`, from where it found them or from `source`. Raises `UserError` for other classes."""
    recorded = run.provenance["data"]
    data = open_images(
        source or recorded["source"],
        cache=cache or run.path.parent.parent / "cache",
        skip_unreadable=skip_unreadable,
        log=log,
    )
    if data.classes != tuple(recorded["classes"]):
        raise UserError(f"{run.name} knows other classes than those of {data.name}; give its images with --data")
    return data


def _check_free(path: Path) -> None:
    """Raises `UserError` where the path is taken, or lies in a finished run."""
    if path.exists():
        raise UserError(f"{path} is there already; remove it, or name another file")
    if any((folder / "provenance.json").is_file() for folder in path.resolve().parents):
        raise UserError(f"{path} lies in a finished run, which never changes; name a file outside of it")
    if not path.resolve().parent.is_dir():
        raise UserError(f"there is no directory {path.parent}; make it, or name another file")


def _finite(value: Any) -> Any:
    """`value` for JSON, which has no infinity: null where there was no noise at all."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
