"""Image sets: from a folder of photographs, or a name, to batches that a network trains on.

| file | what |
|---|---|
| image_files, images | one file to pixels, safely; the evaluation transform; normalization. No TensorFlow |
| folders, bundled, tfds, imagenet | where images come from; each gives a `collection.Collection` |
| verified | every file decoded once, and remembered |
| splits | train, validation, test by content hash |
| cache, feed | decoded pixels on disk, and from there into a graph |
| augment, randomness, batches | training batches as a function of seed, epoch and step |
| imageset | what the rest of the house sees |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfcompact.data import imagenet
from tfcompact.data.augment import NO_AUGMENT, Augment
from tfcompact.data.bundled import SETS, open_bundled
from tfcompact.data.cache import MAX_BYTES
from tfcompact.data.folders import LAYOUT, open_folder
from tfcompact.data.image_files import escape
from tfcompact.data.imageset import ImageSet
from tfcompact.data.tfds import PREFIX, open_tfds
from tfcompact.errors import UserError, suggestion
from tfcompact.files import cache_directory

__all__ = ["NO_AUGMENT", "Augment", "ImageSet", "absolute", "is_name", "open_images"]


def open_images(
    source: str,
    *,
    cache: Path | None = None,
    skip_unreadable: bool = False,
    log: Callable[[str], None] = print,
    max_cache_bytes: int = MAX_BYTES,
) -> ImageSet:
    """The image set that `source` names, split and with every image verified to decode.

    `source` is a bundled name (`digits`, `fashion_mnist`, `cifar10`), `tfds:NAME`, `imagenet:FOLDER` (ImageNet's
    photographs with their 1000 classes), or a folder; a folder that is called like a bundled set is written
    `./digits`. Opening a folder the first time decodes all its files; after that it only asks for their sizes and
    times. `cache` is the directory for what can be computed again (default `~/.cache/tfcompact`); decoded pixels
    take at most `max_cache_bytes` in it, and what does not fit is decoded whenever it is needed. With
    `skip_unreadable`, files that cannot be decoded are left out and listed in `notes`. Raises `UserError`, one line,
    for anything wrong with the source.
    """
    kept = cache_directory(cache)
    if source in SETS:
        collection = open_bundled(source, kept)
    elif source.startswith(imagenet.PREFIX):
        root = Path(source.removeprefix(imagenet.PREFIX)).expanduser()
        collection = imagenet.open_imagenet(root, kept, skip_unreadable=skip_unreadable)
    elif source.startswith(PREFIX):
        collection = open_tfds(source.removeprefix(PREFIX), kept, skip_unreadable=skip_unreadable, log=log)
    else:
        collection = open_folder(_folder(source), kept, skip_unreadable=skip_unreadable, log=log)
    return ImageSet(collection, kept, max_bytes=max_cache_bytes)


def is_name(source: str) -> bool:
    """Whether `source` names a set, and not a folder."""
    return source in SETS or source.startswith((PREFIX, imagenet.PREFIX))


def absolute(source: str) -> str:
    """`source` so that it means the same from another working directory."""
    prefix = imagenet.PREFIX if source.startswith(imagenet.PREFIX) else ""
    if is_name(source) and not prefix:
        return source
    return prefix + str(Path(source.removeprefix(prefix)).expanduser().absolute())


def _folder(source: str) -> Path:
    """The folder that `source` is. Raises `UserError` where it is none, or no name either."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"{escape(path)} is a file; give the folder that holds {LAYOUT}")
    raise UserError(
        f"no folder {escape(path)} and no set of that name; {suggestion(source, SETS)}, "
        f"{PREFIX}NAME, {imagenet.PREFIX}FOLDER"
    )
