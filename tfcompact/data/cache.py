"""Decoded images on disk, so that no epoch after the first decodes anything.

A store holds square `uint8` records of one size, one after the other in `records.u8`, and in `index` the sha256 of
the image that each was made from. Both only grow. Records are synchronized to disk before their index entries, in
groups; whatever a killed process left behind the last whole group is cut off by the next one that writes. One process
writes at a time, any number read. Records are read with `pread`: the system's page cache holds what there is room
for, and this process's memory stays the same however many images there are.
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

HASH = 32  # bytes of a sha256
GROUP = 128  # records between two synchronizations
MAX_BYTES = 4 * 2**30


def directory(cache: Path | None) -> Path:
    """The directory for everything that can be computed again; made if missing.

    Given, or `tfcompact` below `$XDG_CACHE_HOME` or `~/.cache`. Raises `UserError` where it cannot be written.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache or home / "tfcompact"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the cache {path} ({error.strerror}); set XDG_CACHE_HOME to another") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"the cache {path} is not writable; set XDG_CACHE_HOME to another directory")
    return path


class Store:
    """Records of `side` x `side` px of the images of one collection, found by content hash.

    `path` is `<cache>/pixels/<collection>/<kind>-<side>`. While this object lives, no other process makes room by
    removing the store.
    """

    def __init__(self, path: Path, side: int, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self.shape, self.max_bytes = path, (side, side, 3), max_bytes
        self.record = side * side * 3
        self._use = _hold(path)
        self._data = os.open(path / "records.u8", os.O_RDWR | os.O_CREAT, 0o644)
        self._index = os.open(path / "index", os.O_RDWR | os.O_CREAT, 0o644)
        self._where: dict[bytes, int] = {}
        self._refresh()

    def __del__(self) -> None:
        for name in ("_use", "_data", "_index"):
            if (handle := getattr(self, name, None)) is not None:
                os.close(handle)

    def __contains__(self, content: bytes) -> bool:
        return content in self._where

    def __len__(self) -> int:
        return len(self._where)

    def read(self, content: bytes, into: Pixels) -> bool:
        """Copies the record of an image into `uint8 [side, side, 3]`; False where it has none."""
        if (place := self._where.get(content)) is None:
            return False
        if os.preadv(self._data, [into.data], place * self.record) != self.record:
            raise UserError(f"the cache {self.path} is damaged; remove it: it is made again")
        return True

    def fill(self, wanted: Sequence[bytes], produce: Callable[[int], Pixels], *, title: str) -> None:
        """Adds the records of `wanted` that are missing, until the cache is full; `produce(i)` makes the i-th.

        Waits while another process fills the same store, and takes over what that one made. Raises `UserError` when
        the disk is full; what was added before stays.
        """
        if all(content in self._where for content in wanted):
            return
        with self._writing():
            missing = {content: i for i, content in enumerate(wanted) if content not in self._where}
            room = self._room(len(missing) * self.record)
            chosen = sorted(missing.values())[: room // self.record]
            records = in_parallel(produce, chosen, title=title, total=len(chosen))
            group: list[tuple[bytes, Pixels]] = []
            for i, record in zip(chosen, records, strict=True):
                group.append((wanted[i], record))
                if len(group) == GROUP:
                    self._append(group)
                    group = []
            self._append(group)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with (self.path / "fill.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._refresh()
            os.ftruncate(self._data, len(self._where) * self.record)
            os.ftruncate(self._index, len(self._where) * HASH)
            yield

    def _refresh(self) -> None:
        entries = os.fstat(self._index).st_size // HASH
        whole = min(entries, os.fstat(self._data).st_size // self.record)
        known = os.pread(self._index, whole * HASH, 0)
        self._where = {known[i * HASH : (i + 1) * HASH]: i for i in range(whole)}

    def _append(self, group: Sequence[tuple[bytes, Pixels]]) -> None:
        start = len(self._where)
        try:
            for offset, (_, record) in enumerate(group, start):
                _write(self._data, np.ascontiguousarray(record).data.cast("B"), offset * self.record)
            os.fsync(self._data)
            _write(self._index, memoryview(b"".join(content for content, _ in group)), start * HASH)
            os.fsync(self._index)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            need = f"{self.record * len(group) / 1e6:.0f} MB more"
            raise UserError(f"no room for the cache {self.path} ({need}); free some, or set XDG_CACHE_HOME") from None
        self._where.update((content, start + i) for i, (content, _) in enumerate(group))

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
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


def _write(handle: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


def _age_and_bytes(lock: Path) -> tuple[float, int]:
    """When a store was last opened, and its size; another process may be removing it."""
    with contextlib.suppress(FileNotFoundError):
        return lock.stat().st_mtime, (lock.parent / "records.u8").stat().st_size
    return 0.0, 0


def _remove_unused(store: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, BlockingIOError), (store / "use.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(store)
        return True
    return False
