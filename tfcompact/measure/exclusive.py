"""One process at a time: two that measure the same device would each see the other's work."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from tfcompact.errors import UserError
from tfcompact.files import cache_directory


@contextlib.contextmanager
def exclusive(name: str, doing: str) -> Iterator[None]:
    """While it lasts no other process of this computer is in a block of that name, which is fit for a file's.

    Raises `UserError` where one is: another process is `doing`.
    """
    locks = cache_directory() / "locks"
    locks.mkdir(exist_ok=True)
    with (locks / name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is {doing}; wait for it, or stop it first") from None
        yield
