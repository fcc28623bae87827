"""Records that are older than the code they measure, and what measuring them again would cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recorded import digest, measures
from recorded.arguments import RECORDS
from recorded.record import Part, Record


@dataclass(frozen=True)
class Stale:
    """Parts of a record that are old in the same way."""

    name: str
    parts: tuple[str, ...]
    whole: bool  # all parts are
    date: str
    commit: str
    why: tuple[str, ...]
    minutes: float | None  # None where it is not known
    least_minutes: float  # of the processor, as far as rows say so
    command: str

    def __str__(self) -> str:
        named = "" if self.whole or self.parts == ("",) else f" ({', '.join(self.parts)})"
        return f"{self.name}{named}: {', '.join(self.why)}"


def records(folder: Path = RECORDS) -> list[Record]:
    """Every record there is, by name."""
    return [Record.load(path.stem, folder) for path in sorted(folder.glob("*.json"))]


def stale(found: Iterable[Record]) -> list[Stale]:
    """What is not of today's code, or cannot be shown to be."""
    old = []
    for record in found:
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, part in record.parts.items():
            if why := reasons(part, measures.of_part(record.name, name)):
                groups.setdefault(why, []).append(name)
        old += [_stale(record, tuple(names), why) for why, names in groups.items()]
    return old


def reasons(part: Part, packages: Iterable[str]) -> tuple[str, ...]:
    """Why a part is old: each package that is another now, with its changed modules where git can tell them."""
    if part.taken_over:
        return ("taken over from an older page",)
    now = digest.packages(packages)
    why = []
    for package, code in now.items():
        then = part.measures.get(package)
        if then is None or code is None:
            why.append(f"{package} was not there yet" if then is None else f"{package} is gone")
        elif then != code:
            changed = _changed(package, part)
            why.append(f"{package}: {', '.join(changed)}" if changed else package)
    return tuple(why)


def _changed(package: str, part: Part) -> list[str]:
    """Modules whose code differs from that of the part's commit; none where it was not that commit's."""
    before = digest.modules(package, part.commit) if part.commit else {}
    if digest.of_package(before) != part.measures[package]:
        return []
    now = digest.modules(package)
    names = sorted(name for name in before | now if before.get(name) != now.get(name))
    return [name.removesuffix(".py") for name in names]


def _stale(record: Record, names: tuple[str, ...], why: tuple[str, ...]) -> Stale:
    parts, whole = [record.parts[name] for name in names], len(names) == len(record.parts)
    seconds = [part.seconds for part in parts]
    known = [s for s in seconds if s is not None]
    return Stale(
        name=record.name,
        parts=names,
        whole=whole,
        date=min(part.date for part in parts)[:10],
        commit=", ".join(dict.fromkeys((part.commit or "unknown")[:7] for part in parts)),
        why=why,
        minutes=sum(known) / 60 if len(known) == len(seconds) else None,
        least_minutes=sum(map(_cpu_minutes, parts)),
        command=_command(parts, whole),
    )


def _cpu_minutes(part: Part) -> float:
    """What the rows of a part say that it took."""
    rows = [row for table in part.tables.values() for row in table]
    return float(sum(value for row in rows for key, value in row.items() if key.endswith("cpu_minutes")))


def _command(parts: list[Part], whole: bool) -> str:
    """What measures these parts: with one call for each command they were measured by."""
    calls: dict[str, dict[str, list[str]]] = {}
    for part in parts:
        chosen = calls.setdefault(part.command, {})
        if part.selection:
            flag, *names = part.selection
            chosen[flag] = [*chosen.get(flag, ()), *(n for n in names if n not in chosen.get(flag, ()))]
    words = (
        command if whole else " ".join([command, *(w for flag, names in chosen.items() for w in (flag, *names))])
        for command, chosen in calls.items()
    )
    return "; ".join(words)
