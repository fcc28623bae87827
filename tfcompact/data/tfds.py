"""`tfds:NAME`: any classification set of TensorFlow Datasets, unpacked once into a folder of images.

Its files hold encoded images one after the other, without a way to reach the i-th. As a folder they go through the
same verification, splits and cache as photographs do. A split that is not train, validation or test is left out.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tfcompact.data.bundled import SETS, answers
from tfcompact.data.collection import Collection
from tfcompact.data.folder_names import SPLIT_FOLDERS
from tfcompact.data.folders import open_folder
from tfcompact.errors import UnknownName, UserError
from tfcompact.frameworks import tensorflow_datasets

PREFIX = "tfds:"
Builder = Any
"""A set of TensorFlow Datasets, as `tensorflow_datasets.builder` gives it."""
# A mirrored character is another character, or none.
CHARACTERS = frozenset(
    {"mnist", "emnist", "kmnist", "qmnist", "svhn_cropped", "omniglot", "cmaterdb", "binarized_mnist"}
)
SUFFIX = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"BM": ".bmp", b"GI": ".gif"}


def open_tfds(name: str, cache: Path, *, skip_unreadable: bool, log: Callable[[str], None]) -> Collection:
    """The set that TensorFlow Datasets calls `name` (`mnist`, `tf_flowers`, `emnist/letters`, `beans:0.1.0`).

    Raises `UserError`: no such set, not one of single labelled images, no train split, not here and not downloadable.
    """
    builder = _builder(name)
    folder = cache / "tfds" / quote(builder.info.full_name, safe="")
    if not folder.is_dir():
        _download(builder, name)
        _unpack(builder, name, folder, log)
    collection = open_folder(folder, cache, skip_unreadable=skip_unreadable, log=log, name_of=unquote)
    if builder.name in CHARACTERS:
        return replace(collection, name=PREFIX + name, flippable=False, least_crop=SETS["digits"].least_crop)
    return replace(collection, name=PREFIX + name)


def _builder(name: str) -> Builder:
    """The set called `name`. Raises `UserError` where it is not one of single labelled images."""
    try:
        builder = tensorflow_datasets.builder(name)
    except tensorflow_datasets.core.DatasetNotFoundError:
        raise UnknownName(
            "TensorFlow Datasets set", name, tensorflow_datasets.list_builders(with_community_datasets=False)
        ) from None
    except (ValueError, AssertionError, RuntimeError) as error:  # an unknown version or config
        raise UserError(f"{PREFIX}{name}: {' '.join(str(error).split())[:200]}") from None
    features = dict(builder.info.features.items())
    kinds = tensorflow_datasets.features
    if not (isinstance(features.get("image"), kinds.Image) and isinstance(features.get("label"), kinds.ClassLabel)):
        raise UserError(
            f"{PREFIX}{name} is not a classification set: it needs the features 'image' and 'label', "
            f"and has {', '.join(sorted(features))}"
        )
    return builder


def _download(builder: Builder, name: str) -> None:
    """Fetches the set unless it is here. Raises `UserError` where that fails."""
    if builder.is_prepared():
        return
    # TensorFlow Datasets asks a silent network for minutes.
    address = next(iter(builder.url_infos), "https://storage.googleapis.com")
    if not answers(address):
        raise UserError(
            f"{PREFIX}{name} is not on this machine and its server does not answer; "
            f"connect to the internet once, or put a prepared copy into {builder.data_dir}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever a server or a set's own script comes up with
        line = " ".join(str(error).split())[:200]
        raise UserError(f"{PREFIX}{name} could not be downloaded ({line}); try again, or choose another") from None


def _unpack(builder: Builder, name: str, folder: Path, log: Callable[[str], None]) -> None:
    """Writes every image as it is encoded to `folder/SPLIT/CLASS/NUMBER.jpg`; the folder is whole or absent."""
    splits = [split for split in builder.info.splits if split in SPLIT_FOLDERS]
    if "train" not in splits:
        raise UserError(f"{PREFIX}{name} has no split 'train', only {', '.join(builder.info.splits)}")
    classes = [quote(label, safe=" ") for label in builder.info.features["label"].names]
    log(f"Unpacking {PREFIX}{name} to {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        whole = Path(temporary) / "whole"
        for split in splits:
            images = builder.as_dataset(split=split, decoders={"image": tensorflow_datasets.decode.SkipDecoding()})
            for class_folder in classes:
                (whole / split / class_folder).mkdir(parents=True)
            for i, row in enumerate(images.as_numpy_iterator()):
                data = row["image"]
                suffix = SUFFIX.get(data[:2], ".jpg")
                (whole / split / classes[row["label"]] / f"{i:07d}{suffix}").write_bytes(data)
            for class_folder in classes:  # a class that only another split has
                with contextlib.suppress(OSError):
                    (whole / split / class_folder).rmdir()
        with contextlib.suppress(OSError):  # another process was faster
            whole.rename(folder)
    if not folder.is_dir():
        raise UserError(f"cannot write {folder}; give another with --cache")
