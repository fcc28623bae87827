"""The file in which `benchmark_model` says which delegate took which node of the graph.

The message is `ModelRuntimeDetails` of `tensorflow/lite/profiling/proto/model_runtime_info.proto`.
"""

from __future__ import annotations

import struct

from tfcompact.errors import UserError
from tfcompact.measure.backends.delegation_log import Delegation, delegate_kind
from tfcompact.measure.backends.protocol_buffer import fields, numbers

SUBGRAPHS = 2  # of ModelRuntimeDetails
NODES, PLAN, KIND = 3, 4, 5  # of RuntimeSubgraph
OF_A_DELEGATE = 2  # RuntimeSubgraph.SubgraphType.DELEGATE_SUBGRAPH
ID, DELEGATE = 1, 8  # of Node
NAME, REPLACED = 1, 2  # of DelegateNodeDetails


def read(content: bytes) -> list[Delegation]:
    """What each delegate took, all subgraphs together; `pieces` are its nodes in the order of execution.

    Raises `UserError` for another file, and one that is cut off.
    """
    try:
        subgraphs = [dict_of(value) for number, value in fields(content) if number == SUBGRAPHS]
        return _delegations([subgraph for subgraph in subgraphs if subgraph.get(KIND, [1]) != [OF_A_DELEGATE]])
    except (struct.error, IndexError, ValueError, TypeError):
        raise UserError("benchmark_model's file about nodes is damaged or of another kind; run it again") from None


def dict_of(message: object) -> dict[int, list[int | float | bytes]]:
    """The fields of a message that lies in another, each with all its values. Raises `TypeError` for a number."""
    if not isinstance(message, bytes):
        raise TypeError("a number in place of a message")
    found: dict[int, list[int | float | bytes]] = {}
    for number, value in fields(message):
        found.setdefault(number, []).append(value)
    return found


def _delegations(subgraphs: list[dict[int, list[int | float | bytes]]]) -> list[Delegation]:
    total = 0
    taken: dict[str, int] = {}
    pieces: dict[str, int] = {}
    for subgraph in subgraphs:
        plan = {index for part in subgraph.get(PLAN, []) for index in numbers(part)}
        for node in map(dict_of, subgraph.get(NODES, [])):
            if DELEGATE not in node:
                total += 1
                continue
            if node.get(ID, [0])[0] not in plan:
                continue
            details = dict_of(node[DELEGATE][0])
            name = details.get(NAME, [b""])[0]
            kind = delegate_kind(name.decode(errors="replace") if isinstance(name, bytes) else "")
            taken[kind] = taken.get(kind, 0) + sum(len(numbers(part)) for part in details.get(REPLACED, []))
            pieces[kind] = pieces.get(kind, 0) + 1
    return [Delegation(kind, count, total, pieces[kind], count == total) for kind, count in taken.items()]
