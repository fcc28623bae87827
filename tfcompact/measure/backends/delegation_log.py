"""What proves that a delegate ran, and on how much of a network: lines of `benchmark_model`'s log, or of Android's.

Everything here is a function of text. The formats are those of TensorFlow Lite's and LiteRT's sources
(`tflite/core/subgraph.cc`, `tflite/delegates/utils/simple_delegate.cc`, `litert/compiler/plugin/compiler_plugin.cc`)
and of vendors' delegates, as people posted them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tfcompact.errors import UserError
from tfcompact.measure.backends.benchmark_log import lines

_REPLACED = re.compile(
    r"Replacing (\d+)(?: out of (\d+))? node\(s\) with delegate \(([^)]*)\) node, yielding (\d+) partitions"
)
_EXPLICIT = re.compile(
    r"(?:Explicitly applied|Though) (\S+) delegate(?: is explicitly applied)?, and the model graph will be "
    r"(completely|partially) executed by the delegate(?: w/ (\d+) delegate kernels)?"
)
_NOT_EXECUTED = re.compile(r"Though (\S+) delegate is explicitly applied, the model graph will not be executed")
_TAKEN = re.compile(r"(\w+) delegate: (\d+) nodes delegated out of (\d+) nodes(?: with (\d+) partitions)?")
_SELECTED = re.compile(r"selected (\d+) ops, from a total of (\d+) ops\. resulted in (\d+) partitions")
_API = re.compile(r"Initialized (OpenCL|OpenGL|Vulkan|WebGPU)-based API")
_ACCELERATORS = re.compile(r"NNAPI accelerators available: \[([^\]]*)\]")
REFERENCE = "nnapi-reference"
"""NNAPI's own kernels on the CPU, which are slower than TensorFlow Lite's."""
UNASKED = ("xnnpack", "flex")  # what takes what is left over, and what operators of TensorFlow's need
EXTERNAL = "external"
"""A vendor's delegate in a library that the user names."""


@dataclass(frozen=True)
class Delegation:
    """What a delegate took of the graph: `replaced` of `total` nodes, in `pieces`; None where the log is silent.

    `complete` is None where the log does not say whether all of it runs there. `api` is what a GPU was asked by.
    """

    delegate: str
    replaced: int | None
    total: int | None
    pieces: int | None
    complete: bool | None
    api: str | None = None


def delegations(text: str, pid: int | None = None) -> list[Delegation]:
    """What each delegate took, in the order of the log; the numbers of several subgraphs added up.

    Of Android's log only the lines of the process `pid` count, where that is given. NNAPI that has nothing but its
    reference kernels is no accelerator, and is not there.

    `pieces` is how often the delegate is called in one inference. The log's "partitions" count what is left to the
    CPU too, in turns with the delegate's, so an odd number of them with nodes left over does not tell.
    """
    found: dict[str, Delegation] = {}
    refused: set[str] = set()
    told: dict[str, Delegation] = {}  # what a delegate, or a compiler, says of itself
    api: str | None = None
    for line in lines(text, pid):
        if match := _API.search(line):
            api = match[1]
        elif match := _ACCELERATORS.search(line):
            if [name.strip() for name in match[1].split(",")] == [REFERENCE]:
                refused.add("nnapi")
        elif match := _TAKEN.search(line):
            kind = delegate_kind(match[1])
            new = _of_counts(kind, int(match[2]), int(match[3]), int(match[4]) if match[4] else None)
            told[kind] = new
            found.setdefault(kind, new)
        elif match := _SELECTED.search(line):
            told["npu"] = _of_counts("npu", int(match[1]), int(match[2]), int(match[3]))
        elif match := _REPLACED.search(line):
            replaced, total, name, partitions = match.groups()
            kind = delegate_kind(name)
            whole = total is not None and replaced == total
            pieces = int(partitions) if whole else int(partitions) // 2 if int(partitions) % 2 == 0 else None
            new = Delegation(kind, int(replaced), None if total is None else int(total), pieces, whole or None)
            if total is not None and not whole:
                new = replace(new, complete=False)
            found[kind] = _added(found[kind], new) if kind in found else new
        elif match := _EXPLICIT.search(line):
            name, how, kernels = match.groups()
            kind = delegate_kind(name)
            known = found.get(kind, Delegation(kind, None, None, None, None))
            pieces = int(kernels) if kernels else known.pieces
            found[kind] = replace(known, complete=how == "completely", pieces=pieces)
        elif match := _NOT_EXECUTED.search(line):
            refused.add(delegate_kind(match[1]))
    found = {kind: told.get(kind, delegation) for kind, delegation in found.items() if kind not in refused}
    if EXTERNAL in found and (vendors := [d for kind, d in found.items() if kind not in (EXTERNAL, "xnnpack")]):
        found[EXTERNAL] = replace(vendors[0], delegate=EXTERNAL)  # its own name says whose it is
        found = {kind: d for kind, d in found.items() if kind in (EXTERNAL, "xnnpack")}
    return [replace(d, api=api) if d.delegate == "gpu" else d for d in found.values()]


def _of_counts(kind: str, taken: int, total: int, pieces: int | None) -> Delegation:
    """What a delegate that counts its operators itself took."""
    return Delegation(kind, taken, total, pieces, taken == total)


def delegate_kind(name: str) -> str:
    """`xnnpack`, `gpu`, `nnapi`, `npu` or `flex` for a name that the tool or the runtime gives, else that name."""
    low = name.lower()
    if "flex" in low:
        return "flex"
    if "xnnpack" in low:
        return "xnnpack"
    if "nnapi" in low:
        return "nnapi"
    if any(word in low for word in ("dispatch", "qnn", "npu", "neuron")):
        return "npu"
    if "gpu" in low or re.search(r"(^|_)(cl|gl|opengl|opencl|vulkan)$", low):
        return "gpu"
    return low or "unknown"


def _added(a: Delegation, b: Delegation) -> Delegation:
    def plus(x: int | None, y: int | None) -> int | None:
        return None if x is None or y is None else x + y

    complete = None if a.complete is None or b.complete is None else a.complete and b.complete
    return Delegation(
        a.delegate, plus(a.replaced, b.replaced), plus(a.total, b.total), plus(a.pieces, b.pieces), complete
    )


def judged(
    asked: str, logged: list[Delegation], nodes: list[Delegation] | None = None
) -> tuple[str, Delegation | None, dict[str, bool]]:
    """What really ran, what it took of the graph, and the flags of a row: for the delegate `asked` and a log's proof.

    `nodes` is what a file about the nodes says, where there is one: it names every delegate, and fills what the log
    leaves open. A delegate that took nothing is a fallback to XNNPACK where that took over, else to the built-in
    kernels. A log alone that is silent about XNNPACK proves nothing, since some builds apply it without a word.
    Raises `UserError` where a delegate ran that was not asked for: the row would be another's.
    """
    delegations = _joined(logged, nodes or [])
    strangers = [d.delegate for d in delegations if d.delegate not in (asked, *UNASKED) and d.replaced != 0]
    if strangers:
        raise UserError(
            f"the delegate {strangers[0]} ran, and {asked} was asked for; take it out of --benchmark-args, or ask "
            "for it"
        )
    by_name = {delegation.delegate: delegation for delegation in delegations}
    if asked == "builtin":
        took = by_name.get("xnnpack")
        return ("xnnpack", took, {"fell_back": True}) if took else ("builtin", None, {"fell_back": False})
    took = by_name.get(asked)
    if took is None and asked == "xnnpack" and nodes is None:
        return asked, None, {"fell_back": False, "delegation_unproven": True}
    if took is None or took.replaced == 0:
        ran = "xnnpack" if asked != "xnnpack" and "xnnpack" in by_name else "builtin"
        return ran, by_name.get(ran), {"fell_back": True}
    flags = {"fell_back": False}
    if asked != "xnnpack":
        flags["partly_delegated"] = took.complete is False
    return asked, took, flags


def _joined(logged: list[Delegation], nodes: list[Delegation]) -> list[Delegation]:
    """What the log says of each delegate, filled where it is silent, and the delegates that it does not name."""
    of_nodes = {found.delegate: found for found in nodes}
    filled = [_filled(found, of_nodes.pop(found.delegate, None)) for found in logged]
    return [*filled, *of_nodes.values()]


def _filled(logged: Delegation, nodes: Delegation | None) -> Delegation:
    if nodes is None or (logged.replaced is not None and logged.replaced != nodes.replaced):
        return logged  # a vendor's own count is of the file's operators, not of what its compiler made of them
    missing = ("replaced", "total", "pieces", "complete")
    return replace(logged, **{name: getattr(nodes, name) for name in missing if getattr(logged, name) is None})
