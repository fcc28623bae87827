"""Sets known by name: digits, fashion_mnist, cifar10, and those of TensorFlow Datasets."""

import gzip
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from tfcompact.data import bundled, open_images
from tfcompact.errors import UnknownName, UserError


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A machine without a network and with an empty home."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(bundled, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(bundled, "answers", lambda address: False)
    monkeypatch.setattr("tfcompact.data.tfds.answers", lambda address: False)


def test_digits_are_those_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    images = open_images("digits", cache=tmp_path)
    loaded = load_digits()
    assert images.classes == tuple("0123456789")
    for i in (0, 100, 1796):
        picture = images._images.load(i, None)
        np.testing.assert_array_equal(picture[..., 1], np.round(loaded.images[i] * 255 / 16))
        assert images._images.labels[i] == loaded.target[i]
    assert min(images.sizes.values()) > 100
    assert open_images("digits", cache=tmp_path).digest == images.digest


def idx(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">IIII", 2051, len(images), 28, 28)
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images.tobytes()))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">II", 2049, len(labels)) + labels.tobytes())
    )


def test_fashion_mnist_comes_from_debians_package_and_keeps_its_test_split(tmp_path, offline):
    random = np.random.default_rng(0)
    for prefix, count in (("train", 600), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        idx(tmp_path / "debian", prefix, random.integers(0, 256, (count, 28, 28)).astype(np.uint8), labels)
    images = open_images("fashion_mnist", cache=tmp_path / "cache")
    assert images.sizes["test"] == 100
    assert images.sizes["train"] + images.sizes["validation"] == 600
    assert images.classes[9] == "Ankle boot"
    pixels, labels = images.arrays("test", px=28, limit=20)
    assert np.bincount(labels).tolist() == [2] * 10
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_a_damaged_package_is_named(tmp_path, offline):
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "t10k-images-idx3-ubyte.gz").write_bytes(b"")
    (tmp_path / "debian" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"x")[:-4])
    with pytest.raises(UserError, match="holds a damaged fashion_mnist"):
        open_images("fashion_mnist", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("fashion_mnist", "connect to the internet once, or: apt-get install dataset-fashion-mnist"),
        ("cifar10", "connect to the internet once, or put https://www.cs.toronto.edu/"),
    ],
)
def test_offline_one_line_says_what_to_do(name, remedy, tmp_path, offline):
    with pytest.raises(UserError, match="is not on this machine and its server does not answer; " + remedy):
        open_images(name, cache=tmp_path)
    assert not (tmp_path / "sets" / name).exists()


def test_a_silent_server_is_given_up_on(monkeypatch):
    import socket

    monkeypatch.setattr(bundled, "TIMEOUT_S", 0.3)
    with socket.socket() as silent:  # accepts, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        assert not bundled.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert time.monotonic() - began < 3


@pytest.fixture(scope="module")
def tfds_home(tmp_path_factory):
    """A directory of TensorFlow Datasets that holds one small prepared set, `dots`."""
    pytest.importorskip("importlib_resources", reason="tensorflow-datasets 4.9.10 needs it and does not say so")
    tfds = pytest.importorskip("tensorflow_datasets")

    class Dots(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(9, 9, 3)),
                "label": tfds.features.ClassLabel(names=["n/a", "b"]),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(0, 60), "test": self._generate_examples(60, 70)}

        def _generate_examples(self, start, end):
            for i in range(start, end):
                pixels = np.random.default_rng(i).integers(0, 256, (9, 9, 3)).astype(np.uint8)
                yield i, {"image": pixels, "label": i % 2}

    home = tmp_path_factory.mktemp("tfds")
    Dots(data_dir=home).download_and_prepare()
    tfds.core.add_data_dir(home)
    return home


def test_a_tfds_set_is_unpacked_and_split(tmp_path, tfds_home, offline):
    images = open_images("tfds:dots", cache=tmp_path / "cache", log=lambda line: None)
    assert (images.name, sorted(images.classes)) == ("tfds:dots", ["b", "n/a"])
    assert images.sizes["test"] == 10
    assert images.sizes["train"] + images.sizes["validation"] == 60
    pixels, labels = images.arrays("test", px=9)
    first = np.random.default_rng(60).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    (place,) = np.flatnonzero((pixels == first).all(axis=(1, 2, 3)))
    assert images.classes[labels[place]] == "n/a"
    assert open_images("tfds:dots", cache=tmp_path / "cache").digest == images.digest


def test_tfds_sets_that_do_not_exist_or_fit(tmp_path, offline):
    pytest.importorskip("importlib_resources", reason="tensorflow-datasets 4.9.10 needs it and does not say so")
    with pytest.raises(UnknownName, match="no TensorFlow Datasets set named 'tf_flower'; did you mean tf_flowers"):
        open_images("tfds:tf_flower", cache=tmp_path)
    with pytest.raises(UserError, match="needs the features 'image' and 'label'"):
        open_images("tfds:ag_news_subset", cache=tmp_path)
    with pytest.raises(UserError, match="tfds:beans is not on this machine and its server does not answer"):
        open_images("tfds:beans", cache=tmp_path)
