"""The command line of a benchmark, and that line without what belongs to one machine."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorded import checkout

RECORDS = checkout.ROOT / "docs" / "results"


@dataclass(frozen=True)
class Call:
    """How a benchmark was called: its name, the command without paths of this machine, options, where records go."""

    name: str
    command: str
    options: dict[str, Any]
    records: Path


class Arguments(argparse.ArgumentParser):
    """The arguments of a benchmark. Optional ones of type `Path` say where things are kept and shape no result."""

    def __init__(self, script: str, doc: str | None) -> None:
        self._asked: list[argparse.Action] = []
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._name = Path(script).stem
        self._asked.clear()  # of --help
        self._selections: list[argparse.Action] = []
        self.add_argument("--records", type=Path, default=RECORDS, help="where the record goes (docs/results)")

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As argparse has it."""
        action = super().add_argument(*names, **options)
        self._asked.append(action)
        return action

    def add_selection(self, *names: str, **options: Any) -> None:
        """An argument that says which parts to measure; the record keeps its other parts."""
        self._selections.append(self.add_argument(*names, nargs=options.pop("nargs", "+"), **options))

    def call(self, options: argparse.Namespace) -> Call:
        """How it was called: what differs from the defaults is part of the command."""
        words, settings = [f"python tests/benchmarks/{self._name}.py"], {}
        for action in self._asked:
            value = getattr(options, action.dest)
            if action in self._selections or (action.option_strings and action.type is Path):
                continue
            value = [_portable(v) for v in value] if isinstance(value, (list, tuple)) else _portable(value)
            settings[action.dest] = value
            default = list(action.default) if isinstance(action.default, tuple) else action.default
            if value is None or value == default:
                continue
            words += action.option_strings[:1]
            if not isinstance(value, bool):
                words += map(str, value if isinstance(value, list) else [value])
        return Call(self._name, " ".join(words), settings, options.records)


def _portable(value: Any) -> Any:
    """`path/to/<name>` for a path, which is another one on each machine."""
    if not isinstance(value, (str, Path)) or os.sep not in str(value):
        return str(value) if isinstance(value, Path) else value
    return f"path/to/{Path(value).name}"
