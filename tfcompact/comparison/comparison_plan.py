"""What is compared: rows, each a chain of stages with options that ends in a file. A plan is a TOML file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tfcompact import models, stages
from tfcompact.errors import UnknownName, UserError
from tfcompact.pipeline.recipe import configured, merged
from tfcompact.records.formats import FORMATS, INTEGER

PLANS = Path(__file__).parent / "plans"
TEACHER = "@teacher"
"""What an option of a step says where it means the run of the plan's teacher."""
ROW_KEYS = ("name", "class", "steps", "with", "model", "px", "ships", "plain")
CLASSES = (
    *("the network itself", "compact model", "decomposition", "quantization", "sparsification"),
    *("knowledge transfer", "architecture search", "chain"),
)
Options = Mapping[str, Any]


class Step(NamedTuple):
    """A stage with its options; `id` is what the plan calls it."""

    id: str
    stage: str
    options: Options


@dataclass(frozen=True)
class Row:
    """A line of the comparison. `model` is another network than the one asked for, `px` a share of its image's side.

    `ships` is the format of the file that is judged and weighed. Rows that are `plain` are what the others are
    compared with at equal cost.
    """

    name: str
    kind: str
    steps: tuple[Step, ...]
    model: str | None = None
    px: float = 1.0
    ships: str = "int8"
    plain: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether a step learns from the plan's teacher."""
        return any(TEACHER in step.options.values() for step in self.steps)


@dataclass(frozen=True)
class Plan:
    """Rows, the chain of the teacher that some of them have, and the options of `export`."""

    name: str
    rows: tuple[Row, ...]
    teacher: Row | None
    export: Options

    def only(self, names: Sequence[str]) -> Plan:
        """The plan with these rows alone. Raises `UnknownName` for one that there is not."""
        known = [row.name for row in self.rows]
        for name in names:
            if name not in known:
                raise UnknownName(f"row of plan {self.name}", name, known)
        return replace(self, rows=tuple(row for row in self.rows if row.name in names))


def load(name: str, overrides: Mapping[str, Options] | None = None) -> Plan:
    """A plan of tfcompact's by its name, or any `.toml` file, with other options for steps by their ids.

    Raises `UnknownName` for a plan, step, stage, option or key that there is none of, and `UserError` for a malformed
    file or a value that does not fit: all before anything is trained.
    """
    content = _content(name)
    for key in content:
        if key not in ("steps", "teacher", "export", "row"):
            raise UnknownName(f"key of plan {name}", key, ("steps", "teacher", "export", "row"))
    steps = _merged(_table(content, "steps", f"plan {name}"), overrides or {}, f"step of plan {name}")
    epochs = {id: options.get("epochs", 0) for id, options in steps.items()}
    steps = {id: _with_epochs(id, options, epochs) for id, options in steps.items()}
    listed = content.get("row", [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise UserError(f"the rows of plan {name} must be tables, each under [[row]]")
    rows = [_row(row, steps, f"row {number} of plan {name}") for number, row in enumerate(listed, 1)]
    if not rows:
        raise UserError(f"plan {name} has no row; give it one: [[row]]")
    if twice := [row.name for i, row in enumerate(rows) if row.name in [before.name for before in rows[:i]]]:
        raise UserError(f"two rows of plan {name} are called {twice[0]!r}")
    teacher = _table(content, "teacher", f"plan {name}", of_tables=False)
    made = (
        _row({"name": "teacher", "class": "chain"} | teacher, steps, f"the teacher of plan {name}")
        if teacher
        else None
    )
    for row in rows:
        if row.needs_teacher and made is None:
            raise UserError(f"row {row.name!r} of plan {name} learns from a teacher; the plan has no [teacher]")
    export = _table(content, "export", f"plan {name}", of_tables=False)
    configured("export", export)
    _check_unused(steps, overrides or {}, [*rows, *([made] if made else [])])
    return Plan(name, tuple(rows), made, export)


def _check_unused(steps: Mapping[str, Options], overrides: Mapping[str, Options], rows: Sequence[Row]) -> None:
    """Raises `UserError` for an option of a step that no row has: of such a step only the epochs count."""
    used = {step.id for row in rows for step in row.steps}
    for id, options in steps.items():
        if id not in used:
            configured(str(options.get("stage", "")), {k: v for k, v in options.items() if k != "stage"}, id)
            if others := [option for option in overrides.get(id, {}) if option != "epochs"]:
                raise UserError(f"no row has step {id}, of which only the epochs count; {others[0]} would do nothing")


def _content(name: str) -> dict[str, Any]:
    path = Path(name) if name.endswith(".toml") else PLANS / f"{name}.toml"
    if not path.is_file():
        raise UnknownName("plan", name, sorted(found.stem for found in PLANS.glob("*.toml")))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name} is not a plan: {error}") from None


def _table(content: Mapping[str, Any], key: str, place: str, *, of_tables: bool = True) -> dict[str, Any]:
    """A table of the plan or of a row, which may hold nothing but tables."""
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise UserError(f"{key} of {place} must be a table, not {found!r}")
    for name, value in found.items():
        if of_tables and not isinstance(value, dict):
            raise UserError(f"{key} of {place} must hold tables; {name} is {value!r}")
    return found


def _merged(tables: Mapping[str, Options], overrides: Mapping[str, Options], what: str) -> dict[str, Options]:
    for id in overrides:
        if id not in tables:
            raise UnknownName(what, id, list(tables))
    return {id: merged(options, overrides.get(id, {})) for id, options in tables.items()}


def _with_epochs(id: str, options: Options, epochs: Mapping[str, Any], seen: tuple[str, ...] = ()) -> Options:
    """The options with `epochs` as a number, where they are a sum of other steps' epochs."""
    asked = options.get("epochs")
    if not isinstance(asked, str):
        return options
    total = 0
    for other in (part.strip() for part in asked.split("+")):
        if other not in epochs:
            raise UnknownName(f"step in the epochs of {id}", other, list(epochs))
        if other in (id, *seen):
            raise UserError(f"the epochs of step {id} go round in a circle: {asked}")
        count = _with_epochs(other, {"epochs": epochs[other]}, epochs, (*seen, id))["epochs"]
        if not isinstance(count, int):
            raise UserError(f"the epochs of step {other} must be a whole number, not {count!r}")
        total += count
    return {**options, "epochs": total}


def _row(row: Mapping[str, Any], steps: Mapping[str, Options], place: str) -> Row:
    """A row, checked to the last option."""
    for key in row:
        if key not in ROW_KEYS:
            raise UnknownName(f"key of {place}", key, ROW_KEYS)
    name, kind, chain = row.get("name"), row.get("class"), row.get("steps")
    if not isinstance(name, str) or not name:
        raise UserError(f"{place} has no name")
    if kind not in CLASSES:
        raise UnknownName(f"class of row {name!r}", str(kind), CLASSES)
    if not isinstance(chain, list) or not chain:
        raise UserError(f"row {name!r} has no steps; give it a list of them")
    overrides = _table(row, "with", f"row {name!r}")
    made = []
    for id in chain:
        if not isinstance(id, str) or id not in steps:
            raise UnknownName(f"step of row {name!r}", str(id), list(steps))
        options = merged(steps[id], overrides.get(id, {}))
        stage = str(options.pop("stage", ""))
        configured(stage, options, id)  # raises for what does not fit
        made.append(Step(id, stage, options))
    if unused := [id for id in overrides if id not in chain]:
        raise UnknownName(f"step that row {name!r} has options for", unused[0], chain)
    if row.get("model") is not None:
        models.spec(str(row["model"]))
    px, plain = row.get("px", 1.0), row.get("plain", False)
    if isinstance(px, bool) or not isinstance(px, int | float) or not 0 < px < math.inf:
        raise UserError(f"px of row {name!r} must be a share of the image's side, more than 0, not {px!r}")
    if not isinstance(plain, bool):
        raise UserError(f"plain of row {name!r} must be true or false, not {plain!r}")
    found = Row(
        name,
        kind,
        tuple(made),
        row.get("model"),
        float(px),
        row.get("ships", "int8"),
        plain,
    )
    if found.ships not in FORMATS:
        raise UnknownName(f"format that row {name!r} ships", str(found.ships), FORMATS)
    gives = stages.stage(made[-1].stage).gives
    if name != "teacher" and (found.ships in INTEGER) != (gives == "quantized"):
        raise UserError(
            f"row {name!r} ships {found.ships} and ends in {made[-1].id}, which gives a {gives} network; "
            + ("end it in quantize" if found.ships in INTEGER else 'say what it ships: ships = "int8"')
        )
    return found
