"""What every record has in common: it round-trips through JSON and refuses what it does not know."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from tfcompact.errors import UserError


class Record:
    """A frozen dataclass that round-trips through JSON and refuses unknown or missing keys."""

    def to_json(self) -> dict[str, Any]:
        """This record as plain dicts, lists and scalars."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Raises `UserError` on a key that is unknown or missing."""
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(data) - set(fields))
        if unknown:
            raise UserError(f"{cls.__name__}: unknown key {unknown[0]!r}; known: {', '.join(fields)}")
        optional = {
            name
            for name, f in fields.items()
            if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        }
        missing = sorted(set(fields) - set(data) - optional)
        if missing:
            raise UserError(f"{cls.__name__}: key {missing[0]!r} is missing")
        return cls(**{name: cls._decode(name, value) for name, value in data.items()})

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value
