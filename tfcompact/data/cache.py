"""Decoded images on disk, so that no epoch after the first decodes anything.

A store is a directory of one file per image: its `uint8` pixels, one square size for all, named by the sha256 of the
image they were made from. A file appears by rename, so it is whole or absent, whoever is killed and however many
processes write. TensorFlow reads these files by itself: no Python runs in a training pipeline (why: `feed.py`),
and memory does not grow with the number of images; the system's page cache holds what there is room for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfcompact.data.collection import in_parallel
from tfcompact.data.images import Pixels
from tfcompact.errors import UserError

MAX_BYTES = 4 * 2**30
SUFFIX = ".u8"


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
            return np.frombuffer(data, np.uint8).reshape(self.side, self.side, 3)
        except (OSError, ValueError):
            raise UserError(f"the cache {self.path} is damaged; remove it: it is made again") from None

    def fill(self, wanted: Sequence[bytes], produce: Callable[[int], Pixels], *, title: str) -> None:
        """Adds the records of `wanted` that are missing, until the cache is full; `produce(i)` makes the i-th.

        Waits while another process fills the same store, and takes over what that one made. Raises `UserError` when
        the disk is full; what was added before stays.
        """
        if all(content in self._kept for content in wanted):
            return
        with self._alone():
            missing = {content: i for i, content in enumerate(wanted) if content not in self._kept}
            room = self._room(len(missing) * self.record)
            chosen = sorted(missing.values())[: room // self.record]

            def add(i: int) -> None:
                self._add(wanted[i], produce(i))

            for _ in in_parallel(add, chosen, title=title, total=len(chosen)):
                pass

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
                if entry.name.endswith(SUFFIX) and entry.name[0] != "." and entry.stat().st_size == self.record
            }

    def _add(self, content: bytes, record: Pixels) -> None:
        """Writes the record of an image."""
        final = self.file(content)
        temporary = final.with_name(f".{final.name}")
        try:
            temporary.write_bytes(np.ascontiguousarray(record).data)
            temporary.replace(final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"no room left for the cache {self.path}; free some, or give another with --cache"
            ) from None
        self._kept.add(content)

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
    with contextlib.suppress(FileNotFoundError), os.scandir(lock.parent) as entries:
        return lock.stat().st_mtime, sum(entry.stat().st_size for entry in entries)
    return 0.0, 0


def _remove_unused(store: Path) -> bool:
    """Whether nobody had the store open, so that it was removed."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), (store / "use.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(store)
        return True
    return False
