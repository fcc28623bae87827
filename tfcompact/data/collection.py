"""A collection: labelled images before they are split, whatever they come from."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfcompact.data.images import Pixels
from tfcompact.data.splits import Split

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Collection:
    """`n` images with their labels. Pixels are read when asked for, never kept.

    `given[i]` is the split that the source itself puts image `i` in, or None. `content[i]` is the image's sha256,
    `sizes[i]` its height and width in px. `load(i, at_least)` decodes it (see `images.decode`). `key` names the
    folder of its decoded pixels in the cache. `in_memory`: the images are few and small enough to be kept there
    instead, for training. `flippable` says whether a
    mirrored image still belongs to its class, `least_crop` how much of its area a training crop keeps at least.
    `is_split`: every image's split is given, and classes may be missing from one.
    """

    name: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    given: tuple[Split | None, ...]
    content: tuple[bytes, ...]
    sizes: npt.NDArray[np.int32]
    load: Callable[[int, int | None], Pixels]
    describe: Callable[[int], str]
    key: str
    in_memory: bool = False
    notes: tuple[str, ...] = ()
    flippable: bool = True
    least_crop: float = 0.35
    is_split: bool = False


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(function: Callable[[T], R], items: Iterable[T], *, title: str, total: int) -> Iterator[R]:
    """`map` over threads, in order, with a progress bar on stderr; only a few items are under way at a time."""
    ahead = 4 * cores()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(cores()) as pool:
        task = bar.add_task(title, total=total)
        source = iter(items)
        waiting = [pool.submit(function, item) for item in islice(source, ahead)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(function, item) for item in islice(source, 1))
                bar.advance(task)
                yield result
        finally:
            for future in waiting:
                future.cancel()
