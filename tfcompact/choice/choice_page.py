"""What was chosen as a page: what was tried, the front, why this one, and what other budgets would give."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tfcompact import files
from tfcompact.choice.choosing import OTHER_BUDGETS, Outcome
from tfcompact.choice.pricing import Priced
from tfcompact.report.markdown import cell, table_line


def write(outcome: Outcome, out: Path) -> list[Path]:
    """Writes `choice.md` and `choice.csv`, and returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / "choice.md", page(outcome))
    files.write_text(out / "choice.csv", as_csv(outcome))
    return [out / "choice.md", out / "choice.csv"]


def page(outcome: Outcome) -> str:
    """The page as Markdown."""
    unit = outcome.unit
    file = outcome.export.artifacts[0]
    accuracy = "" if outcome.accuracy is None else f", {outcome.accuracy:.1f} % of the test images"
    measured = "" if outcome.measured is None else f", measured {outcome.measured:.4g} {unit}"
    reached = _reached(outcome)
    best = max(reached, key=lambda one: reached[one])
    lines = [
        f"# {outcome.images} within {outcome.budget:g} {unit}",
        "",
        f"**{outcome.chosen.offer.label}**: predicted {outcome.chosen.cost:.4g} {unit} on {outcome.device}{measured}"
        f"{accuracy}.",
        "",
        f"The file: `{outcome.export.path / file.path}`",
        "",
        f"{len(outcome.priced)} networks were priced without training, {len(reached)} of those within the budget "
        f"were trained; {best.offer.label} reached most, {reached[best]:.1%} of the validation images.",
        "",
        *_table(outcome, sorted(reached, key=lambda one: -reached[one])),
        "",
        "Other budgets, by what is published of the networks that were priced:",
        "",
        *(f"- {line}" for line in _others(outcome)),
    ]
    if outcome.refused:
        lines += ["", "Left out:", "", *(f"- {line}" for line in outcome.refused)]
    return "\n".join(lines) + "\n"


def as_csv(outcome: Outcome) -> str:
    """Every priced network; costs in the unit of the table, accuracies as shares of validation images."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "px", "cost", "unit", "interpolated", *(f"after_{n}" for n in _rungs(outcome))])
    for one in sorted(outcome.priced, key=lambda one: one.cost):
        known = {r.epochs: r.accuracy for r in outcome.results if r.candidate == one}
        rungs = [known.get(n, "") for n in _rungs(outcome)]
        writer.writerow([one.offer.model, one.offer.px, one.cost, outcome.unit, one.interpolated, *rungs])
    return text.getvalue()


def _rungs(outcome: Outcome) -> list[int]:
    return sorted({result.epochs for result in outcome.results})


def _reached(outcome: Outcome) -> dict[Priced, float]:
    """The trained candidates, with the accuracy of their last rung, which counts most."""
    found: dict[Priced, float] = {}
    for result in sorted(outcome.results, key=lambda result: result.epochs):
        found[result.candidate] = result.accuracy
    return found


def _table(outcome: Outcome, rows: Sequence[Priced]) -> list[str]:
    """The trained candidates, with what each reached in every rung."""
    rungs = [f"after {n} epochs, %" for n in _rungs(outcome)]
    head = ["network", f"predicted, {outcome.unit}", "interpolated, %", *rungs]
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *(_row(outcome, one) for one in rows)]
    return [table_line(line) for line in lines]


def _row(outcome: Outcome, one: Priced) -> list[str]:
    known = {r.epochs: r.accuracy for r in outcome.results if r.candidate == one}
    rungs = [f"{100 * known[n]:.1f}" if n in known else "" for n in _rungs(outcome)]
    return [cell(one.offer.label), f"{one.cost:.4g}", f"{100 * one.interpolated:.0f}", *rungs]


def _others(outcome: Outcome) -> list[str]:
    """What half and twice the budget would give."""
    lines = []
    for word, times in zip(("half", "twice"), OTHER_BUDGETS, strict=True):
        limit = times * outcome.budget
        inside = [one for one in outcome.priced if one.cost <= limit and one.offer.macs]
        if not inside:
            lines.append(f"{word} of it ({limit:g} {outcome.unit}): nothing that was priced")
            continue
        best = max(inside, key=lambda one: one.offer.prior)
        gain = best.offer.prior - outcome.chosen.offer.prior if outcome.chosen.offer.macs else None
        said = "" if gain is None else f", {gain:+.1f} points on ImageNet by publication and image size"
        lines.append(f"{word} of it ({limit:g} {outcome.unit}): {best.offer.label}, {best.cost:.4g}{said}")
    return lines
