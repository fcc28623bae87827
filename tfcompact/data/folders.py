"""Folders of photographs: `CLASS/*.jpg`, or the same below `train/`, `val/` and `test/`, or their other names.

A class is called what its folder is, in Unicode's composed form (NFC): a name looks the same in the other one.
"""

from __future__ import annotations

import collections
import os
import shlex
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from tfcompact.data.collection import Collection
from tfcompact.data.folder_names import SYSTEM_FILES, alike, hidden, in_a_line, split_of
from tfcompact.data.image_files import SUFFIXES, escape
from tfcompact.data.images import Pixels, decode
from tfcompact.data.splits import Split
from tfcompact.data.verified import Seen, scan, sha256
from tfcompact.errors import UnreadableImage, UserError

DEEPEST = 3  # folders below the one that was given in which one that would do is looked for
LAYOUT = "one folder per class: CLASS/*.jpg"
SKIP = "remove it, or pass --skip-unreadable"


def open_folder(
    root: Path, cache: Path, *, skip_unreadable: bool, log: Callable[[str], None], name_of: Callable[[str], str] = str
) -> Collection:
    """The images below `root`, each verified to decode, with the splits that its folders give them.

    `name_of` turns a folder's name into its class's. Raises `UserError`: nothing there, one class, a class without
    images, an unreadable file (unless skipped).
    """
    found = _Found(root)
    if not found.files or not all(found.by_folder.values()):
        _check_layout(root, found)
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
        notes=(*found.notes, *_alike(classes), *remarks),
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
    remarks = [f"skipped {len(bad)} unreadable file{'s' * (len(bad) > 1)}:", *bad] if bad else []
    if cut := [path for path, seen in good if seen.cut]:
        remarks.append(f"{len(cut)} without their last bytes, taken since every row is there: {_some(cut)}")
    return good, remarks


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
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(self.others.items()))
        return f", only {kinds}" if self.others else ""

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
        named = {name: split for name in folders if (split := split_of(name))}
        train = next((folders[name] for name, split in named.items() if split == "train"), None)
        if train is None:
            return []
        if _images_in(train):
            if len(named) > 1 and not any(self._folders(train)):
                raise UserError(
                    f"{escape(train.parent)} has its images in {train.name}/ itself, so nothing says of which class "
                    f"each is; put them in {train.name}/CLASS/"
                )
            return []
        found = []
        for name, split in sorted(named.items()):
            path = folders[name]
            if loose := [] if self._folders(path) else _images_in(path):
                self.notes.append(f"not read: {len(loose)} images in {escape(path)} itself, which are of no class")
            else:
                found.append((path, split))
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
        name = unicodedata.normalize("NFC", folder.name)
        self.by_folder[name] += 0
        with os.scandir(folder) as entries:
            shown = sorted((entry for entry in entries if not hidden(entry.name)), key=lambda entry: entry.name)
        for entry in shown:  # not as paths, each of which would be asked for anew: there may be a million
            suffix = PurePath(entry.name).suffix.lower()
            if entry.is_dir(follow_symlinks=False):
                self.notes.append(f"{escape(entry.path)} is not read: a class folder holds its images directly")
            elif suffix in SUFFIXES:
                self.files[Path(entry.path)] = (name, given)
                self.by_folder[name] += 1
            elif entry.name.lower() not in SYSTEM_FILES:
                self.others[suffix] += 1


def _check_layout(root: Path, found: _Found) -> None:
    """Raises `UserError` for a folder without images, or with a class without: with another that would do, if any."""
    empty = [path for path in _plain_folders(root) if not found.by_folder[unicodedata.normalize("NFC", path.name)]]
    if better := _better(empty):
        _Found(better[0])  # says so itself where it would not do either
        give = f"--data {shlex.quote(str(better[0]))}"
        if len(better) > 1:
            inside = escape(min(path.name for path in _plain_folders(better[0])))
            raise UserError(
                f"{escape(better[0])} and {len(better) - 1} more hold folders ({inside}/ for one), not images; put "
                f"the images of a class into its folder itself, or give the folder whose folders are classes: {give}"
            )
        raise UserError(f"{escape(root)} has its class folders one level down; give the folder they are in: {give}")
    if not found.files:
        raise UserError(f"{escape(root)} has no images{found.remark}; put them in {LAYOUT}")
    name = min(name for name, count in found.by_folder.items() if not count)
    others = [path for folder in empty if folder.name == name for path in _entries(folder) if path.is_file()]
    if others:
        kinds = sorted(collections.Counter(path.suffix.lower() for path in others).items())
        instead = ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in kinds)
        raise UserError(
            f"class folder {escape(name)} of {escape(root)} has no images that are read, only files of other kinds: "
            f"{instead}; convert them to JPEG, or remove the folder"
        )
    raise UserError(f"class folder {escape(name)} of {escape(root)} has no images; add some or remove it")


def _better(level: Sequence[Path]) -> list[Path]:
    """The uppermost of these folders, or of those below them, that hold class folders."""
    for _ in range(DEEPEST):
        if better := [folder for folder in level if sum(bool(_images_in(f)) for f in _plain_folders(folder)) > 1]:
            return better
        level = [folder for parent in level for folder in _plain_folders(parent)]
    return []


def _plain_folders(parent: Path) -> list[Path]:
    """The folders in a folder that are no links."""
    return [path for path in _entries(parent) if path.is_dir() and not path.is_symlink()]


def _images_in(folder: Path) -> list[Path]:
    """The images directly in a folder."""
    return [path for path in _entries(folder) if path.suffix.lower() in SUFFIXES and not path.is_dir()]


def _some(paths: Sequence[Path], shown: int = 3) -> str:
    """A few of the paths by name, and how many more."""
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(escape(path) for path in paths[:shown]) + more


def _check_classes(root: Path, classes: list[str], found: _Found) -> None:
    """Raises `UserError` for a name that is no line, a class that has no image in a split, and for a single class."""
    if odd := [name for name in classes if not all(map(in_a_line, name))]:
        raise UserError(f"class folder {odd[0]!r} has a control character in its name; rename it")
    if len(classes) < 2:
        raise UserError(
            f"{escape(root)} has one class, {classes[0]!r}; add a folder of another: a classifier tells two apart"
        )
    for split in found.splits:
        have = {folder for folder, given in found.files.values() if given == split}
        if missing := sorted(set(classes) - have):
            raise UserError(f"class {missing[0]!r} has no {split} image in {escape(root)}; every split needs one")


def _alike(classes: Sequence[str]) -> list[str]:
    """A remark on class names that look the same."""
    pairs = alike(classes)
    more = f" (and {len(pairs) - 1} more such)" if len(pairs) > 1 else ""
    return [
        f"classes {first!r} and {second!r} differ in case, spaces or what is not seen alone{more}; if they are one, "
        "put their images into one folder"
        for first, second in pairs[:1]
    ]


def _entries(folder: Path) -> Iterator[Path]:
    """Everything in a folder that is not hidden, in the order of names."""
    return (path for path in sorted(folder.iterdir()) if not hidden(path.name))


def _leads_back(link: Path) -> bool:
    """Whether a symbolic link goes in circles or to a folder that it lies in."""
    try:
        return link.parent.resolve().is_relative_to(link.resolve(strict=True))
    except (OSError, RuntimeError):  # Python 3.12 and older raise RuntimeError on a loop
        return not link.exists()
