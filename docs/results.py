"""Writes docs/results.md and the pages with figures, plots, leaderboard.csv and the README's figures from records.

    python docs/results.py            # writes what differs
    python docs/results.py --check    # writes nothing; 1 where something differs, and the first line that does
    python docs/results.py --stale    # records that are older than the code they measure (make results)

The records are in docs/results/, the prose in docs/results.md.jinja and other pages' *.md.jinja, Jinja templates:
`{{ flowers.table() }}` is a record's table with the line that says how it came about,
`{{ flowers.rows().one(seed=1).qat|fixed(1) }}` a figure. A name that is not there is an error. `claim(...)` says
nothing, and stops the rendering where words of the prose are not true of the records any more.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import statistics
import sys
import textwrap
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jinja2
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

from recorded import staleness, tables  # noqa: E402
from recorded.plots import PLOTS, Plot  # noqa: E402
from recorded.view import Rows, View, duration  # noqa: E402

from tfcompact import files  # noqa: E402
from tfcompact.errors import UserError  # noqa: E402

TEMPLATE = "results.md.jinja"
PAGES = {"results.md": TEMPLATE} | {name: f"{name}.jinja" for name in ("compression.md", "search.md")}
FIGURES = {  # what stands in README.md between <!-- figure NAME --> and <!-- /figure -->
    "flowers_from_imagenet": "finetune.part('efficientnet_lite0').rows().one(start='from ImageNet').int8|fixed(1)",
    "flowers_from_scratch": "finetune.part('efficientnet_lite0').rows().one(start='from scratch').int8|fixed(1)",
    "main_job_minutes": "main_job.rows().one(network='mobilenet_v2').minutes|fixed(0)",
}
BETWEEN = re.compile(r"(<!-- figure (\w+) -->)(.*?)(<!-- /figure -->)")
UNBROKEN = "\0"  # in the place of a space where a line may not end
NO_COLUMN = ("run",)  # of the CSV: names of runs on one machine


def views_of(root: Path) -> dict[str, View]:
    """Every record by its name."""
    return {record.name: View(record) for record in staleness.records(root / "docs" / "results")}


def texts(root: Path) -> dict[Path, str]:
    """Every text file that is rendered, and what it has to hold. Raises `UserError` with the line of the template."""
    views = views_of(root)
    environment = environment_of(root / "docs", views)
    readme = root / "README.md"
    board = views["leaderboard"]
    found = {
        **{root / "docs" / name: page(environment, template) for name, template in PAGES.items()},
        readme: with_figures(readme.read_text(encoding="utf-8"), environment),
        root / "docs" / "results" / "leaderboard.csv": as_csv(board.rows()),
    }
    if board.has("devices"):
        found[root / "docs" / "results" / "leaderboard-devices.csv"] = as_csv(board.rows("devices"))
    return found


def environment_of(docs: Path, views: Mapping[str, View]) -> jinja2.Environment:
    """What a template knows: every record by its name, how to compute with columns and how to write numbers."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(docs), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"claim": claim, "ratios": ratios, "devices": tables.devices, **views}
    environment.filters |= {
        "fixed": lambda value, digits: f"{value:,.{digits}f}",
        "signed": lambda value, digits: f"{value:+.{digits}f}",
        "short": lambda value: f"{value:.1e}".replace("e-0", "e-"),
        "listed": listed,
        "mean": statistics.mean,
        "median": statistics.median,
        "duration": duration,
    }
    return environment


def claim(holds: bool) -> str:
    """Nothing, where what the prose says in words holds. Raises `UserError` where it does not."""
    if not holds:
        raise UserError("what is said here in words does not hold any more; write it anew")
    return ""


def ratios(rows: Rows, above: str, below: str) -> list[float]:
    """Of two columns, row by row."""
    return [row[above] / row[below] for row in rows]


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def page(environment: jinja2.Environment, template: str = TEMPLATE) -> str:
    """A page of docs/, results.md unless told otherwise. Raises `UserError` that names the line of the template."""
    try:
        return wrapped(environment.get_template(template).render()) + "\n"
    except (jinja2.TemplateError, UserError, LookupError, TypeError, ValueError) as error:
        frames = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(template)]
        line = frames[-1] if frames else getattr(error, "lineno", None)
        raise UserError(f"docs/{template}, line {line}: {type(error).__name__}: {error}") from error


def with_figures(text: str, environment: jinja2.Environment) -> str:
    """A text with what stands between its marks replaced. Raises `UserError` for a figure that there is not."""

    def figure(match: re.Match[str]) -> str:
        if match[2] not in FIGURES:
            raise UserError(f"README.md: no figure named {match[2]}; known: {', '.join(FIGURES)}")
        return f"{match[1]}{environment.from_string('{{ ' + FIGURES[match[2]] + ' }}').render()}{match[4]}"

    return BETWEEN.sub(figure, text)


def wrapped(text: str) -> str:
    """Paragraphs and items in lines of the same length, whatever the figures in them; the rest is left as it is."""
    blocks = re.split(r"\n{2,}", text.strip())
    return "\n\n".join("\n".join(_lines(block)) for block in blocks)


def _lines(block: str) -> Iterator[str]:
    if re.match(r"[#|!`]{1,3}(\s|\||\[|``)|\*[^*]", block):  # a heading, a table, a picture, code, a line of a table
        yield block
        return
    for item in re.split(r"\n(?=- )", block):
        wrap = textwrap.TextWrapper(118, break_long_words=False, break_on_hyphens=False)
        wrap.subsequent_indent = "  " if item.startswith("- ") else ""
        whole = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", UNBROKEN), " ".join(item.split()))
        yield wrap.fill(whole).replace(UNBROKEN, " ")


def as_csv(rows: Rows) -> str:
    """Rows with all columns."""
    out = io.StringIO()
    columns = [key for key in rows[0] if key not in NO_COLUMN]
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def differences(root: Path) -> list[str]:
    """What is not as it would be written, a line each; empty where all is."""
    found = []
    for path, text in texts(root).items():
        name = path.relative_to(root)
        if not path.exists():
            found.append(f"{name} is missing")
            continue
        there, wanted = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
        for number, (is_, should) in enumerate(zip(there, wanted, strict=False), 1):
            if is_ != should:
                found.append(f"{name}, line {number}: is {is_!r}, its rendering is {should!r}")
                break
        else:
            if len(there) != len(wanted):
                found.append(f"{name}: has {len(there)} lines, its rendering has {len(wanted)}")
    return found + [f"docs/{plot.file} is not drawn from today's records" for plot in old_plots(root)]


def old_plots(root: Path) -> list[Plot]:
    """Plots that are missing, or were drawn from other rows or by other code."""
    views = views_of(root)
    return [plot for plot in PLOTS if not plot.current(views, root / "docs")]


def write(root: Path) -> list[Path]:
    """Writes what differs; the files written."""
    written = []
    for path, text in texts(root).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            files.write_text(path, text)
            written.append(path)
    return written + [plot.write(views_of(root), root / "docs") for plot in old_plots(root)]


def show_stale(found: Sequence[staleness.Stale]) -> None:
    """Prints what is old, why, what it costs to measure it again, and each command on a line that can be copied."""
    console = Console(highlight=False, soft_wrap=True)
    for row in found:
        least = f"more than {row.least_minutes:.0f} min" if row.least_minutes else "cost not known"
        minutes = least if row.minutes is None else f"{row.minutes:.1f} min"
        console.print(f"[bold]{row.name}[/bold]  made {row.date} with {row.commit}  {minutes}")
        if not row.whole:
            console.print(f"  of it: {', '.join(row.parts)}")
        console.print(f"  why: {', '.join(row.why)}")
        for command in row.command.split("; "):
            console.print(f"  {command}", markup=False)
    known = [row.minutes for row in found if row.minutes is not None]
    if not found:
        console.print("every record is of today's code")
        return
    console.print(f"\n{len(found)} to measure again, {sum(known):.0f} min for the {len(known)} whose cost is known")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="write nothing; exit with 1 where something differs")
    what.add_argument("--stale", action="store_true", help="records that are older than the code they measure")
    options = parser.parse_args()
    try:
        if options.stale:
            show_stale(staleness.stale(staleness.records()))
            return 0
        if options.check:
            found = differences(ROOT)
            print("\n".join(found) or "all as rendered")
            return int(bool(found))
        for path in write(ROOT):
            print(path.relative_to(ROOT))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
