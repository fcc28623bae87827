"""How a run came to be: its ancestors, and which of them is the float network behind it. No TensorFlow here.

A run is asked strictly: what is damaged raises. `made_by`, `ancestors` and `provenance` are for reports and pages: a
run that is gone counts for nothing, and nothing outside the runs directory is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcompact.errors import UserError
from tfcompact.records.formats import INTEGER
from tfcompact.records.network import Kind, Network
from tfcompact.runs import store
from tfcompact.runs.scan import read_json, under


def network(run: store.Run) -> Kind | None:
    """The kind of network that a run holds; None where it holds none, as an export does.

    Runs that were made before this was recorded say it by their notes: ranges are a quantized network's.
    """
    if "gives" in run.provenance:
        found: Kind | None = run.provenance["gives"]
        return found
    if run.artifacts:
        return None
    return "quantized" if "ranges" in run.notes else "float"


ON_THE_WAY = "step"
"""The key of a run's inputs that says that it is a step on the way to another one."""


def is_result(run: store.Run) -> bool:
    """Whether the run is what a stage was asked for, not a step on its way there."""
    return ON_THE_WAY not in run.provenance["inputs"]


def holds_result(run: store.Run) -> bool:
    """Whether the run holds a network that a stage was asked for."""
    return network(run) is not None and is_result(run)


def network_record(run: store.Run) -> Network:
    """What the run is a run of. Runs that were made before this was recorded are all of rows of the zoo."""
    recorded = run.provenance.get("network")
    return Network.from_json(recorded) if recorded else Network("spec", run.model)


def summary(run: store.Run) -> str:
    """One line on what its stage did; of a run that was made before this was recorded, some of its options."""
    if "summary" in run.provenance:
        return str(run.provenance["summary"])
    options = run.provenance["inputs"]["config"]
    told = [
        f"{name} {options[name]}" for name in ("epochs", "batch", "optimizer", "learning_rate") if name in options
    ]
    return ", ".join(told)


def float_source(run: store.Run) -> store.Run:
    """The run whose float network `run` is a form of: itself, or its nearest ancestor that holds one.

    Raises `UserError` where there is none.
    """
    for ancestor in reversed(run.chain):
        if network(ancestor) == "float":
            return ancestor
    raise UserError(f"no ancestor of {run.name} holds a float network")


LONGEST = 20  # runs in a row: a damaged chain may lead in a circle


def made_by(run: store.Run, format: str, root: Path) -> str:
    """The stages behind an exported file, `fit, quantize`; empty where the run is gone.

    A float file beside integer ones has those up to the run whose float network it holds.
    """
    behind = ancestors(run, root)
    if format not in INTEGER:
        while behind and network(behind[-1]) != "float":
            behind.pop()
    return ", ".join(made.stage for made in behind if network(made) is not None)


def ancestors(run: store.Run, root: Path) -> list[store.Run]:
    """The run and those it came from, oldest first, as far back as they are there."""
    behind: list[store.Run] = []
    parent: store.Run | None = run
    while parent is not None and len(behind) < LONGEST:
        made = provenance(parent, root)
        if made is None:
            break
        behind.insert(0, parent)
        name = made["inputs"]["parent"]
        parent = None if name is None else store.Run(run.path.parent / name)
    return behind


def provenance(run: store.Run, root: Path) -> dict[str, Any] | None:
    """What made the run, or None where it is gone or lies outside the runs directory."""
    file = run.path / "provenance.json"
    return dict(read_json(file)) if under(file, root) and file.is_file() else None
