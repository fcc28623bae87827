"""Named arrays out of files that PyTorch and others wrote, without PyTorch, and without running anything in them.

| bytes | what |
|---|---|
| safetensors | read by the safetensors library |
| zip, or several pickles | what `torch.save` writes, now and formerly: a state dict, or a checkpoint that holds one |
| one pickle | a dict `name -> [kernel, bias]` of NumPy arrays, kernels `[h, w, in, out]` |

The bytes decide, not the suffix. The last two are pickles: `inert_pickle` reads them.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors

from tfcompact.errors import UserError
from tfcompact.weights import inert_pickle
from tfcompact.weights.inert_pickle import Pickled, Storage, TensorView

State = dict[str, np.ndarray]
HDF5 = b"\x89HDF\r\n\x1a\n"
MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save's stream form begins with (torch/serialization.py)
HOLDERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "teacher", "student"),
)
"""Keys under which checkpoints of trainings hold a state dict; the first that is there is taken, averages last."""
PREFIXES = re.compile(r"^(?:(?:module|_orig_mod|model|net|network|backbone)\.)+")
"""What wrappers write before the names of modules, in any order: distributed, compiled, Lightning."""
LARGEST_PICKLE = 64 << 20  # bytes of the pickle of a zip: it holds names, not values
SAFE_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2"},
    **{"I8": "<i1", "U8": "<u1", "BOOL": "?"},
}


OTHER_KINDS = {
    b"version": "a pointer of Git LFS in its place (git lfs pull fetches it), ",
    b"<": "a web page in its place (download it again), ",
    b"\x1f\x8b": "packed by gzip (unpack it), ",
}
"""First bytes of what lies in the place of weights, and what to do."""


def read(path: Path) -> State:
    """The arrays in `path` by name, kernels in PyTorch's layout `[out, in, h, w]`.

    What is in the file beside arrays is left out. Memory is bounded by three times the arrays' bytes. Raises
    `UserError` for a file of another kind, a damaged one, and one without arrays.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
            stream.seek(0)
            if start.startswith(b"PK"):
                return _tensors(*_torch_zip(path))
            if start[8:9] == b"{":
                return _safe(stream.read())
            if start.startswith(pickle.PROTO):
                return _pickles(stream)
            kind = next((kind for first, kind in OTHER_KINDS.items() if start.startswith(first)), "")
            kind = kind or ("it is empty; " if not start else "")
            raise UserError(f"{kind}not a file of weights: HDF5 of Keras, safetensors, or what torch.save writes")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # whatever a damaged file makes a parser do
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a whole state dict ({type(error).__name__}: {reason:.200})") from None


def is_hdf5(path: Path) -> bool:
    """Whether the file is HDF5, as Keras writes weights."""
    with path.open("rb") as stream:
        return stream.read(len(HDF5)) == HDF5


def _safe(content: bytes) -> State:
    """The arrays of a safetensors file."""
    state: State = {}
    for name, facts in safetensors.deserialize(content):  # type: ignore[no-untyped-call]
        values = np.frombuffer(facts["data"], SAFE_DTYPES[facts["dtype"]]).reshape(facts["shape"])
        state[name] = inert_pickle.bfloat16(values) if facts["dtype"] == "BF16" else values
    return _named(state)


def _torch_zip(path: Path) -> tuple[Pickled, list[str]]:
    """The content of `torch.save`'s zip form: a pickle, and a file for each storage that it refers to."""
    strangers: list[str] = []
    with zipfile.ZipFile(path) as archive:
        records = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(records) != 1:
            raise UserError("it is a zip, but not as torch.save writes one")
        folder = records[0].removesuffix("data.pkl")
        storages: dict[str, Storage] = {}

        def storage(pid: Pickled) -> Storage:
            _, kind, key, _, count = pid
            if key not in storages:
                storages[key] = Storage(kind)
                size = int(count) * storages[key].dtype.itemsize
                storages[key].fill(_stored(archive, f"{folder}data/{key}", size), int(count))
            return storages[key]

        content = _stored(archive, records[0], LARGEST_PICKLE)
        return inert_pickle.load(io.BytesIO(content), storage, strangers), strangers


def _stored(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of a zip, which must lie in it as it is: what is compressed may be of any size."""
    facts = archive.getinfo(name)
    if facts.compress_type != zipfile.ZIP_STORED or facts.file_size > max(most, 1):
        raise UserError(f"{name} in it is compressed, or larger than the file says; it was not loaded")
    return archive.read(name)


def _pickles(stream: BinaryIO) -> State:
    """The arrays of a file that begins with a pickle."""
    strangers: list[str] = []
    content = inert_pickle.load(stream, strangers=strangers)
    if content != MAGIC:
        return _from_pairs(content, strangers) if isinstance(content, dict) else _tensors(content, strangers)
    inert_pickle.load(stream)  # protocol version
    inert_pickle.load(stream)  # byte order and sizes of the machine that wrote it: little-endian everywhere by now
    storages: dict[str, Storage] = {}

    def storage(pid: Pickled) -> Storage:
        _, kind, key, *_ = pid
        return storages.setdefault(key, Storage(kind))

    content = inert_pickle.load(stream, storage, strangers)
    for key in inert_pickle.load(stream):
        made = storages[key]
        count = int.from_bytes(stream.read(8), "little")
        made.fill(stream.read(count * made.dtype.itemsize), count)
    return _tensors(content, strangers)


def _tensors(content: Pickled, strangers: list[str]) -> State:
    """The arrays of a state dict, or of the checkpoint of a training that holds one."""
    while isinstance(content, dict) and (holder := next((k for k in HOLDERS if _holds(content.get(k))), None)):
        content = content[holder]
    if not _holds(content):
        asked = f"; it asks for {strangers[0]}, which was not run: save its state_dict() instead" if strangers else ""
        raise UserError(f"it is not a state dict: names with tensors{asked}")
    views = {str(name): value for name, value in content.items() if isinstance(value, TensorView)}
    storages = {id(view.storage): len(view.storage.values) for view in views.values()}
    shown = sum(min(math.prod(view.shape), len(view.storage.values)) for view in views.values())
    if shown > 2 * sum(storages.values()):
        raise UserError("its tensors show its storages over and over; it was not loaded")
    return _named({name: view.array() for name, view in views.items()})


def _holds(content: Any) -> bool:
    """Whether it is a dict with a tensor in it, or with a dict that holds one."""
    if not isinstance(content, dict):
        return False
    return any(isinstance(value, TensorView) for value in content.values()) or any(
        _holds(content.get(key)) for key in HOLDERS
    )


def _named(state: State) -> State:
    """The arrays under the names that libraries give them now, without what wrappers wrote before these.

    torchvision's published DenseNets are older than its rename of their `norm.1` to `norm1` (torchvision
    models/densenet.py).
    """
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", PREFIXES.sub("", name)): values
        for name, values in state.items()
    }


def _from_pairs(content: dict[Any, Any], strangers: list[str]) -> State:
    """The arrays of a dict `name -> [kernel, bias]`."""
    state: State = {}
    for name, pair in content.items():
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(a, np.ndarray) for a in pair):
            asked = f"; it asks for {strangers[0]}, which was not run" if strangers else ""
            raise UserError(f"it is not a dict of arrays: {name!s:.60}{asked}")
        kernel, bias = pair
        state[f"{name}.weight"], state[f"{name}.bias"] = kernel.transpose(3, 2, 0, 1), bias
    return state
