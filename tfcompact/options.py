"""Options: a dataclass field that carries its own help text, and the checks configs share."""

import dataclasses
from collections.abc import Collection
from typing import Any

from tfcompact.errors import UnknownName, UserError


def opt(default: Any, help: str) -> Any:  # a field's declared type is the dataclass's business
    """A dataclass field with `default` and the text shown by `--help`."""
    return dataclasses.field(default=default, metadata={"help": help})


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raises `UserError` naming the option, what is allowed and what was given, unless `condition` holds."""
    if not condition:
        raise UserError(f"{name} must be {allowed}, not {value!r}")


def require_choice(kind: str, value: str, known: Collection[str]) -> None:
    """Raises `UnknownName` unless `value` is one of `known`."""
    if value not in known:
        raise UnknownName(kind, value, known)
