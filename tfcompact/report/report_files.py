"""The report of a runs directory, as files."""

from __future__ import annotations

from pathlib import Path

from tfcompact import files
from tfcompact.errors import UserError
from tfcompact.report import measured_rows, plots
from tfcompact.report.csv_file import as_csv
from tfcompact.report.markdown import markdown
from tfcompact.report.measured_rows import Row
from tfcompact.report.nothing_yet import nothing_measured
from tfcompact.runs import store


def rows(root: Path = store.ROOT, model: str | None = None) -> tuple[Row, ...]:
    """Every measurement under `root`, or of one model. Raises `UserError` naming the first file that is damaged."""
    return measured_rows.measured(root, model).whole()


def write(root: Path = store.ROOT, model: str | None = None, out: Path | None = None) -> list[Path]:
    """Writes report.md, report.csv and pareto.png, and returns their paths.

    They go to `out`, by default `<root>/report`, or `<root>/report/<model>` for one model. Each file is replaced in
    one step. There is no plot where no row has both accuracy and a cost. Raises `UserError` without measurements.
    """
    found = rows(root, model)
    if not found:
        raise UserError(nothing_measured(root, model))
    out = out or (root / "report" / model if model else root / "report")
    out.mkdir(parents=True, exist_ok=True)
    picture = plots.pareto_png(found)
    contents = {
        out / "report.md": markdown(found, plot=picture is not None).encode(),
        out / "report.csv": as_csv(found).encode(),
    }
    if picture is None:
        (out / "pareto.png").unlink(missing_ok=True)  # one of an earlier report, which no longer tells the truth
    else:
        contents[out / "pareto.png"] = picture
    for path, content in contents.items():
        files.write_bytes(path, content)
    return list(contents)
