"""What a benchmark measured, and how that came about, as one JSON file.

    arguments = Arguments(__file__, __doc__)
    options = arguments.parse_args()
    with recording(arguments.call(options)) as book:
        book.add(network="mobilenet_v2", accuracy=67.1)

writes docs/results/<script>.json when the block ends without an exception, and nothing otherwise. A record is made of
parts, each with its own date, commit and machine: one network of many can be measured again without the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from recorded import checkout, digest, measures
from recorded.arguments import RECORDS, Call
from tfcompact import files
from tfcompact.runs import environment, store

Row = dict[str, Any]  # of scalars


@dataclass(frozen=True)
class Machine:
    """Where it ran. `processor` is the name that Linux gives it."""

    processor: str
    cores: int
    memory_gb: int
    system: str


@dataclass(frozen=True)
class Part:
    """The tables that one call measured. A part that was `taken_over` from an older page has that page's commit and
    date, and what nobody wrote down then is None."""

    tables: dict[str, list[Row]]
    command: str  # without `selection`
    selection: list[str]  # the words more that measure this part alone
    options: dict[str, Any]
    date: str  # of the start, ISO 8601
    commit: str | None
    dirty: bool | None
    machine: Machine
    threads: int | None
    load: float | None  # of one minute, at the start
    versions: dict[str, str]
    seconds: float | None
    cpu_seconds: float | None  # of all threads and children
    measures: dict[str, str | None]  # package of tfcompact -> digest of its code, None where it was not there yet
    continued: bool = False  # earlier calls had done some of it, whose time is not known
    taken_over: bool = False


@dataclass(frozen=True)
class Record:
    """All parts of one benchmark by their names; one that is measured as a whole has a single part, named ''."""

    name: str
    parts: dict[str, Part]

    @classmethod
    def load(cls, name: str, folder: Path = RECORDS) -> Record:
        """The record in a folder. Raises `FileNotFoundError` where there is none, `TypeError` on unknown keys."""
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        parts = {
            part: Part(**{**row, "machine": Machine(**row["machine"])}) for part, row in content["parts"].items()
        }
        return cls(content["name"], parts)

    def save(self, folder: Path = RECORDS) -> Path:
        """Writes the file so that a reader sees the old one or the new one; a row of a table is one line."""
        path = folder / f"{self.name}.json"
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(path, _json(dataclasses.asdict(self)) + "\n")
        return path


class Book:
    """What a benchmark writes while it measures."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {}
        self.continued = False  # whether earlier calls had kept some of what is measured, in a cache by content
        self._provenances: dict[Path, Mapping[str, Any]] = {}

    def add(self, table: str = "rows", /, **row: Any) -> Row:
        """One more row of a table, and back."""
        self.tables.setdefault(table, []).append(row)
        return row

    def rests_on(self, *made: store.Run) -> None:
        """Says that rows are figures of these runs. Those that an earlier call made count with their own time, and
        the oldest of them gives the record its date and commit: a result is as old as what it was computed from."""
        self._provenances |= {run.path: run.provenance for run in made}

    def earlier(self, start: str) -> list[Mapping[str, Any]]:
        """What is known of the runs begun before this time, the oldest first."""
        found = (known for known in self._provenances.values() if known["started"] < start)
        return sorted(found, key=lambda known: str(known["started"]))


@contextlib.contextmanager
def recording(
    call: Call, part: str | Callable[[Row], str] = "", *, flag: str = "", threads: int | None = None
) -> Iterator[Book]:
    """A book to write into, which becomes the record, or parts of it, when the block ends without an exception.

    `part` is the part's name, or gives that of each row where several are measured together. Its first word, after
    `flag`, is what measures this part alone. `threads` is how many did the work: of the runtime where files were
    timed, else as many as there are cores.
    """
    book, load, code = Book(), round(os.getloadavg()[0], 2), digest.packages(measures.PACKAGES)
    commit, dirty = checkout.head(), checkout.dirty()
    facts = Facts(_now(), commit, dirty, environment.versions(), time.monotonic(), _cpu_seconds(), load, code)
    yield book
    facts = facts.ended(book)
    groups: dict[str, dict[str, list[Row]]] = {}
    for table, rows in book.tables.items():
        for row in rows:
            group = groups.setdefault(part(row) if callable(part) else part, {})
            group.setdefault(table, []).append(_rounded(row))
    if not groups:
        raise ValueError(f"{call.name} measured nothing")
    made = {
        name: Part(
            tables=group,
            command=call.command,
            selection=[flag, name.partition(" ")[0]] if flag else [],
            options=call.options,
            date=facts.start[:19] + "Z",
            commit=facts.commit,
            dirty=facts.dirty,
            machine=machine(),
            threads=threads or len(os.sched_getaffinity(0)),
            load=facts.load,
            versions=facts.versions,
            seconds=round(facts.seconds / len(groups), 1),
            cpu_seconds=round(facts.cpu_seconds / len(groups), 1),
            measures={package: facts.code[package] for package in measures.of_part(call.name, name)},
            continued=book.continued,
        )
        for name, group in groups.items()
    }
    print(_put(call, made))


@dataclass(frozen=True)
class Facts:
    """What holds for all that is measured in one block. Until it has ended, the seconds are readings of clocks."""

    start: str
    commit: str | None
    dirty: bool
    versions: dict[str, str]
    seconds: float
    cpu_seconds: float
    load: float | None
    code: dict[str, str | None]

    def ended(self, book: Book) -> Facts:
        """The same at the end of the block, with the runs of earlier calls that the book rests on."""
        earlier = book.earlier(self.start)
        seconds = time.monotonic() - self.seconds + sum(known["seconds"] for known in earlier)
        cpu_seconds = _cpu_seconds() - self.cpu_seconds + sum(known["cpu_seconds"] for known in earlier)
        now = dataclasses.replace(self, seconds=seconds, cpu_seconds=cpu_seconds)
        if not earlier:
            return now
        git = earlier[0]["git"] or {"commit": None, "dirty": True}
        code = self.code
        if git["commit"] != self.commit:
            code = dict.fromkeys(code) if git["dirty"] else digest.packages(code, git["commit"])
        return dataclasses.replace(
            now,
            start=earlier[0]["started"],
            commit=git["commit"],
            dirty=self.dirty or any(known["git"] is None or known["git"]["dirty"] for known in earlier),
            versions=earlier[0]["versions"],
            load=None,
            code=code,
        )


def machine() -> Machine:
    """The machine this process runs on."""
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.platform()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_gb = round(psutil.virtual_memory().total / 1e9)
    return Machine((names or [platform.machine()])[0], os.cpu_count() or 1, memory_gb, system)


def _put(call: Call, made: dict[str, Part]) -> Path:
    """Saves parts in their record. One without a name is the whole; those with one leave the others as they are."""
    parts: dict[str, Part] = {}
    if "" not in made and (call.records / f"{call.name}.json").exists():
        parts = {name: old for name, old in Record.load(call.name, call.records).parts.items() if name}
    return Record(call.name, parts | made).save(call.records)


def _rounded(row: Row) -> Row:
    """With six digits of each number, more than any of these measurements has."""
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}


def _json(value: Any, indent: str = "") -> str:
    """JSON in which whatever holds only scalars is one line, so that a changed row is a changed line."""
    inside = list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    if not any(isinstance(each, (dict, list)) for each in inside):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {_json(each, deeper)}" for key, each in value.items()]
    else:
        lines = [_json(each, deeper) for each in inside]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}{closing}"


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
