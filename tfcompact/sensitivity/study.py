"""Which layers of a quantized run suffer most from rounding, and what keeping the worst of them float buys and costs.

The ranking is `switches.rank`'s; what is kept is compared by `keeping`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tfcompact import files
from tfcompact.data import open_images
from tfcompact.data.images import normalize
from tfcompact.errors import UserError
from tfcompact.options import opt, require, require_choice
from tfcompact.records import formats
from tfcompact.report.short_numbers import digits, shape_text
from tfcompact.report.table_columns import ABSENT, GAP, Column, fitting, omitted_headings, table_of
from tfcompact.runs import store
from tfcompact.sensitivity import float_layers
from tfcompact.weights import saved


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


RANKING = (
    Column("", lambda r: str(r[0])),
    Column("layer", lambda r: r[1].unit.name, left=True),
    Column("kind", lambda r: r[1].unit.kind, yields=3, left=True),
    Column("output", lambda r: shape_text(r[1].unit.output), yields=4),
    Column("MACs\nM", lambda r: digits(r[1].unit.macs / 1e6), yields=5),
    Column("agree\n%", lambda r: f"{100 * r[1].agreement:.1f}"),
    Column("SQNR\ndB", lambda r: _decibel(r[1].sqnr_db)),
    Column("kernel\ndB", lambda r: _decibel(r[1].kernel_db), yields=1),
    Column("output\ndB", lambda r: _decibel(r[1].output_db), yields=2),
)
RANKING_LEGEND = (
    "A layer is what one operator of the file computes: a convolution with its ReLU. Each was rounded alone, the "
    "rest of the network float with the same weights, and its logits compared with those of nothing rounded. agree: "
    "images with the same class. SQNR: the logits' power over that of the noise; 10 dB less is ten times the noise. "
    "kernel, output: with only the kernel and bias, or only the output, rounded."
)
FILES_LEGEND = (
    "accuracy: on validation images. agree: with the class that the float parent names. SQNR: of the logits, against "
    f"the run's weights with nothing rounded, on the first {float_layers.LOGIT_IMAGES} of these images. XNNPACK: "
    "pieces that it runs. ms: median latency on this computer, one thread; ratio: to that of the first file. "
    "float32: the run's weights, then its float parent's."
)


def ranking_table(ranking: Any, limit: int, width: int) -> tuple[Table, str, str]:
    """The worst `limit` layers of a `switches.Ranking` (0: all), the sum of it, and what the columns mean."""
    rows = list(enumerate(ranking.rows, 1))[: limit or None]
    shown = fitting(RANKING, rows, width + 1, GAP)
    table = table_of(shown)
    for row in rows:
        table.add_row(*(column.text(row) for column in shown))
    more = len(ranking.rows) - len(rows)
    summary = (
        f"all {len(ranking.rows)} together: {_decibel(ranking.all_db)} dB, {100 * ranking.all_agreement:.1f} % "
        f"agree, of {ranking.images} training images; the median image has {_decibel(ranking.median_db)} dB"
        + (" (if far more, a few images go beyond the ranges)" if ranking.median_db > ranking.all_db + 6 else "")
        + (f". {more} not shown: --limit 0" if more else "")
    )
    omitted = omitted_headings(RANKING, shown)
    return table, summary, RANKING_LEGEND + (f" Not shown: {omitted}." if omitted else "")


def files_table(rows: Sequence[float_layers.Row]) -> Table:
    """One line a file."""
    columns = (
        Column("file", lambda r: r.file, left=True),
        Column("MB", lambda r: f"{r.bytes / 1e6:.2f}"),
        Column("accuracy\n%", lambda r: f"{100 * r.accuracy:.1f}"),
        Column("agree\n%", lambda r: f"{100 * r.agreement:.1f}"),
        Column("SQNR\ndB", lambda r: _decibel(r.sqnr_db)),
        Column("XNNPACK", lambda r: str(r.partitions)),
        Column("operators", lambda r: str(r.operators)),
        Column("ms", lambda r: f"{r.median_ms:.2f}"),
        Column("ratio", lambda r: f"{r.ratio:.2f}"),
    )
    table = table_of(columns)
    for row in rows:
        table.add_row(*(column.text(row) for column in columns))
    return table


def _decibel(value: float | None) -> str:
    return ABSENT if value is None else "∞" if math.isinf(value) else f"{value:.1f}"


def sensitivity(run: store.Run, config: Config, data: Any, console: Console) -> None:
    """Ranks the layers of `run`, prints the ranking, and keeps the worst `config.keep_float` float if there are any.

    `data` is the `ImageSet` of the run. Raises `UserError` where there is not that much to keep, or a file is there.
    """
    from tfcompact.sensitivity import layer_ranking

    out = config.out or Path(f"{run.model}.mixed.tflite")
    if config.keep_float:
        _check_free(out)
    qat = saved.load(run.path / "model.h5")
    count = config.images or run.provenance["inputs"]["config"]["calibration_images"]
    pixels, _ = data.arrays("train", px=float_layers.px_of(run), limit=count)

    def progress(units: Sequence[Any]) -> Any:
        bar = Console(stderr=True)
        return track(units, "layers", console=bar, transient=True, disable=not bar.is_terminal)

    ranking = layer_ranking.rank(qat, normalize(pixels, float_layers.normalization_of(run)), progress)
    table, summary, legend = ranking_table(ranking, config.limit, console.width)
    console.print(f"{run.model} {run.name}\n", table, f"\n{summary}\n", legend, sep="\n", highlight=False)
    content: dict[str, Any] = {"model": run.model, "run": run.name} | dataclasses.asdict(ranking)
    if config.keep_float:
        most = len(ranking.rows)
        require(config.keep_float <= most, "keep_float", config.keep_float, f"at most {most}")
        worst = [row.unit.name for row in ranking.rows[: config.keep_float]]
        rows, kept, file = float_layers.compared(
            run,
            qat,
            data,
            worst,
            readers=config.readers,
            format=config.format,
            count=config.validation_images,
        )
        _check_free(out)  # the comparison took a while
        files.write_bytes(out, file)
        console.print(f"\nkept float: {', '.join(kept)}\n", files_table(rows), sep="\n", highlight=False)
        console.print(f"\n{FILES_LEGEND}\n{out}", highlight=False, markup=False)
        content |= {"kept_float": kept, "files": [dataclasses.asdict(row) for row in rows]}
    if config.json:
        files.write_json(config.json, _finite(content))


def finished(path: Path) -> store.Run:
    """The finished quantize run in the directory `path`. Raises `UserError` where it is something else."""
    path = path.resolve()
    run = store.find(path.parent.parent, path.parent.name, path.name)
    if run.stage != "quantize":
        raise UserError(f"{path} is no quantize run; give the directory of one: runs/<model>/quantize-<key>")
    return run


def open_data(run: store.Run, source: str | None, cache: Path | None, skip_unreadable: bool, console: Console) -> Any:
    """The `ImageSet` of `run`, from where it found it or from `source`. Raises `UserError` for other classes."""
    recorded = run.provenance["data"]
    data = open_images(
        source or recorded["source"],
        cache=cache or run.path.parent.parent / "cache",
        skip_unreadable=skip_unreadable,
        log=lambda line: console.print(line, highlight=False, markup=False),
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
