"""Models on disk: they come back whole, and a file that would run code does not come in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tfcompact import models
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.runs import store
from tfcompact.weights import saved

L = keras.layers


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v2_0.35"])
def test_a_float_network_comes_back_to_the_bit(name: str, tmp_path) -> None:
    model = models.build(name, px=32, classes=3)
    saved.save(model, tmp_path / "model.h5")
    back = saved.load(tmp_path / "model.h5")
    x = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(back(x), model(x))
    assert [layer.name for layer in back.layers] == [layer.name for layer in model.layers]
    assert [layer.get_config() for layer in back.layers] == [layer.get_config() for layer in model.layers]


def test_a_quantized_network_of_an_earlier_version_comes_back() -> None:
    """Runs are users' data. This file was written when the quantizers were the module tfcompact.quantizers."""
    qat = saved.load(Path(__file__).parent / "golden" / "quantized.h5")
    image = (np.arange(108, dtype=np.float32).reshape(1, 6, 6, 3) - 54) / 54
    np.testing.assert_allclose(qat(image), [[0.0027758341748267412, 0.005785774905234575]], rtol=1e-6)


def test_saving_says_nothing(tmp_path, recwarn, capfd) -> None:
    inputs = L.Input((4,))
    saved.save(keras.Model(inputs, L.Dense(2)(inputs)), tmp_path / "model.h5")
    saved.load(tmp_path / "model.h5")
    assert not [w for w in recwarn if "HDF5" in str(w.message)]
    assert capfd.readouterr() == ("", "")


def _wrapped(layer):
    inputs = L.Input((4, 4))
    return keras.Model(inputs, layer(inputs))


def _nested():
    inner_input = L.Input((4, 4))
    inner = keras.Model(inner_input, L.Lambda(lambda x: x)(inner_input))
    return _wrapped(inner)


@pytest.mark.parametrize(
    "build",
    [
        lambda: _wrapped(L.Lambda(lambda x: x)),
        lambda: _wrapped(L.TimeDistributed(L.Lambda(lambda x: x))),
        lambda: _wrapped(L.TimeDistributed(keras.Sequential([L.Lambda(lambda x: x)]))),
        _nested,
        lambda: keras.Sequential([L.Input((4, 4)), L.Lambda(lambda x: x)]),
        lambda: _wrapped(lambda x: x * 2),  # a TFOpLambda
        lambda: _wrapped(L.Dense(2, kernel_regularizer="l2")),
    ],
    ids=[
        "plain",
        "in a wrapper",
        "in a model in a wrapper",
        "in a model",
        "in a Sequential",
        "operation",
        "regularizer",
    ],
)
def test_a_network_of_other_classes_is_not_loaded(build, tmp_path) -> None:
    build().save(tmp_path / "model.h5")
    with pytest.raises(
        UserError, match=r"model\.h5 holds '.*', which is not part of any network that tfcompact makes"
    ):
        saved.load(tmp_path / "model.h5")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A saved network of a convolution and a dense layer."""
    inputs = L.Input((4, 4, 1))
    x = L.Flatten()(L.Conv2D(2, 3, name="conv")(inputs))
    path = tmp_path_factory.mktemp("small") / "model.h5"
    saved.save(keras.Model(inputs, L.Dense(2, name="dense")(x)), path)
    return path


def _edited(edit: Callable[[list[dict[str, Any]]], object]) -> Callable[[h5py.File], None]:
    """A change of the config of a file: `edit` is given its layers."""

    def apply(file: h5py.File) -> None:
        config = json.loads(file.attrs["model_config"])
        edit(config["config"]["layers"])
        file.attrs["model_config"] = json.dumps(config)

    return apply


def _set(layer: int, key: str, value: object) -> Callable[[h5py.File], None]:
    return _edited(lambda layers: layers[layer]["config"].__setitem__(key, value))


def _kernel_becomes(member: object) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        group = file["model_weights/dense/dense"]
        del group["kernel:0"]
        if isinstance(member, dict):
            group.create_dataset("kernel:0", **member)
        else:
            group["kernel:0"] = member

    return apply


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (8, 2))
    del file["model_weights/dense/dense/kernel:0"]
    file["model_weights/dense/dense"].create_virtual_dataset("kernel:0", layout)


def _top(name: str) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        config = json.loads(file.attrs["model_config"])
        config["class_name"] = name
        file.attrs["model_config"] = json.dumps(config)

    return apply


def _deep(file: h5py.File) -> None:
    file.attrs["model_config"] = "[" * 20_000 + "]" * 20_000


HOSTILE = {
    "another top": (_top("Model"), "holds 'Model'"),
    "a top of a module": (_top("os>system"), "holds 'os>system'"),
    "a class of a module": (
        _edited(lambda layers: layers[1].update(module="os", class_name="Dense")),
        "holds 'Dense'",
    ),
    "a registered class": (_edited(lambda layers: layers[1].update(registered_name="evil>Dense")), "holds 'Conv2D'"),
    "a name that is none": (_edited(lambda layers: layers[1].update(class_name=["Dense"])), "which is not part of"),
    "a function in an activation": (
        _set(1, "activation", {"class_name": "function", "config": "os.system"}),
        "'function'",
    ),
    "a lambda in an initializer": (
        _set(1, "bias_initializer", {"class_name": "__lambda__", "config": {}}),
        "__lambda__",
    ),
    "a layer that its weights do not fill": (_set(3, "units", 10**9), "describes a larger network"),
    "many small layers more": (_set(1, "filters", 5000), "describes a larger network"),
    "an unknown activation": (_set(1, "activation", "os.system"), "is not a model saved by tfcompact"),
    "an input of no shape": (_set(0, "batch_input_shape", "x"), "is not a model saved by tfcompact"),
    "fewer weights than layers": (lambda file: file["model_weights"].__delitem__("dense"), "is not a model saved"),
    "a deep config": (_deep, "is not a model saved by tfcompact"),
    "another shape": (_kernel_becomes({"shape": (2, 8), "dtype": "f4"}), "is not a model saved by tfcompact"),
    "an external link": (_kernel_becomes(h5py.ExternalLink("other.h5", "/x")), "has a link in the place of weights"),
    "a soft link": (_kernel_becomes(h5py.SoftLink("/model_weights")), "has a link in the place of weights"),
    "external storage": (
        _kernel_becomes({"shape": (8, 2), "dtype": "f4", "external": [("/etc/hostname", 0, 64)]}),
        "not numbers in the file",
    ),
    "virtual storage": (_virtual, "not numbers in the file"),
    "text": (_kernel_becomes({"data": ["a"], "dtype": h5py.string_dtype()}), "not numbers in the file"),
    "terabytes that are not there": (
        _kernel_becomes({"shape": (2**20, 2**20), "dtype": "f4", "chunks": (1024, 1024)}),
        "is shorter than that",
    ),
    "a group in itself": (lambda file: file["model_weights"].__setitem__("again", file["/"]), "has a link"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(change, message: str, small: Path, tmp_path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(small.read_bytes())
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(UserError, match=message) as caught:
        saved.load(path)
    assert "\n" not in str(caught.value)


def test_a_run_is_loaded_only_as_it_was_written(small: Path, tmp_path) -> None:
    with store.recording(tmp_path, "net", "fit", {"parent": None, "stage": "fit"}, {}) as directory:
        shutil.copy(small, directory / "model.h5")
    (run,) = store.finished(tmp_path)
    weights = saved.of_run(run).get_weights()
    with h5py.File(run.path / "model.h5", "a") as file:
        file["model_weights/dense/dense/kernel:0"][0, 0] += 1
    assert saved.load(run.path / "model.h5").get_weights()[2][0, 0] == weights[2][0, 0] + 1  # a whole file, another
    with pytest.raises(
        UserError, match=r"model\.h5 is not as it was written: the run is damaged; remove .*fit-\w+, and"
    ):
        saved.of_run(run)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_no_model_is_named(content: bytes, tmp_path) -> None:
    (tmp_path / "model.h5").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.h5 is not a model saved by tfcompact"):
        saved.load(tmp_path / "model.h5")


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"nothing\.h5 is not a model"):
        saved.load(tmp_path / "nothing.h5")


@pytest.mark.parametrize("config", [None, {}, [], {"config": []}])
def test_hdf5_without_a_network_is_named(config, tmp_path) -> None:
    with h5py.File(tmp_path / "model.h5", "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(UserError, match=r"model\.h5 is not a model"):
        saved.load(tmp_path / "model.h5")
