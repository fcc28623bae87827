"""Pickles that are only looked at: arrays and tensors come out of them, and nothing in them runs.

A pickle is a program. This unpickler knows what arrays are made of; any other name that it asks for becomes an inert
stand-in, which takes whatever is done to it and does nothing.
"""

from __future__ import annotations

import collections
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import numpy as np

from tfcompact.errors import UserError

Pickled = Any
"""What an unpickler makes of a file; it is looked at before it is believed."""
DTYPES = {
    **{"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"},
    **{"IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "<?"},
}
BFLOAT16 = "BFloat16Storage"


class Storage:
    """A flat array that is read after the pickle that refers to it. `kind` is torch's name of its class."""

    def __init__(self, kind: str):
        self.bfloat16 = kind == BFLOAT16
        if not self.bfloat16 and kind not in DTYPES:
            raise UserError(f"the file holds a {kind}, which is no array of numbers")
        self.dtype = np.dtype("<u2" if self.bfloat16 else DTYPES[kind])
        self.values = np.empty(0, self.dtype)

    def fill(self, content: bytes, count: int) -> None:
        """Takes the values out of the file's bytes."""
        if count * self.dtype.itemsize > len(content):
            raise UserError("a storage is shorter than the file says; it is damaged")
        self.values = np.frombuffer(content, self.dtype, count)


class TensorView:
    """A view of a storage, as torch pickles it: offset, shape and strides in elements."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        """A copy of what the view shows. Raises `UserError` where it shows more than there is."""
        values, step = self.storage.values, self.storage.dtype.itemsize
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        if min((self.offset, *self.strides, *self.shape), default=0) < 0 or (count and last >= len(values)):
            raise UserError("a tensor reaches beyond its storage; the file is damaged")
        if count > len(values):
            raise UserError("a tensor shows more values than its storage has; the file is damaged")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, [s * step for s in self.strides], writeable=False
        )
        return bfloat16(view) if self.storage.bfloat16 else np.array(view)


class Inert:
    """What stands for anything but an array: it takes what is done to it, and does nothing."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object): ...
    def __call__(self, *_: object, **__: object) -> Inert:
        return self

    def __setstate__(self, _: object) -> None: ...
    def __setitem__(self, _: object, __: object) -> None: ...
    def append(self, _: object) -> None:
        """Takes an item of what it stands for."""

    def extend(self, _: object) -> None:
        """Takes items of what it stands for."""

    def add(self, _: object) -> None:
        """Takes an item of what it stands for."""


class Reader(pickle.Unpickler):
    """Knows arrays, tensors and ordered dicts; `strangers` are the other names that a file asked for."""

    def __init__(self, stream: BinaryIO, persistent: Callable[[Pickled], Storage] | None = None):
        super().__init__(stream, encoding="latin1")
        self._persistent = persistent
        self.strangers: list[str] = []

    def find_class(self, module: str, name: str) -> Pickled:
        """What stands for a name that a pickle asks for."""
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): TensorView,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("numpy", "dtype"): _plain_dtype,
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        }
        if module == "torch" and name.endswith("Storage"):
            return name
        if (module, name) in known:
            return known[module, name]
        if (module, name) != ("numpy", "ndarray"):  # which is only named, for `_reconstruct`
            self.strangers.append(f"{module}.{name}")
        return Inert

    def persistent_load(self, pid: Pickled) -> Storage:
        """The storage that a pickle refers to."""
        if self._persistent is None:
            raise UserError("the file refers to something outside itself; it was not loaded")
        return self._persistent(pid)


def load(
    stream: BinaryIO, persistent: Callable[[Pickled], Storage] | None = None, strangers: list[str] | None = None
) -> Pickled:
    """The next pickle of a stream. `strangers` collects what it asked for that no array needs.

    Raises `UserError` for one that numbers what it remembers with gaps: nine bytes can ask for gigabytes so.
    """
    start = stream.tell()
    for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if "PUT" in operation.name and int(cast("int", argument)) > number:
            raise UserError("the file numbers its parts as no program does; it was not loaded")
    stream.seek(start)
    reader = Reader(stream, persistent)
    found = reader.load()
    if strangers is not None:
        strangers += reader.strangers
    return found


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The float32 numbers whose upper halves these are, uint16."""
    wide: np.ndarray = values.astype(np.uint32) << 16
    return wide.view(np.float32)


def _plain_dtype(code: Pickled, *_: object) -> np.dtype:
    """The dtype of that code, if values of it are numbers."""
    dtype = np.dtype(code)
    if dtype.hasobject:
        raise UserError("the file holds an array of objects; it was not loaded")
    if dtype.kind not in "fiub":
        raise UserError(f"the file holds an array of {dtype}, which are no numbers; it was not loaded")
    return dtype


def _empty_array(*_: object) -> np.ndarray:
    """What numpy's pickles start from; the content comes in through `__setstate__`, whose dtype is checked above."""
    return np.ndarray((0,), np.int8)
