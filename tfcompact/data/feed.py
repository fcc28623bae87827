"""Pixels into a graph, without Python wherever that is possible.

A `tf.data` pipeline works ahead in threads of its own. If one of them is to call Python (`tf.numpy_function`) while
the interpreter is shutting down, it never gets the interpreter's lock; the call does not return, the iterator's
destructor waits for it, and the process hangs instead of ending. That is what any training that stops early (an
exception, Ctrl-C) would risk. So what is in the cache is read by TensorFlow's own operations.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfcompact.data.images import Pixels
from tfcompact.frameworks import Tensor, tf

Reader = Callable[[Tensor], Tensor]  # int64 places [n] in the graph -> uint8 [n, side, side, 3] in the graph


def from_memory(records: Pixels) -> Reader:
    """Reads from an array `uint8 [images, side, side, 3]`, of which TensorFlow keeps its own copy."""
    kept = tf.constant(records)
    return lambda rows: tf.gather(kept, rows)


def from_files(files: Sequence[Path], side: int, count: int, *, keep: object) -> Reader:
    """Reads `count` records, each from the beginning of a file; `keep` lives as long as the reader's graph does."""
    names = tf.constant([str(file) for file in files])

    def read(rows: Tensor, keep: object = keep) -> Tensor:
        # One read operation per record: the runtime spreads them over its threads, twice as fast as a loop.
        each = tf.unstack(tf.gather(names, rows), num=count)
        records = [tf.io.decode_raw(tf.io.read_file(name), tf.uint8)[: side * side * 3] for name in each]
        return tf.reshape(tf.stack(records), (count, side, side, 3))

    return read


def from_python(records: Callable[[npt.NDArray[np.int64]], Pixels], side: int, count: int) -> Reader:
    """Reads by calling `records(rows)`: for images that the cache has no room for.

    When the process ends, calls fail at once, and the end waits until the pipelines have stopped asking.
    """

    def guarded(rows: npt.NDArray[np.int64]) -> Pixels:
        with _ENDING:
            return records(rows)

    def read(rows: Tensor) -> Tensor:
        return tf.ensure_shape(tf.numpy_function(guarded, [rows], tf.uint8), (count, side, side, 3))

    return read


class _Ending:
    """Keeps the interpreter from shutting down under a call."""

    def __init__(self) -> None:
        self._lock, self._inside, self._last, self._over = threading.Lock(), 0, 0.0, False
        atexit.register(self._wait)

    def __enter__(self) -> None:
        with self._lock:
            self._last = time.monotonic()
            if self._over:
                raise RuntimeError("the program is ending")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._last = time.monotonic()
            self._inside -= 1

    def _wait(self) -> None:
        """Lets no new call in, and waits until the last one is a second ago."""
        # A pipeline asks until its buffers are full, of errors by now, and then no more: nobody takes from them.
        self._over = True
        while self._last and (self._inside or time.monotonic() - self._last < 1.0):
            time.sleep(0.05)


_ENDING = _Ending()
