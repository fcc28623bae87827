"""Image sets known by name: small pictures that are kept as arrays.

| name | images | px | test split |
|---|---|---|---|
| digits | 1,797 handwritten digits, grey, from scikit-learn: always there | 8 | by content |
| fashion_mnist | 70,000 garments, grey (Xiao et al. 2017, arXiv:1708.07747) | 28 | the official 10,000 |
| cifar10 | 60,000 animals and vehicles, colour (Krizhevsky 2009) | 32 | the official 10,000 |
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import tempfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfcompact.data.collection import Collection
from tfcompact.data.images import Pixels
from tfcompact.data.splits import Split
from tfcompact.data.verified import sha256
from tfcompact.errors import UserError
from tfcompact.files import write_array
from tfcompact.frameworks import keras

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
TIMEOUT_S = 8.0  # for a server to answer at all
STALL_S = 30.0  # for the next bytes of a download

Arrays = dict[
    Split, tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer]]
]  # images [n, h, w] or [n, h, w, 3], labels [n]


@dataclass(frozen=True)
class Bundled:
    """A set's class names, how to get its arrays, and what training may do to its images.

    `least_crop` is larger than for photographs: the object fills the picture, and a crop of a third of it shows parts
    that other classes share.
    """

    classes: tuple[str, ...]
    arrays: Callable[[Path], Arrays]
    flippable: bool
    least_crop: float = 0.7


def open_bundled(name: str, cache: Path) -> Collection:
    """The set called `name`, from `cache` or made there. Raises `UserError` where it cannot be had."""
    bundled = SETS[name]
    folder = cache / "sets" / name
    if not folder.is_dir():
        _keep(bundled.arrays(cache), folder)
    splits: tuple[Split, ...] = ("train", "test")
    present: list[Split] = [split for split in splits if (folder / f"{split}-images.npy").is_file()]
    images = [np.load(folder / f"{split}-images.npy", mmap_mode="r") for split in present]
    labels = [np.load(folder / f"{split}-labels.npy") for split in present]
    starts = np.cumsum([0, *map(len, images)])

    def at(i: int) -> npt.NDArray[np.uint8]:
        part = int(np.searchsorted(starts, i, side="right")) - 1
        picture: npt.NDArray[np.uint8] = images[part][i - starts[part]]
        return picture

    def load(i: int, at_least: int | None = None) -> Pixels:
        picture = at(i)
        return np.array(picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1))

    count = int(starts[-1])
    return Collection(
        name=name,
        classes=bundled.classes,
        labels=np.concatenate(labels).astype(np.int64),
        given=tuple(
            None if len(present) == 1 else split for split, k in zip(present, labels, strict=True) for _ in k
        ),
        content=tuple(sha256(at(i).tobytes()) for i in range(count)),
        sizes=np.tile(np.int32(images[0].shape[1:3]), (count, 1)),
        load=load,
        describe=lambda i: f"{name}[{i}]",
        key=name,
        in_memory=True,
        flippable=bundled.flippable,
        least_crop=bundled.least_crop,
    )


def _keep(arrays: Arrays, folder: Path) -> None:
    """Writes the arrays as a directory that is whole or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        for split, (images, labels) in arrays.items():
            write_array(whole / f"{split}-images.npy", images)
            write_array(whole / f"{split}-labels.npy", np.asarray(labels).reshape(-1))
        # Where another process was faster, its directory holds the same.
        with contextlib.suppress(OSError):
            whole.rename(folder)
    if not folder.is_dir():
        raise UserError(f"cannot write {folder}; give another with --cache")


def _digits(cache: Path) -> Arrays:
    """The arrays of scikit-learn, which has them always."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    loaded = load_digits()
    return {"train": ((loaded.images * (255 / 16)).round().astype(np.uint8), loaded.target)}  # given in 0..16


def _fashion_mnist(cache: Path) -> Arrays:
    """The arrays from Keras' cache, a Debian package, or the internet."""
    for folder in (_keras_home() / "datasets/fashion-mnist", DEBIAN):
        if (folder / "t10k-images-idx3-ubyte.gz").is_file():
            return {"train": _idx_pair(folder, "train"), "test": _idx_pair(folder, "t10k")}
    remedy = "connect to the internet once, or: apt-get install dataset-fashion-mnist"
    with _downloading("fashion_mnist", "https://storage.googleapis.com/tensorflow/tf-keras-datasets/", remedy):
        train, test = keras.datasets.fashion_mnist.load_data(cache_dir=str(cache / "keras"))
    return {"train": train, "test": test}


def _cifar10(cache: Path) -> Arrays:
    """The arrays from Keras' cache, or the internet."""
    home = _keras_home()
    if (home / "datasets/cifar-10-batches-py.tar.gz").is_file():
        train, test = keras.datasets.cifar10.load_data(cache_dir=str(home))
        return {"train": train, "test": test}
    archive = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    remedy = f"connect to the internet once, or put {archive} at {home}/datasets/cifar-10-batches-py.tar.gz"
    with _downloading("cifar10", archive, remedy):
        train, test = keras.datasets.cifar10.load_data(cache_dir=str(cache / "keras"))
    return {"train": train, "test": test}


def _idx_pair(folder: Path, prefix: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images `[n, 28, 28]` and labels `[n]` from the idx files of the MNIST family."""
    try:
        images = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
        pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)  # after magic, count, rows, columns
        return pixels, np.frombuffer(labels, np.uint8, offset=8)  # after magic and count
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{folder} holds a damaged fashion_mnist ({error}); remove it, or install it again") from None


def _keras_home() -> Path:
    """Where Keras keeps what it has downloaded."""
    return Path.home() / ".keras"


@contextlib.contextmanager
def _downloading(name: str, address: str, remedy: str) -> Iterator[None]:
    """Turns a failing or silent network into one line, soon."""
    if not answers(address):
        raise UserError(f"{name} is not on this machine and its server does not answer; {remedy}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_S)
    try:
        yield
    except Exception as error:  # Keras raises bare Exceptions
        raise UserError(f"{name} could not be downloaded ({' '.join(str(error).split())}); {remedy}") from None
    finally:
        socket.setdefaulttimeout(before)


def answers(address: str) -> bool:
    """Whether a server answers within `TIMEOUT_S`, resolving its name included (which no socket timeout bounds)."""
    result: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=TIMEOUT_S):
                result.append(True)
        except urllib.error.HTTPError:
            result.append(True)  # it refuses this question, but it is there
        except (OSError, ValueError):
            result.append(False)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(TIMEOUT_S)
    return result == [True]


# fmt: off
SETS = {
    "digits": Bundled(tuple("0123456789"), _digits, flippable=False),
    "fashion_mnist": Bundled(
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        _fashion_mnist, flippable=True,
    ),
    "cifar10": Bundled(
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        _cifar10, flippable=True,
    ),
}
# fmt: on
