"""How a run came to be: its ancestors, and which of them is the float network behind it. No TensorFlow here."""

from __future__ import annotations

from typing import Literal

from tfcompact import runs
from tfcompact.errors import UserError

Network = Literal["float", "quantized"]


def network(run: runs.Run) -> Network | None:
    """The kind of network that a run holds; None where it holds none, as an export does.

    Runs that were made before this was recorded say it by their notes: ranges are a quantized network's.
    """
    if "gives" in run.provenance:
        found: Network | None = run.provenance["gives"]
        return found
    if run.artifacts:
        return None
    return "quantized" if "ranges" in run.notes else "float"


def float_source(run: runs.Run) -> runs.Run:
    """The run whose float network `run` is a form of: itself, or its nearest ancestor that holds one.

    Raises `UserError` where there is none.
    """
    for ancestor in reversed(run.chain):
        if network(ancestor) == "float":
            return ancestor
    raise UserError(f"no ancestor of {run.name} holds a float network")
