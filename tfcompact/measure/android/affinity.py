"""The cores of a phone that runs are pinned to. No TensorFlow here."""

from __future__ import annotations

import re
from typing import NamedTuple

from tfcompact.errors import UserError
from tfcompact.measure.android.phone_facts import Facts
from tfcompact.measure.measurer import Log, quiet

AFFINITIES = ("big", "little", "all")


class Pinning(NamedTuple):
    """The mask of cores that runs are pinned to, empty for none.

    It is `unpinned` where nobody chose, and the device does not tell which cores are the fast ones.
    """

    mask: str
    unpinned: bool = False


def pinning(wanted: str | None, facts: Facts, tell: Log = quiet) -> Pinning:
    """The cores to run on, by what was wished for.

    Without a wish (None) it is that of `big`; where the device does not tell how fast its cores are, runs are not
    pinned, which `tell` hears. Raises `UserError` as `mask_of` does, for a wish that cannot be met.
    """
    if wanted is None and not facts.tells_speeds:
        tell(
            f"{facts.device.name} does not tell how fast its cores are, so its runs are not pinned to the fast ones; "
            "a mask as --affinity f0 does that"
        )
        return Pinning("", unpinned=True)
    return Pinning(mask_of(wanted or "big", facts))


def mask_of(wanted: str, facts: Facts) -> str:
    """The mask of cores in hexadecimal, as `taskset` takes it, or empty for no pinning.

    `wanted` is `big` (all cores but those with the lowest maximum frequency), `little` (those), `all` (no pinning) or
    a mask itself. Where all cores are alike, `big` and `little` are no pinning. Raises `UserError` where frequencies
    are needed and not known, and for a mask of cores that the device does not have.
    """
    if wanted == "all":
        return ""
    if wanted in ("big", "little"):
        if not facts.tells_speeds:
            raise UserError(
                f"{facts.device.name} does not tell how fast its cores are; give --affinity all, or a mask as f0"
            )
        lowest = min(facts.max_khz)
        if max(facts.max_khz) == lowest:
            return ""
        chosen = [core for core, khz in enumerate(facts.max_khz) if (khz > lowest) == (wanted == "big")]
        return f"{sum(1 << core for core in chosen):x}"
    mask = parse_mask(wanted)
    if mask & ~facts.all_cores:
        raise UserError(
            f"affinity {wanted} has cores that {facts.device.name} lacks; its {facts.device.cores} are "
            f"{facts.all_cores:x}"
        )
    return f"{mask:x}"


def parse_mask(text: str) -> int:
    """The mask of cores that a hexadecimal number says. Raises `UserError` for anything else, and for none."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", text) or int(text, 16) == 0:
        raise UserError(f"affinity must be {', '.join(AFFINITIES)} or a mask of cores as f0, not {text!r}")
    return int(text, 16)
