"""Models on disk: they come back whole, and a file that would run code does not come in."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from tfcompact import models
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
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
        _nested,
        lambda: keras.Sequential([L.Input((4, 4)), L.Lambda(lambda x: x)]),
    ],
    ids=["plain", "in a wrapper", "in a model", "in a Sequential"],
)
def test_a_lambda_layer_is_not_loaded(build, tmp_path) -> None:
    build().save(tmp_path / "model.h5")
    with pytest.raises(UserError, match="Lambda layer, which would run code"):
        saved.load(tmp_path / "model.h5")


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
