"""Files that are replaced as a whole: a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from tfcompact.errors import UserError

ABANDONED_SECONDS = 3600.0
LONGEST_NAME = 200  # bytes of a file's name that its temporary file's has


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of the file at `path` when the block ends without an exception.

    Where it ends with one, the old file stays and nothing lies beside it. A killed process leaves its temporary file,
    whose name starts with a dot and ends in `.tmp`; `sweep` removes those.
    """
    begins = f".{os.fsdecode(os.fsencode(path.name)[:LONGEST_NAME])}."
    temporary = path.with_name(f"{begins}{os.getpid()}-{secrets.token_hex(4)}.tmp")
    _forget(path.parent, begins)
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _forget(directory: Path, begins: str) -> None:
    """Removes the temporary files of such names that writers who were killed left an hour ago or more."""
    for left in directory.glob(f"{glob.escape(begins)}*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                left.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the file by `content`."""
    with replaced(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Replaces the file by `text` in UTF-8, its line ends as they are."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: object) -> None:
    """Replaces the file by `content` as JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Replaces the .npz file by `arrays`; its directory is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Replaces the .npy file by an array; numpy's own way loses the reason where a disk is full."""
    array = np.ascontiguousarray(array)
    with replaced(path) as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data)


def sweep(directory: Path) -> None:
    """Removes what killed writers left below a directory that no other process writes to."""
    for left in directory.rglob(".*.tmp"):
        left.unlink(missing_ok=True)


def sync(directory: Path) -> None:
    """Waits until all files below the directory, and its own entries, are on the disk."""
    for file in directory.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
    sync_entries(directory)


def sync_entries(directory: Path) -> None:
    """Waits until the names in the directory are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_directory(cache: Path | None = None) -> Path:
    """The directory for everything that can be computed again; made if missing.

    Given, or `tfcompact` below `$XDG_CACHE_HOME` or `~/.cache`. Raises `UserError` where it cannot be written.
    """
    try:
        path = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfcompact"
    except RuntimeError:  # HOME is not set, and the user has no entry in the system's list
        raise UserError("there is no home directory for the cache; set HOME, or give --cache") from None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the cache {path} ({error.strerror}); give another with --cache") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"the cache {path} is not writable; give another with --cache")
    return path
