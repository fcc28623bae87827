"""What members of a search space cost, from the blocks of those that were looked at before.

A member is built and converted once, which takes some seconds; its operators are kept block by block. What consists
of known blocks is priced without being built. A block is known by what its operators depend on: the size of the
image, the channels that it reads, and all that was chosen of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tfcompact import files
from tfcompact.errors import UserError
from tfcompact.export import candidate
from tfcompact.latency.interpolation import Prediction
from tfcompact.models.architecture import Architecture, build
from tfcompact.models.blocks import round_channels
from tfcompact.pipeline.prices import Prices

VERSION = 1
"""Of how blocks are kept: others are looked at again."""
_BLOCK = re.compile(r"(?:^|/)(block\d+_\d+)_")


class SpacePrices:
    """Prices of architectures by a latency table; what is learnt of blocks is kept in the directory `kept`, if given.

    `looked_at` counts the members that had to be built.
    """

    def __init__(self, prices: Prices, kept: Path | None = None) -> None:
        self.prices, self.kept, self.looked_at = prices, kept, 0
        self.known: dict[str, list[str]] = {}
        self.partitions: dict[str, int] = {}
        if kept and (file := kept / f"blocks-{VERSION}.json").is_file():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # damaged: they are looked at again
                content = json.loads(file.read_text(encoding="utf-8"))
                self.known, self.partitions = dict(content["blocks"]), dict(content["partitions"])

    def price(self, architecture: Architecture) -> Prediction:
        """The cost of one inference, and the share of it that was interpolated.

        Raises `UserError` where the table has no operator of a form that is needed.
        """
        return self.prices.between.predict_parts(*self.network(architecture))

    def network(self, architecture: Architecture) -> tuple[tuple[str, ...], int]:
        """The configurations of the int8 file's operators, and the pieces that XNNPACK runs."""
        segments = list(_segments(architecture))
        if any(key not in self.known for _, key in segments):
            self._look_at(architecture, dict(segments))
        found = tuple(text for _, key in segments for text in self.known[key])
        return found, self.partitions[segments[-1][1]]

    def _look_at(self, architecture: Architecture, keys: dict[str, str]) -> None:
        """Builds the member, and takes note of its blocks."""
        self.looked_at += 1
        content = candidate.int8_file(build(architecture))
        parts, partitions = self.prices.between.parts(content)
        found: dict[str, list[str]] = {key: [] for key in keys.values()}
        place = "stem"
        for name, configuration in parts:
            block = _BLOCK.search(name)
            place = block[1] if block else "stem" if place == "stem" else "head"
            if place not in keys:
                raise UserError(f"{name} belongs to no block of the architecture, so it cannot be priced by blocks")
            found[keys[place]].append(configuration)
        for key, configurations in found.items():
            if self.known.setdefault(key, configurations) != configurations:
                raise UserError(f"a block has other operators in another network: {key}")
        self.partitions[keys["head"]] = partitions
        if self.kept:
            self.kept.mkdir(parents=True, exist_ok=True)
            content_now = {"blocks": self.known, "partitions": self.partitions}
            files.write_json(self.kept / f"blocks-{VERSION}.json", content_now)


def _segments(architecture: Architecture) -> Iterator[tuple[str, str]]:
    """The name of each part of the network in its layers, and what its operators depend on."""

    def key(*facts: object) -> str:
        return json.dumps(facts, separators=(",", ":"))

    width = architecture.width
    k = round_channels(architecture.stem * width)
    outer = (architecture.px, architecture.outer_act)
    yield "stem", key("stem", *outer, k)
    stride = 2
    for i, row in enumerate(architecture.rows):
        out = round_channels(row.out * width)
        for j in range(row.repeats):
            step = row.stride if j == 0 else 1
            kind = (row.expansion, row.kernel, row.squeeze, row.act, row.op, row.skip)
            yield f"block{i}_{j}", key("block", architecture.px, stride, step, k, out, *kind)
            k, stride = out, stride * step
    end = (round_channels(architecture.head * width), architecture.features, architecture.classes)
    rows = [(row.out, row.squeeze, row.act, row.op, row.skip) for row in architecture.rows]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8] if _may_fall_apart(architecture) else ""
    yield "head", key("head", *outer, stride, k, *end, digest)


def _may_fall_apart(architecture: Architecture) -> bool:
    """Whether XNNPACK may leave operators inside the network to TFLite, so that its pieces are to be counted anew."""
    return any(row.skip == "pool" for row in architecture.rows)
