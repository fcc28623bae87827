"""A block's operators in one line: `1x1 (1x1 | 3x3) concat`. No TensorFlow here."""

from __future__ import annotations

from collections import Counter

from tfcompact.networks.costs import Block

Steps = dict[str, tuple[str, tuple[str, ...]]]
"""Operators by name: the word for each, and the names of those it reads."""


def layout(block: Block, room: int) -> str:
    """The block's operators in `room` characters: as they are joined, else counted by kind, else the convolutions
    counted and how many others there are, else how many they are."""
    steps = _without_gates(block)
    if len(steps) <= room // 3 and len(joined := _joined(steps)) <= room:  # a word has at least two letters
        return joined
    kinds = Counter(kind for kind, _ in steps.values() if kind not in ("add", "concat"))
    main = Counter(step.kind for step in block.operators if step.kernel and step.name in steps)
    some = f"{_counted(main)} +{len(steps) - main.total()}"
    whole = f"{len(block.operators)} operators"
    return next((text for text in (_counted(kinds), *([some] if main else [])) if len(text) <= room), whole)


def _counted(kinds: Counter[str]) -> str:
    return " ".join(f"{n}·{kind}" if n > 1 else kind for kind, n in kinds.items())


def _without_gates(block: Block) -> Steps:
    """Kind, and what it reads in the block, of every operator by its name; squeeze-and-excite is one operator."""
    inner = {
        step.name.removesuffix("excite") + part
        for step in block.operators
        if step.name.endswith("_excite")
        for part in ("squeeze", "reduce", "expand")
    }
    kept = {step.name: step for step in block.operators if step.name not in inner}
    return {
        name: ("SE" if name.endswith("_excite") else step.kind, tuple(r for r in step.reads if r in kept))
        for name, step in kept.items()
    }


def _joined(steps: Steps) -> str:
    """`1x1 (1x1 | 3x3) concat`: what follows what, and what stands side by side."""
    if not steps:
        return ""
    parts = _parts(steps)
    if len(parts) > 1:
        return f"({' | '.join(_joined(parts[first]) for first in sorted(parts))})"
    first = [name for name, (_, reads) in steps.items() if not set(reads) & set(steps)]
    read = {name for _, reads in steps.values() for name in reads}
    last = [name for name in steps if name not in read]
    for ends, form in ((first, "{0} {1}"), (last, "{1} {0}")):
        if len(ends) == 1:
            rest = {name: step for name, step in steps.items() if name != ends[0]}
            return form.format(steps[ends[0]][0], _joined(rest)).strip()
    return " ".join(kind for kind, _ in steps.values())  # crossing branches, in the order in which they run


def _parts(steps: Steps) -> dict[str, Steps]:
    """Those of `steps` that hang together, by the first of their names."""
    part = {name: name for name in steps}
    for name, (_, reads) in steps.items():
        for other in set(reads) & set(steps):
            old, new = part[name], part[other]
            part = {n: new if p == old else p for n, p in part.items()}
    groups: dict[str, Steps] = {}
    for name in steps:
        groups.setdefault(part[name], {})[name] = steps[name]
    return {min(group): group for group in groups.values()}
