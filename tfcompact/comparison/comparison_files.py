"""A comparison as files: report.md, report.csv, comparison.png and every figure as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfcompact import files
from tfcompact.comparison import comparison_tables
from tfcompact.comparison.comparison_plot import comparison_png
from tfcompact.comparison.line import lines
from tfcompact.comparison.row_result import RowResult

PLOT = "comparison.png"


def write(results: Sequence[RowResult], title: str, out: Path) -> list[Path]:
    """Writes the files into a directory, each replaced in one step, and returns their paths."""
    found = lines(results)
    picture = comparison_png(found, title)
    out.mkdir(parents=True, exist_ok=True)
    contents = {
        out / "report.md": comparison_tables.markdown(found, title, PLOT if picture else None).encode(),
        out / "report.csv": comparison_tables.as_csv(results).encode(),
    }
    if picture is None:
        (out / PLOT).unlink(missing_ok=True)  # one of an earlier comparison, which no longer tells the truth
    else:
        contents[out / PLOT] = picture
    for path, content in contents.items():
        files.write_bytes(path, content)
    files.write_json(out / "report.json", [result.to_json() for result in results])
    return [*contents, out / "report.json"]
