"""Words of the command line as dataclasses whose fields carry their help, by way of tyro; its errors as one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from tfcompact.errors import UserError


def positional() -> Any:
    """Marks a field that is given without its name."""
    import tyro

    return tyro.conf.Positional


def shown_as(name: str, help: str) -> Any:
    """Marks a field that the help shows as `name`."""
    import tyro

    return tyro.conf.arg(metavar=name, help=help)


def command(*parts: type, extra: Sequence[tuple[str, Any, Any]] = (), without: Sequence[str] = ()) -> type:
    """One flat dataclass with the fields of all parts; `extra` fields win over those of the same name.

    Fields of the names `without` cannot be given: `part` leaves them at their defaults.
    """
    fields: dict[str, tuple[str, Any, Any]] = {}
    for part in parts:
        hints = typing.get_type_hints(part, include_extras=True)
        for f in dataclasses.fields(part):
            if f.name not in without:
                fields[f.name] = (f.name, hints[f.name], _same_default(f))
    fields |= {row[0]: row for row in extra}
    return dataclasses.make_dataclass("Options", list(fields.values()), frozen=True)


def parse(command: type, name: str, words: Sequence[str], description: str) -> Any:
    """`words` as an instance of `command`, a dataclass whose fields carry their help in their metadata.

    `description` is what `tfcompact NAME --help` says first. Raises `UserError` for words that do not fit.
    """
    import tyro

    hints = typing.get_type_hints(command, include_extras=True)
    annotated = []
    for f in dataclasses.fields(command):
        help = f.metadata.get("help")
        kind = Annotated[hints[f.name], tyro.conf.arg(help=help)] if help else hints[f.name]
        annotated.append((f.name, kind, _same_default(f) if _has_default(f) else dataclasses.field()))
    described = dataclasses.make_dataclass("Options", annotated, frozen=True)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(described, prog=f"tfcompact {name}", description=description, args=list(words))
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(heard.getvalue(), name, words, described)) from None
        raise


def part(options: Any, part: type) -> Any:
    """The fields of `options` that belong to the dataclass `part`, as an instance of it."""
    given = [f.name for f in dataclasses.fields(part) if hasattr(options, f.name)]
    return part(**{name: getattr(options, name) for name in given})


def add_override(overrides: dict[str, dict[str, Any]], item: str) -> None:
    """`stage.option=value` into the table. The value is read as TOML; what is not TOML is text."""
    import tomllib

    place, equals, text = item.partition("=")
    stage, dot, option = place.partition(".")
    if not (equals and dot and stage and option):
        raise UserError(f"--set takes stage.option=value, for example fit.epochs=30, not {item!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = overrides.setdefault(stage, {})
    *groups, last = option.split(".")
    for group in groups:  # fit.augment.flip
        table = table.setdefault(group, {})
    table[last] = value


def _same_default(f: Any) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=f.default_factory, metadata=f.metadata)
    return dataclasses.field(default=f.default, metadata=f.metadata)


def _one_line(box: str, name: str, words: Sequence[str], command: type) -> str:
    """What the parser put into a box, as a line; a misspelt option with the nearest one."""
    from tfcompact.errors import suggestion

    known = [f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(command)]
    wrong = [
        word for word in words if word.startswith("--") and word.partition("=")[0].partition(".")[0] not in known
    ]
    if wrong and "Unrecognized" in box:
        return f"no option {wrong[0]}; {suggestion(wrong[0], known)}"
    # A box drawn with lines, or without where the terminal has only ASCII: a title, what is wrong, perhaps in several
    # lines, and below a rule what the help says of it.
    lines = [line.strip("│╭╮╰╯|+ ") for line in box.splitlines()]
    title = next((i for i, line in enumerate(lines) if not _is_rule(line)), 0)
    below = itertools.dropwhile(_is_rule, lines[title + 1 :])
    wrong_part = itertools.takewhile(lambda line: not _is_rule(line), below)
    said = [line for line in wrong_part if not line.startswith("For full helptext")]
    line = " ".join(said[:2] if said[:1] and said[0].endswith(":") else said).rstrip(".")
    return f"{line or 'these options cannot be read'}; tfcompact {name} --help lists them"


def _is_rule(line: str) -> bool:
    """Whether a box's line has no words."""
    return not line.strip("-─")


def _has_default(f: Any) -> bool:
    return f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
