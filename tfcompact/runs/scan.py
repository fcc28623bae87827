"""Reading what others wrote into the runs directory, when some of it may be damaged.

`store` raises at the first damaged file, which is right for a stage. A report or a page must show the rest as well,
so reading returns a `Scan`: what could be read, and one line for each file that could not. Nothing outside the runs
directory is opened, whatever a file in it says.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tfcompact.errors import DamagedFile, UserError
from tfcompact.runs import measurements

T = TypeVar("T")
MALFORMED = (UserError, OSError, TypeError, ValueError, KeyError, AttributeError, RecursionError)
"""What reading a JSON file of the wrong content can raise: it may hold a list where a mapping is expected."""


@dataclass(frozen=True)
class Scan(Generic[T]):
    """Everything that could be read, and one line for each file that could not."""

    rows: tuple[T, ...]
    damaged: tuple[str, ...]

    def whole(self) -> tuple[T, ...]:
        """The rows. Raises `UserError` with the first damaged file's line, if there is one."""
        if self.damaged:
            raise UserError(self.damaged[0])
        return self.rows


def scan(root: Path, pattern: str, read: Callable[[Path], T]) -> Scan[T]:
    """What `read` makes of every file that matches; one that it cannot use becomes a line instead."""
    rows: list[T] = []
    damaged: list[str] = []
    for file in sorted(root.glob(pattern)):
        try:
            if not file.is_file():  # a pipe would be waited for; what was removed or renamed meanwhile is no damage
                if file.exists():
                    raise UserError("it is no file")
                continue
            if not under(file, root):
                raise UserError("it is a link that leads out of the runs directory")
            rows.append(read(file))
        except MALFORMED as error:
            if not file.exists():
                continue
            culprit = error.file if isinstance(error, DamagedFile) else file
            damaged.append(f"{culprit} cannot be used ({_reason(error)}); {_remedy(culprit)}")
    return Scan(tuple(rows), tuple(dict.fromkeys(damaged)))


def _reason(error: Exception) -> str:
    if isinstance(error, DamagedFile):
        return error.reason
    if isinstance(error, UserError):
        return str(error)
    return f"key {error} is missing" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"


def _remedy(file: Path) -> str:
    model = file.parent.parent.name
    if file.parent.name == measurements.MEASUREMENTS:
        return f"remove it, then: make measure MODEL={model}"
    return f"remove {file.parent}, then run its stage again"


def read_json(file: Path) -> Any:
    """The file's content. Raises `DamagedFile` where it is not JSON, `OSError` where it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except ValueError as error:
        raise DamagedFile(file, f"not JSON: {error}", _remedy(file)) from None


def _finite(text: str) -> float:
    """The number. Raises `ValueError` for one that is too large, or none."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def under(path: Path, root: Path) -> bool:
    """Whether the path, links followed, lies in the runs directory."""
    # `resolve` raises on a link that leads to itself, which this leaves as it is.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def only(model: str | None) -> str:
    """A pattern for one model's directory, or for all; a name's own wildcards mean nothing."""
    if model is None:
        return "*"
    return "".join(f"[{c}]" if c in "*?[" else c for c in model)
