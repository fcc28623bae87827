"""Where results live, and what made them.

A run is a directory `runs/<model>/<stage>-<key>`. Its key is a hash of everything that determines the result, so the
same request finds the finished run instead of computing it again. A directory is written as `<name>.partial` and
renamed when complete: it is whole or it is not there.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from tfcompact.errors import Busy, DamagedFile, UserError
from tfcompact.files import sweep, sync, sync_entries, write_json
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.runs.environment import git_state, machine, versions

ROOT = Path("runs")
REMEDY = "the run is damaged, remove its directory"
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run directory. Nothing in it changes any more."""

    path: Path

    @property
    def name(self) -> str:
        """`fit-3f9a10c2`."""
        return self.path.name

    @property
    def stage(self) -> str:
        """`fit`."""
        return self.name.rpartition("-")[0]

    @property
    def model(self) -> str:
        """The architecture's name: the directory above."""
        return self.path.parent.name

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What made this run: every option spelled out, versions, machine, times, data digest, parent."""
        file = self.path / "provenance.json"
        content: dict[str, Any] = read_json_file(file)
        if not _is_of_a_run(content):
            raise DamagedFile(file, "does not say what a run says of itself", REMEDY)
        return content

    @cached_property
    def notes(self) -> dict[str, Any]:
        """What the stage had to say about its result."""
        file = self.path / "notes.json"
        return read_json_file(file) if file.exists() else {}

    @property
    def model_sha256(self) -> str | None:
        """The sha256 of its `model.h5` when it was written; None for a run without one, or of an earlier version."""
        found: str | None = self.provenance.get("model_sha256")
        return found

    @property
    def px(self) -> int:
        """The side in px of the images that its network takes."""
        px: int = self.provenance["inputs"]["px"]
        return px

    @property
    def normalization(self) -> Normalization:
        """What its network expects of a pixel."""
        return Normalization.from_json(self.provenance["inputs"]["normalization"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, in the order of its network's outputs."""
        return tuple(self.provenance["data"]["classes"])

    @property
    def parent(self) -> Run | None:
        """The run this one started from."""
        name = self.provenance["inputs"]["parent"]
        return None if name is None else Run(self.path.parent / name)

    @property
    def chain(self) -> tuple[Run, ...]:
        """This run and its ancestors, oldest first."""
        found = [self]
        while (parent := found[-1].parent) is not None:
            if parent in found:
                raise DamagedFile(self.path / "provenance.json", "says that a run came from itself", REMEDY)
            found.append(parent)
        return tuple(reversed(found))

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The exported files of an `export` run; empty for other stages."""
        file = self.path / "artifacts.json"
        if not file.exists():
            return ()
        rows = read_json_file(file)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise DamagedFile(file, "names no files", REMEDY)
        return tuple(Artifact.from_json(row) for row in rows)


def key(inputs: Mapping[str, Any]) -> str:
    """Eight hex digits that name the result of these inputs (parent, stage, config, data digest, seed)."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:8]


def finished(root: Path = ROOT, model: str | None = None, stage: str | None = None) -> list[Run]:
    """All finished runs, oldest first; of one model or stage where given. A damaged one is left out, and told."""
    found = []
    for file in sorted(root.glob(f"{model or '*'}/{stage or '*'}-*/provenance.json")):
        if file.parent.name.endswith(".partial"):
            continue
        run = Run(file.parent)
        try:
            order = (run.provenance["finished"], run.name)
        except DamagedFile as error:
            if file.exists():  # else it was removed meanwhile
                LOG.warning("left out: %s", error)
            continue
        found.append((order, run))
    return [run for _, run in sorted(found, key=lambda pair: pair[0])]


def newest(root: Path, model: str, wanted: Callable[[Run], bool]) -> Run | None:
    """The newest finished run of `model` that is wanted, None where there is none."""
    found = [run for run in finished(root, model) if wanted(run)]
    return found[-1] if found else None


def find(root: Path, model: str, name: str) -> Run:
    """The finished run called `name` (`fit-3f9a10c2`) of `model`. Raises `UserError` that lists those there are."""
    run = Run(root / model / name)
    if name.endswith(".partial") or not (run.path / "provenance.json").is_file():
        known = [run.name for run in finished(root, model)]
        raise UserError(f"no finished run {model}/{name} under {root}; there are: {', '.join(known) or 'none'}")
    return run


@contextlib.contextmanager
def recording(
    root: Path, model: str, stage: str, inputs: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[Path]:
    """A directory to fill; it becomes the finished run when the block ends without an exception.

    `inputs` decide the run's key; `facts` are recorded beside them. A `.partial` directory left by a killed process
    is handed out again with what it holds, for the stage to resume.
    Raises `Busy` where another process is writing the same run, or has just finished it.
    """
    final = root / model / f"{stage}-{key(inputs)}"
    partial = final.with_name(final.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{partial} cannot be made ({error.strerror}); give another directory with --runs") from None
    started, clock, cpu = _now(), time.monotonic(), time.process_time()
    with _lock_of(partial, final) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another process is working on {partial}; wait for it, or stop it first") from None
        if final.exists():
            shutil.rmtree(partial)
            raise Busy(f"another process has just finished {final}; the same command now finds it")
        try:
            yield partial
        except UserError:
            if not (partial / "scratch").exists():  # nothing in it that a next call could go on from
                shutil.rmtree(partial)
            raise
        provenance = {
            "model": model,
            "stage": stage,
            "inputs": dict(inputs),
            "started": started,
            "finished": _after(finished(root, model)),
            "seconds": round(time.monotonic() - clock, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            **facts,
            "machine": machine(),
            "git": git_state(),
            "versions": versions(),
        }
        sweep(partial)  # what writers that were killed have left
        if (partial / "model.h5").is_file():
            with (partial / "model.h5").open("rb") as file:
                provenance["model_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        write_json(partial / "provenance.json", provenance)
        sync(partial)
        partial.rename(final)
        tidy(final)  # last: until the rename it is what a kill leaves to go on from
        sync_entries(final.parent)


def tidy(final: Path) -> None:
    """Removes from a finished run what was needed to finish it, and what a kill has left of that."""
    shutil.rmtree(final / "scratch", ignore_errors=True)
    (final / ".lock").unlink(missing_ok=True)


def _lock_of(partial: Path, final: Path) -> TextIO:
    """The lock file of a run that is being made. Raises `Busy` where another process just finished the run."""
    try:
        return (partial / ".lock").open("w")
    except FileNotFoundError:
        raise Busy(f"another process has just finished {final}; the same command now finds it") from None


def read_json_file(path: Path) -> Any:
    """The content of a run's file. Raises `DamagedFile` where it cannot be read."""
    if not path.is_file():  # a pipe would be waited for
        raise DamagedFile(path, "is no file" if path.exists() else "is not there", REMEDY)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(path, f"cannot be read as JSON ({error})", REMEDY) from None


def _is_of_a_run(content: Any) -> bool:
    """Whether it says what every run says of itself."""
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(inputs, dict) or not isinstance(content.get("finished"), str):
        return False
    return isinstance(inputs.get("parent", 0), str | None)


def _after(earlier: Sequence[Run]) -> str:
    """Now; where the clock was set back, just after the last of the runs: the newest stays the newest."""
    now = _now()
    if not earlier or now > (last := earlier[-1].provenance["finished"]):
        return now
    return (datetime.datetime.fromisoformat(last) + datetime.timedelta(microseconds=1)).isoformat(
        timespec="microseconds"
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
