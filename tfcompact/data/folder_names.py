"""Names of folders and files in people's data: splits under their many names, what a system leaves, names alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tfcompact.data.splits import Split

SPLIT_FOLDERS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What the folder of a split may be called, in small letters or not, also as `training_set` or `val2017`."""
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
SYSTEM_FOLDERS = {"@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
"""What network storage, Windows and Linux put beside people's folders."""


def split_of(name: str) -> Split | None:
    """The split that a folder of that name is for, None where it is for none."""
    found = re.fullmatch(r"([a-z]+)(?:[ _-]?(?:set|data|dataset|images))?(?:[ _-]?\d{1,4})?", name.strip().lower())
    return SPLIT_FOLDERS.get(found[1]) or SPLIT_FOLDERS.get(found[1].removesuffix("set")) if found else None


def hidden(name: str) -> bool:
    """Whether a file or folder of that name is not shown, or only one system knows what it is."""
    return name.startswith((".", "__MACOSX")) or name.lower() in SYSTEM_FOLDERS


def in_a_line(character: str) -> bool:
    """Whether a label file can hold it: one name a line, in UTF-8."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def alike(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of class names that differ in case, in spaces, or in what nobody sees."""
    seen: dict[str, str] = {}
    pairs = []
    for name in classes:
        shown = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
        looks = " ".join(shown.casefold().split())
        if looks in seen:
            pairs.append((seen[looks], name))
        seen.setdefault(looks, name)
    return pairs
