"""Named arrays out of files that PyTorch and others wrote, without PyTorch, and without running anything in them.

| file | what |
|---|---|
| `.safetensors` | read by the safetensors library |
| `.pth`, `.pt`, `.bin` | what `torch.save` writes of a state dict, in its zip form and its older stream form |
| `.pkl` | a dict `name -> [kernel, bias]` of NumPy arrays, kernels `[h, w, in, out]` |

The last two are pickles. A pickle is a program, so only an unpickler that knows a handful of harmless names reads it.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import load_file

from tfcompact.errors import UserError

State = dict[str, np.ndarray]
Pickled = Any
"""What an unpickler makes of a file; it is looked at before it is believed."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl")

_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save's stream form begins with (torch/serialization.py)
_DTYPES = {
    **{"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"},
    **{"IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "<?"},
}


def read(path: Path) -> State:
    """The arrays in `path` by name, kernels in PyTorch's layout `[out, in, h, w]`.

    Raises `UserError` for a file of another kind, a damaged one, and one that asks for any name but those that
    arrays are made of.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".pkl":
            with path.open("rb") as stream:
                return _from_pairs(_Unpickler(stream).load())
        if zipfile.is_zipfile(path):
            return _tensors(_torch_zip(path))
        with path.open("rb") as stream:
            return _tensors(_torch_stream(stream))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # whatever a damaged file makes a parser do
        raise UserError(f"{path} is not a whole state dict ({type(error).__name__}: {error})") from None


class _Storage:
    """A flat array that is read after the pickle that refers to it."""

    def __init__(self, dtype: str):
        self.dtype, self.values = np.dtype(dtype), np.empty(0, dtype)


class _Tensor:
    """A view of a storage, as torch pickles it: offset, shape and strides in elements."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        """A copy of what the view shows. Raises `UserError` where it shows more than there is."""
        values, step = self.storage.values, self.storage.dtype.itemsize
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        empty = math.prod(self.shape) == 0
        if min((self.offset, *self.strides, *self.shape), default=0) < 0 or (not empty and last >= len(values)):
            raise UserError("a tensor reaches beyond its storage; the file is damaged")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, [s * step for s in self.strides], writeable=False
        )
        return np.array(view)


class _Unpickler(pickle.Unpickler):
    """Knows arrays, tensors and ordered dicts, and no other name."""

    def __init__(self, stream: BinaryIO, persistent: Callable[[Pickled], _Storage] | None = None):
        super().__init__(stream, encoding="latin1")
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Pickled:
        """What stands for a name that a pickle asks for. Raises `UserError` for one that no array needs."""
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _plain_dtype,
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,
            **{("torch", kind): dtype for kind, dtype in _DTYPES.items()},
        }
        if (module, name) not in known:
            raise UserError(f"the file asks for {module}.{name}, which no array needs; it was not loaded")
        return known[module, name]

    def persistent_load(self, pid: Pickled) -> _Storage:
        """The storage that a pickle refers to."""
        if self._persistent is None:
            raise UserError("the file refers to something outside itself; it was not loaded")
        return self._persistent(pid)


def _plain_dtype(code: Pickled, *_: object) -> np.dtype:
    """The dtype of that code, if values of it are numbers."""
    dtype = np.dtype(code)
    if dtype.hasobject:
        raise UserError("the file holds an array of objects; it was not loaded")
    return dtype


def _empty_array(*_: object) -> np.ndarray:
    """What numpy's pickles start from; the content comes in through `__setstate__`, whose dtype is checked above."""
    return np.ndarray((0,), np.int8)


def _torch_zip(path: Path) -> Pickled:
    """The content of `torch.save`'s zip form: a pickle, and a file for each storage that it refers to."""
    with zipfile.ZipFile(path) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = record.removesuffix("data.pkl")

        def storage(pid: Pickled) -> _Storage:
            _, dtype, key, _, count = pid
            made = _Storage(dtype)
            made.values = np.frombuffer(archive.read(f"{folder}data/{key}"), made.dtype, int(count))
            return made

        return _Unpickler(io.BytesIO(archive.read(record)), storage).load()


def _torch_stream(stream: BinaryIO) -> Pickled:
    """The content of `torch.save`'s older form: pickles one after the other, then the storages."""
    if _Unpickler(stream).load() != _MAGIC:
        raise UserError("it does not begin as torch.save begins")
    _Unpickler(stream).load()  # protocol version
    _Unpickler(stream).load()  # byte order and sizes of the machine that wrote it: little-endian everywhere by now
    storages: dict[str, _Storage] = {}

    def storage(pid: Pickled) -> _Storage:
        _, dtype, key, *_ = pid
        return storages.setdefault(key, _Storage(dtype))

    content = _Unpickler(stream, storage).load()
    for key in _Unpickler(stream).load():
        made = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        made.values = np.frombuffer(stream.read(count * made.dtype.itemsize), made.dtype, count)
    return content


def _tensors(content: Pickled) -> State:
    """The arrays of a state dict, or of the checkpoint of a training that holds one."""
    for key in ("state_dict", "model"):  # a checkpoint of somebody's training
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, _Tensor) for v in content.values()):
        raise UserError("it is not a state dict: names with tensors")
    return {_today(str(name)): tensor.array() for name, tensor in content.items()}


def _today(name: str) -> str:
    """A module path as libraries write it now: torchvision's published DenseNets are older than its rename of their
    `norm.1` to `norm1` (torchvision models/densenet.py)."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name.removeprefix("module."))


def _from_pairs(content: Pickled) -> State:
    """The arrays of a dict `name -> [kernel, bias]`."""
    if not isinstance(content, dict):
        raise UserError("it is not a dict of arrays")
    state: State = {}
    for name, (kernel, bias) in content.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = np.asarray(kernel).transpose(3, 2, 0, 1), np.asarray(bias)
    return state
