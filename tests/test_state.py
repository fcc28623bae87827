"""Arrays out of other people's files: the same numbers, and nothing that runs."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tfcompact.errors import UserError
from tfcompact.weights import state_dict

RNG = np.random.default_rng(0)


class _Reference:
    """Pickles as a call of `module.name(*arguments)`, as a file from outside could hold it."""

    def __init__(self, module: str, name: str, *arguments):
        self.called = (module, name, arguments)


class _Pickler(pickle._Pickler):
    """Writes `_Reference`s by name, without importing what they name, and `_Stored`s as persistent ids."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Reference):
            module, name, arguments = obj.called
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
            self.save(arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, _Stored):
            self.save(("storage", _Name("torch", "FloatStorage"), obj.key, "cpu", obj.count))
            self.write(pickle.BINPERSID)
        elif isinstance(obj, _Name):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, save_persistent_id)


class _Stored:
    def __init__(self, key: str, count: int):
        self.key, self.count = key, count


class _Name:
    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


def pickled(content) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def tensors(arrays):
    """A state dict as torch pickles it, and the storages it refers to."""
    content, storages = {}, {}
    for i, (name, array) in enumerate(arrays.items()):
        strides = tuple(s // array.itemsize for s in array.strides)
        content[name] = _Reference(
            "torch._utils", "_rebuild_tensor_v2", _Stored(str(i), array.size), 0, array.shape, strides, False, {}
        )
        storages[str(i)] = array.ravel(order="K")
    return content, storages


@pytest.fixture
def arrays():
    return {
        "stem.weight": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "fc.weight": np.asfortranarray(RNG.normal(size=(5, 4)).astype(np.float32)),  # strides that are not C's
        "fc.bias": RNG.normal(size=5).astype(np.float32),
    }


def torch_zip(arrays, path: Path) -> Path:
    content, storages = tensors(arrays)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickled(content))
        for key, values in storages.items():
            archive.writestr(f"net/data/{key}", values.tobytes())
    return path


def torch_stream(arrays, path: Path) -> Path:
    content, storages = tensors(arrays)
    parts = [pickled(state_dict.MAGIC), pickled(1001), pickled({"little_endian": True}), pickled(content)]
    parts.append(pickled(list(storages)))
    for values in storages.values():
        parts.append(struct.pack("<q", values.size) + values.tobytes())
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("write", [torch_zip, torch_stream])
def test_both_forms_of_torch_files_read_the_same(write, arrays, tmp_path: Path) -> None:
    found = state_dict.read(write(arrays, tmp_path / "net.pth"))
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_torchvisions_older_densenets_are_read_by_their_names_of_today(tmp_path: Path) -> None:
    older = "features.denseblock1.denselayer2.norm.1.weight"
    found = state_dict.read(torch_zip({older: np.ones(3, np.float32)}, tmp_path / "densenet.pth"))
    assert list(found) == ["features.denseblock1.denselayer2.norm1.weight"]


def test_safetensors(arrays, tmp_path: Path) -> None:
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "net.safetensors")
    found = state_dict.read(tmp_path / "net.safetensors")
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_pairs_of_numpy_arrays_become_torch_layout(tmp_path: Path) -> None:
    kernel, bias = RNG.normal(size=(3, 3, 2, 7)).astype(np.float32), np.arange(7, dtype=np.float32)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"conv1": [kernel, bias]}, protocol=3))
    found = state_dict.read(tmp_path / "net.pkl")
    assert found["conv1.weight"].shape == (7, 2, 3, 3)
    assert np.array_equal(found["conv1.weight"].transpose(2, 3, 1, 0), kernel)
    assert np.array_equal(found["conv1.bias"], bias)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("posix", "system"), ("numpy", "load"), ("torch", "load")],
)
@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_file_that_would_run_something_is_refused(module: str, name: str, suffix: str, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / f"net{suffix}"
    path.write_bytes(pickled({"a": _Reference(module, name, f"touch {trace}")}))
    with pytest.raises(UserError, match=rf"{module}\.{name}"):
        state_dict.read(path)
    assert not trace.exists()


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"a": np.array([{}, {}], object)}, protocol=3))
    with pytest.raises(UserError, match="objects"):
        state_dict.read(tmp_path / "net.pkl")


@pytest.mark.parametrize("write", [torch_zip, torch_stream])
def test_a_truncated_file_is_one_line(write, arrays, tmp_path: Path) -> None:
    path = write(arrays, tmp_path / "net.pth")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="net.pth"):
        state_dict.read(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    wrong = _Reference("torch._utils", "_rebuild_tensor_v2", _Stored("0", 4), 0, (1000, 1000), (1000, 1), False, {})
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/data.pkl", pickled({"a": wrong}))
        archive.writestr("net/data/0", np.zeros(4, np.float32).tobytes())
    with pytest.raises(UserError, match="beyond its storage"):
        state_dict.read(tmp_path / "net.pth")


def test_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_text("not weights")
    (tmp_path / "net.pth").write_text("not weights")
    for name in ("net.safetensors", "net.pth"):
        with pytest.raises(UserError, match=f"{name}: not a file of weights"):
            state_dict.read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>Virus scan warning", "a web page in its place"),
        (b"\x1f\x8b\x08" + bytes(40), "packed by gzip"),
        (b"", "it is empty"),
        (b"\x08\x07\x12\x07pytorch" + bytes(40), "net.pth: not a file of weights"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "net.pth: not a file of weights"),
    ],
    ids=["LFS", "web page", "gzip", "empty", "ONNX", "TFLite"],
)
def test_what_lies_in_the_place_of_weights_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        state_dict.read(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)


def checkpoint(content, storages, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickled(content))
        for key, values in storages.items():
            archive.writestr(f"net/data/{key}", values.tobytes())
    return path


FORMS = {
    "under model_state_dict": lambda c: {"epoch": 3, "model_state_dict": c, "optimizer": {"lr": 0.1}},
    "under net": lambda c: {"net": c, "acc": 93.1},
    "under two keys": lambda c: {"model": {"state_dict": c}},
    "an average beside": lambda c: {"state_dict_ema": dict.fromkeys(c, next(iter(c.values()))), "state_dict": c},
    "an average alone": lambda c: {"epoch": 1, "model_ema": c},
    "distributed": lambda c: {f"module.{k}": v for k, v in c.items()},
    "compiled": lambda c: {f"_orig_mod.{k}": v for k, v in c.items()},
    "compiled, then distributed": lambda c: {f"module._orig_mod.{k}": v for k, v in c.items()},
    "distributed, then compiled": lambda c: {f"_orig_mod.module.{k}": v for k, v in c.items()},
    "Lightning": lambda c: {"state_dict": {f"model.{k}": v for k, v in c.items()}, "hyper_parameters": {"lr": 1e-3}},
    "numbers beside": lambda c: c | {"num_updates": 7, "best": None, "name": "net"},
    "a namespace beside": lambda c: {"state_dict": c, "args": _Reference("argparse", "Namespace", "lr")},
    "an optimizer's state beside": lambda c: {"model": c, "scaler": _Reference("torch.cuda", "GradScaler", 2.0)},
    "a path beside": lambda c: {"model": c, "dir": _Reference("pathlib", "PosixPath", "a", "b")},
    "a default dict beside": lambda c: {"model": c, "log": _Reference("collections", "defaultdict", _Name("a", "b"))},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ["net.pth.tar", "net.ckpt", "weights"])
def test_checkpoints_of_every_kind_of_training_are_read(form, name, arrays, tmp_path: Path) -> None:
    content, storages = tensors(arrays)
    found = state_dict.read(checkpoint(form(content), storages, tmp_path / name))
    assert {key: value.tolist() for key, value in found.items()} == {k: v.tolist() for k, v in arrays.items()}


def test_bytes_decide_not_the_suffix(arrays, tmp_path: Path) -> None:
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "net.pth")
    assert set(state_dict.read(tmp_path / "net.pth")) == set(arrays)
    torch_zip(arrays, tmp_path / "net.safetensors")
    assert set(state_dict.read(tmp_path / "net.safetensors")) == set(arrays)


def test_bfloat16_in_both_kinds_of_files(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625, 0.0], np.float32)  # exact in 8 bits of mantissa
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)

    content = {"a": _Reference("torch._utils", "_rebuild_tensor_v2", _Stored("0", 4), 0, (2, 2), (2, 1), False, {})}
    data = pickled(content).replace(b"FloatStorage", b"BFloat16Storage")
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/data.pkl", data)
        archive.writestr("net/data/0", halves.tobytes())
    header = b'{"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}'
    (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + halves.tobytes())
    for name in ("net.pth", "net.safetensors"):
        assert state_dict.read(tmp_path / name)["a"].tolist() == values.reshape(2, 2).tolist()


def view(shape, strides, key="0", count=4):
    return _Reference("torch._utils", "_rebuild_tensor_v2", _Stored(key, count), 0, shape, strides, False, {})


BOMBS = {
    "an index of memory": (b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b".", "numbers its parts"),
    "a stride of 0": ({"a": view((2**31,), (0,))}, "more values than its storage has"),
    "one storage over and over": ({str(i): view((4,), (1,)) for i in range(1000)}, "over and over"),
    "a storage that is not there": ({"a": view((2**31,), (1,), count=2**31)}, "larger than the file says|shorter"),
    "an array of no bytes": (pickled(_Reference("numpy", "ndarray", (10**12,))), "is not a"),
}


@pytest.mark.parametrize(("content", "message"), BOMBS.values(), ids=BOMBS)
def test_small_files_do_not_take_much_memory(content, message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        checkpoint(content, {"0": np.zeros(4, np.float32)}, path)
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        state_dict.read(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_compressed_storages_are_refused(arrays, tmp_path: Path) -> None:
    content, storages = tensors(arrays)
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickled(content))
        for key, values in storages.items():
            archive.writestr(f"net/data/{key}", values.tobytes())
    with pytest.raises(UserError, match="is compressed, or larger"):
        state_dict.read(tmp_path / "net.pth")
