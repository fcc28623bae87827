"""Folders of photographs: `CLASS/*.jpg`, or the same below `train/`, `val/` (or `validation/`) and `test/`."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfcompact.data.collection import Collection
from tfcompact.data.images import SUFFIXES, Pixels, decode, escape
from tfcompact.data.splits import Split
from tfcompact.data.verified import Seen, scan, sha256
from tfcompact.errors import UnreadableImage, UserError

SPLIT_FOLDERS: dict[str, Split] = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
LAYOUT = "one folder per class: CLASS/*.jpg"
SKIP = "remove it, or pass --skip-unreadable"
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def open_folder(
    root: Path, cache: Path, *, skip_unreadable: bool, log: Callable[[str], None], name_of: Callable[[str], str] = str
) -> Collection:
    """The images below `root`, each verified to decode, with the splits that its folders give them.

    `name_of` turns a folder's name into its class's. Raises `UserError`: nothing there, one class, a class without
    images, an unreadable file (unless skipped).
    """
    found = _Found(root)
    if not found.files:
        raise UserError(f"{escape(root)} has no images{found.remark}; put them in {LAYOUT}")
    classes = sorted({folder for folder, _ in found.files.values()})
    _check_classes(root, classes, found)
    good, remarks = readable(root, sorted(found.files), cache, found.bad, skip_unreadable=skip_unreadable)
    emptied = set(classes) - {found.files[path][0] for path, _ in good}
    if emptied:
        raise UserError(f"no image of class {min(emptied)!r} is readable; add some, or remove the folder")
    return collection(
        root,
        good,
        classes=tuple(name_of(folder) for folder in classes),
        labels=[classes.index(found.files[path][0]) for path, _ in good],
        given=tuple(found.files[path][1] for path, _ in good),
        notes=(*found.notes, *remarks),
    )


def readable(
    root: Path, paths: Sequence[Path], cache: Path, bad: Sequence[str], *, skip_unreadable: bool
) -> tuple[list[tuple[Path, Seen]], list[str]]:
    """Those of `paths` that decode, and remarks on those left out. `bad` is what was found wrong before.

    Raises `UserError` for the first that does not decode, unless skipped.
    """
    results = scan(root, paths, cache / f"scan-{_key(root)}.json") if paths else []
    bad = [*bad, *(str(result) for result in results if isinstance(result, UnreadableImage))]
    if bad and not skip_unreadable:
        more = f" ({len(bad) - 1} more like it)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{more}; {SKIP}")
    good = [(path, seen) for path, seen in zip(paths, results, strict=True) if isinstance(seen, Seen)]
    return good, [f"skipped {len(bad)} unreadable file{'s' * (len(bad) > 1)}:", *bad] if bad else []


def collection(
    root: Path,
    good: Sequence[tuple[Path, Seen]],
    *,
    classes: tuple[str, ...],
    labels: Sequence[int],
    given: tuple[Split | None, ...],
    notes: tuple[str, ...],
    is_split: bool = False,
) -> Collection:
    """Verified files as a collection. Each is read again when its pixels are asked for, and must not have changed."""

    def load(i: int, at_least: int | None = None) -> Pixels:
        path, seen = good[i]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{escape(path)} cannot be read any more ({error.strerror}); start again") from None
        if sha256(data) != seen.content:
            raise UserError(f"{escape(path)} was changed after the folder was opened; start again")
        return decode(data, name=escape(path), at_least=at_least)

    return Collection(
        name=root.resolve().name,
        classes=classes,
        labels=np.array(labels, np.int64),
        given=given,
        content=tuple(seen.content for _, seen in good),
        sizes=np.array([(seen.height, seen.width) for _, seen in good], np.int32),
        load=load,
        describe=lambda i: escape(good[i][0]),
        key=_key(root),
        notes=notes,
        is_split=is_split,
    )


def _key(root: Path) -> str:
    """The folder's name in the cache."""
    return sha256(os.fsencode(root.resolve())).hex()[:12]


class _Found:
    """What lies below a folder: image files with class folder and split, and remarks on what is not used."""

    def __init__(self, root: Path) -> None:
        self.files: dict[Path, tuple[str, Split | None]] = {}
        self.bad: list[str] = []
        self.notes: list[str] = []
        self.by_folder: collections.Counter[str] = collections.Counter()
        self.splits: list[Split] = []
        self.loose = 0
        self.others: collections.Counter[str] = collections.Counter()
        try:
            folders = {path.name: path for path in self._folders(root)}
            self.loose = sum(path.suffix.lower() in SUFFIXES for path in _entries(root) if path.name not in folders)
            split = self._split_folders(folders)
            for path, given in split or [(root, None)]:
                for folder in self._folders(path) if split else folders.values():
                    self._class(folder, given)
        except PermissionError as error:
            raise UserError(f"{escape(str(error.filename))} cannot be listed; chmod u+rx gives it back") from None
        if self.loose and self.files:
            self.notes.append(f"not read: {self.loose} images in {escape(root)} itself, outside the class folders")
        if self.others:
            kinds = ", ".join(f"{suffix or 'no suffix'} ({n})" for suffix, n in sorted(self.others.items()))
            self.notes.append(f"ignored files that are not {'/'.join(sorted(s[1:] for s in SUFFIXES))}: {kinds}")

    @property
    def remark(self) -> str:
        """What was there instead of images."""
        if self.loose:
            return f" in class folders, but {self.loose} beside them"
        return f", only {', '.join(sorted(self.others))} files" if self.others else ""

    def _folders(self, parent: Path) -> list[Path]:
        """The folders in a folder; links that lead back are told as bad."""
        folders = []
        for path in _entries(parent):
            if path.is_symlink() and path.suffix.lower() not in SUFFIXES and _leads_back(path):
                self.bad.append(f"{escape(path)} is a symbolic link that leads back to itself")
            elif path.is_dir():
                folders.append(path)
        return folders

    def _split_folders(self, folders: dict[str, Path]) -> list[tuple[Path, Split | None]]:
        """The split folders, or nothing where `train` is missing or is itself a class full of images."""
        named = {name: path for name, path in folders.items() if name.lower() in SPLIT_FOLDERS}
        train = next((path for name, path in named.items() if name.lower() == "train"), None)
        if train is None or any(path.suffix.lower() in SUFFIXES for path in _entries(train)):
            return []
        found = [(path, SPLIT_FOLDERS[name.lower()]) for name, path in sorted(named.items())]
        self.splits = [split for _, split in found]
        if strange := sorted(set(folders) - set(named)):
            raise UserError(
                f"{escape(train.parent)} has {escape(strange[0])}/ beside train/; "
                "either split it into train/, val/ and test/, or give one folder per class"
            )
        if double := [split for split, n in collections.Counter(self.splits).items() if n > 1]:
            names = " and ".join(f"{path.name}/" for path, split in found if split == double[0])
            raise UserError(f"{escape(train.parent)} has {names}: two for one split; remove or merge one of them")
        return list(found)

    def _class(self, folder: Path, given: Split | None) -> None:
        """Notes what the folder of a class holds."""
        self.by_folder[folder.name] += 0
        for path in _entries(folder):
            if path.suffix.lower() in SUFFIXES:
                self.files[path] = (folder.name, given)
                self.by_folder[folder.name] += 1
            elif path.is_dir() and not path.is_symlink():
                self.notes.append(f"{escape(path)} is not read: a class folder holds its images directly")
            elif path.name.lower() not in SYSTEM_FILES:
                self.others[path.suffix.lower()] += 1


def _check_classes(root: Path, classes: list[str], found: _Found) -> None:
    """Raises `UserError` for a class that has no image, or none in a split, and where there is but one class."""
    if odd := [name for name in classes if not name.isprintable()]:  # labels.txt holds one name a line, in UTF-8
        raise UserError(f"class folder {odd[0]!r} has a control character in its name; rename it")
    if empty := sorted(name for name, count in found.by_folder.items() if not count):
        raise UserError(f"class folder {escape(empty[0])!s} of {escape(root)} has no images; add some or remove it")
    if len(classes) < 2:
        raise UserError(
            f"{escape(root)} has one class, {classes[0]!r}; add a folder of another: a classifier tells two apart"
        )
    for split in found.splits:
        have = {folder for folder, given in found.files.values() if given == split}
        if missing := sorted(set(classes) - have):
            raise UserError(f"class {missing[0]!r} has no {split} image in {escape(root)}; every split needs one")


def _entries(folder: Path) -> Iterator[Path]:
    """Everything in a folder that is not hidden, in the order of names."""
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "__MACOSX")))


def _leads_back(link: Path) -> bool:
    """Whether a symbolic link goes in circles or to a folder that it lies in."""
    try:
        return link.parent.resolve().is_relative_to(link.resolve(strict=True))
    except (OSError, RuntimeError):  # Python 3.12 and older raise RuntimeError on a loop
        return not link.exists()
