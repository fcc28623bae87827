"""Decoded images on disk, so that no epoch after the first decodes anything.

A store is a directory of one file per image: its `uint8` pixels, one square size for all, and their checksum, named
by the sha256 of the image they were made from. A file appears by rename, so it is whole or absent, whoever is killed
and however many processes write; what the disk has changed since is found by the checksum, and made anew. TensorFlow
reads these files by itself: no Python runs in a training pipeline (why: `feed.py`), and memory does not grow with the
number of images; the system's page cache holds what there is room for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tfcompact.data.collection import cores, in_parallel
from tfcompact.data.images import Pixels
from tfcompact.errors import UserError

MAX_BYTES = 4 * 2**30
SUFFIX = ".u8"
CHECKSUM = 4  # bytes at the end of a file
RESERVED = ".room"  # a file as large as what is being added
LOG = logging.getLogger(__name__)


class Store:
    """Records of `side` x `side` px of the images of one collection, found by content hash.

    `path` is `<cache>/pixels/<collection>/<kind>-<side>`. While this object lives, no other process makes room by
    removing the store.
    """

    def __init__(self, path: Path, side: int, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self.side, self.max_bytes = path, side, max_bytes
        self.record = side * side * 3
        self._use = _hold(path)
        self._kept = self._list()
        self._sound: set[bytes] = set()  # those whose checksum was found right, or that were made here

    def __del__(self) -> None:
        if hasattr(self, "_use"):
            os.close(self._use)

    def __contains__(self, content: bytes) -> bool:
        return content in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def file(self, content: bytes) -> Path:
        """Where the record of an image is, or would be."""
        return self.path / f"{content.hex()}{SUFFIX}"

    def read(self, content: bytes) -> Pixels:
        """The record of an image that is here, `uint8 [side, side, 3]`."""
        try:
            data = self.file(content).read_bytes()
            return np.frombuffer(data, np.uint8, self.record).reshape(self.side, self.side, 3)
        except (OSError, ValueError):
            raise UserError(f"the cache {self.path} is damaged; remove it: it is made again") from None

    def fill(self, wanted: Sequence[bytes], produce: Callable[[int], Pixels], *, title: str) -> None:
        """Adds the records of `wanted` that are missing, until the cache is full; `produce(i)` makes the i-th.

        Those that are damaged are made anew, too. Waits while another process fills the same store, and takes over
        what that one made. Raises `UserError` when the disk is full; what was added before stays.
        """
        self._check(wanted)
        if all(content in self._kept for content in wanted):
            return
        with self._alone():
            missing = {content: i for i, content in enumerate(wanted) if content not in self._kept}
            size = self.record + CHECKSUM
            chosen = sorted(missing.values())[: self._reserve(len(missing) * size) // size]

            def add(i: int) -> None:
                self._add(wanted[i], produce(i))

            for _ in in_parallel(add, chosen, title=title, total=len(chosen)):
                pass
            (self.path / RESERVED).unlink(missing_ok=True)

    def _check(self, wanted: Sequence[bytes]) -> None:
        """Forgets those of `wanted` that are not as they were written; each is looked at once."""
        new = [content for content in dict.fromkeys(wanted) if content in self._kept and content not in self._sound]
        with ThreadPoolExecutor(cores()) as pool:
            damaged = [
                content for content, sound in zip(new, pool.map(self._is_sound, new), strict=True) if not sound
            ]
        self._sound.update(new)
        for content in damaged:
            self._sound.discard(content)
            self._kept.discard(content)
            self.file(content).unlink(missing_ok=True)
        if damaged:
            LOG.warning("%d damaged images in the cache %s are made again", len(damaged), self.path)

    def _is_sound(self, content: bytes) -> bool:
        """Whether the record of an image has the checksum that was written with it."""
        try:
            data = self.file(content).read_bytes()
        except OSError:
            return False
        return len(data) == self.record + CHECKSUM and data[self.record :] == _checksum(
            memoryview(data)[: self.record]
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Other processes wait: two would do no harm, but the same work."""
        with (self.path / "fill.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in self.path.glob(".*"):  # by a process that was killed
                left.unlink()
            self._kept = self._list()
            yield

    def _list(self) -> set[bytes]:
        """The images with a record; one of another size (cut off by a power failure) does not count."""
        with os.scandir(self.path) as entries:
            return {
                bytes.fromhex(entry.name.removesuffix(SUFFIX))
                for entry in entries
                if entry.name.endswith(SUFFIX) and entry.name[0] != "." and _bytes(entry) == self.record + CHECKSUM
            }

    def _add(self, content: bytes, record: Pixels) -> None:
        """Writes the record of an image."""
        final = self.file(content)
        temporary = final.with_name(f".{final.name}")
        try:
            data = np.ascontiguousarray(record).tobytes()
            temporary.write_bytes(data + _checksum(data))
            temporary.replace(final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"no room left for the cache {self.path}; free some, or give another with --cache"
            ) from None
        self._kept.add(content)
        self._sound.add(content)

    def _reserve(self, need: int) -> int:
        """Bytes that may be added, up to `need`, which no other process takes meanwhile."""
        with (self.path.parent.parent / "room.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = min(need, self._room(need))
            with (self.path / RESERVED).open("wb") as file:
                file.truncate(found)  # it takes no room on the disk, and counts for others who look
            return found

    def _room(self, need: int) -> int:
        """Bytes that may be added, after removing stores that nobody uses, the longest unused first, if need be."""
        stores = {lock.parent: _age_and_bytes(lock) for lock in self.path.parent.parent.glob("*/*/use.lock")}
        total = sum(size for _, size in stores.values())
        for store, (_, size) in sorted(stores.items(), key=lambda entry: entry[1]):
            if total + need <= self.max_bytes:
                break
            if store != self.path and _remove_unused(store):
                total -= size
        return max(0, self.max_bytes - total)


def _checksum(data: bytes | memoryview) -> bytes:
    """The CRC-32 of the data."""
    return zlib.crc32(data).to_bytes(CHECKSUM, "little")


def _hold(path: Path) -> int:
    """The directory's use lock, shared; the directory is made if missing, and again if it is removed meanwhile."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path / "use.lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _inode(path / "use.lock") == os.fstat(handle).st_ino:
                os.utime(path / "use.lock")
                return handle
            os.close(handle)


def _inode(path: Path) -> int | None:
    """Which file it is; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


def _age_and_bytes(lock: Path) -> tuple[float, int]:
    """When a store was last opened, and its size; another process may be removing it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), (lock.parent / "fill.lock").open() as filling:
        fcntl.flock(filling, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (lock.parent / RESERVED).unlink(missing_ok=True)  # by one that was killed: nobody fills it
    with contextlib.suppress(FileNotFoundError), os.scandir(lock.parent) as entries:
        return lock.stat().st_mtime, sum(map(_bytes, entries))
    return 0.0, 0


def _bytes(entry: os.DirEntry[str]) -> int:
    """The size of a file; 0 if it has got its final name, or was removed, since the directory was read."""
    with contextlib.suppress(FileNotFoundError):
        return entry.stat().st_size
    return 0


def _remove_unused(store: Path) -> bool:
    """Whether nobody had the store open, so that it was removed."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), (store / "use.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever opens it now makes it anew: what is removed has another name by then.
        gone = store.rename(store.with_name(f".{store.name}-{os.getpid()}"))
        shutil.rmtree(gone, ignore_errors=True)
        return True
    return False
