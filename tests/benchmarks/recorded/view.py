"""A record as docs/results.md sees it: rows to choose from, tables, and how each of them came about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recorded import tables
from recorded.record import Part, Record, Row


class Rows(list[Row]):
    """Rows of a table, which a page can choose from and compute with."""

    def where(self, **wanted: Any) -> Rows:
        """Those in which these columns have these values. Raises `LookupError` where there are none."""
        found = Rows(row for row in self if all(row[key] == value for key, value in wanted.items()))
        if not found:
            raise LookupError(f"no row with {wanted}")
        return found

    def one(self, **wanted: Any) -> Row:
        """The only one. Raises `LookupError` where there is none, or more."""
        found = self.where(**wanted)
        if len(found) > 1:
            raise LookupError(f"{len(found)} rows with {wanted}")
        return found[0]

    def of(self, key: str) -> list[Any]:
        """A column: what is there of it."""
        return [row[key] for row in self if row[key] is not None]

    def lowest(self, key: str) -> Row:
        """The row with the lowest value of a column."""
        return min((row for row in self if row[key] is not None), key=lambda row: row[key])

    def highest(self, key: str) -> Row:
        """The row with the highest value of a column."""
        return max((row for row in self if row[key] is not None), key=lambda row: row[key])


class View:
    """A record for a template."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.name = record.name

    @property
    def command(self) -> str:
        """What measures all of it."""
        return next(iter(self._record.parts.values())).command

    def part(self, name: str) -> View:
        """One part alone. Raises `LookupError` where there is none of that name."""
        if name not in self._record.parts:
            raise LookupError(f"no part {name} in {self.name}; there are: {', '.join(self._record.parts)}")
        return View(Record(self.name, {name: self._record.parts[name]}))

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return any(table in part.tables for part in self._record.parts.values())

    @property
    def parts(self) -> dict[str, View]:
        """Each part alone, by its name."""
        return {name: self.part(name) for name in self._record.parts}

    @property
    def taken_over(self) -> list[str]:
        """The parts that nobody measured again since the page was typed by hand."""
        return [name for name, part in self._record.parts.items() if part.taken_over]

    @property
    def seconds(self) -> float | None:
        """How long it took, where all parts say so."""
        seconds = [part.seconds for part in self._record.parts.values()]
        return None if None in seconds else sum(s for s in seconds if s is not None)

    def rows(self, table: str = "rows") -> Rows:
        """All rows of a table, a leaderboard's with their latencies. Raises `LookupError` where there are none."""
        parts = self._record.parts.values()
        found = Rows(row for part in parts for row in part.tables.get(table, ()))
        if not found:
            raise LookupError(f"no table {table} in {self.name}")
        if self.name == "leaderboard" and table == "rows":
            return with_latencies(found, [row for part in parts for row in part.tables.get("latency", ())])
        return found

    def table(self, table: str = "rows", limit: int | None = None) -> str:
        """A table in Markdown, and under it how it came about."""
        rows = self.rows(table)[:limit]
        return f"{tables.markdown(tables.of(self.name, table), rows)}\n\n{self.made(table)}"

    def made(self, table: str = "rows") -> str:
        """When, where and with which commit a table was made; parts that were made apart have a line each."""
        lines = self._captions(table)
        if self.name == "leaderboard" and table == "rows":
            lines += [f"Latencies: {line}" for line in self._captions("latency")]
        return "  \n".join(f"*{line}*" for line in lines)

    def _captions(self, table: str) -> list[str]:
        groups: dict[str, list[str]] = {}
        for name, part in self._record.parts.items():
            if table in part.tables:
                groups.setdefault(_made(part), []).append(name)
        if len(groups) == 1:
            return [f"{text[0].upper()}{text[1:]}{_took(self._of(names))}" for text, names in groups.items()]
        most = max(groups, key=lambda text: len(groups[text]), default="")
        others = most if len(groups.get(most, ())) > 2 else ""
        return [
            f"{'The others' if text == others else _listed(names, table)}: {text}{_took(self._of(names))}"
            for text, names in sorted(groups.items(), key=lambda group: group[0] == others)
        ]

    def _of(self, names: Iterable[str]) -> list[Part]:
        return [self._record.parts[name] for name in names]


def with_latencies(rows: Rows, latencies: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows of the board with what their files were timed to take; None where other files of the network were."""
    timed = {(row["model"], row["run"]): row for row in latencies}
    columns = [f"{format}_ms_{threads}t" for format in ("float32", "int8") for threads in (1, 2)]
    nothing = dict.fromkeys(columns)
    return Rows(row | {k: timed.get((row["model"], row["run"]), nothing)[k] for k in columns} for row in rows)


def duration(seconds: float) -> str:
    """`2 min 54 s`, with no more than two units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _made(part: Part) -> str:
    """All but how long it took."""
    machine = part.machine
    where = f"{machine.processor}, {machine.cores} cores, {machine.memory_gb} GB, {machine.system}"
    if part.taken_over:
        return f"taken over from the page of {_short(part)} ({part.date[:10]}), not run again since; {where}"
    dirty = ", dirty" if part.dirty else ""
    threads = "1 thread" if part.threads == 1 else f"{part.threads} threads"
    return f"made on {part.date[:10]} with commit {_short(part)}{dirty}; {where}; {threads}"


def _took(parts: list[Part]) -> str:
    """How long the parts took together, where that is known."""
    known = [part.seconds for part in parts if part.seconds is not None]
    if not known:
        return "."
    more = " and what earlier calls had kept" if any(part.continued for part in parts) else ""
    loads = [part.load for part in parts if part.load is not None]
    ends = dict.fromkeys(f"{load:.1f}" for load in (min(loads), max(loads))) if loads else ()
    return f"; {duration(sum(known))}{more}{'; load before: ' if ends else ''}{' to '.join(ends)}."


def _listed(names: Iterable[str], table: str) -> str:
    return ", ".join(name.removesuffix(f" {table}") for name in names)


def _short(part: Part) -> str:
    return part.commit[:7] if part.commit else "unknown"
