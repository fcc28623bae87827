"""Every kind of bad input, and the one line that it gets.

    python tests/benchmarks/bad_inputs.py

Makes each in a temporary folder of two classes with 20 good photographs each, opens the folder as every command does,
and prints a Markdown table. The last column says how many images are left with `--skip-unreadable`, after which the
skipped files are listed one by one. Fails if an input is taken without a word, or gets more than a line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact.data import ImageSet, open_images
from tfcompact.errors import UserError

NOBODY = 65534


def photograph(path: Path, seed: int) -> None:
    """A JPEG of coloured clouds, no two alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((160, 120)).save(path, "JPEG")


def good(root: Path) -> None:
    """Two classes of 20."""
    for k, name in enumerate(("rose", "tulip")):
        for i in range(20):
            photograph(root / name / f"{i:02d}.jpg", 100 * k + i)


def write(name: str, content: bytes) -> Callable[[Path], None]:
    """Adds a file to the good ones."""

    def make(root: Path) -> None:
        good(root)
        (root / "rose" / name).write_bytes(content)

    return make


def truncated(name: str = "half.jpg") -> Callable[[Path], None]:
    """Adds the first half of a photograph."""

    def make(root: Path) -> None:
        good(root)
        data = (root / "rose/00.jpg").read_bytes()
        (root / "rose" / name).write_bytes(data[: len(data) // 2])

    return make


def empty_class(root: Path) -> None:
    """A class folder with nothing in it."""
    good(root)
    (root / "lily").mkdir()


def few(root: Path) -> None:
    """A class with fewer images than there are splits."""
    good(root)
    for i in range(18):
        (root / "tulip" / f"{i:02d}.jpg").unlink()


def one_class(root: Path) -> None:
    """Nothing to tell it from."""
    good(root)
    shutil.rmtree(root / "tulip")


def loose(root: Path) -> None:
    """Images without class folders."""
    for i in range(3):
        photograph(root / f"{i}.jpg", i)


def locked(root: Path) -> None:
    """A file that may not be read."""
    good(root)
    (root / "rose/03.jpg").chmod(0)


def locked_folder(root: Path) -> None:
    """A folder that may not be listed."""
    good(root)
    (root / "tulip").chmod(0)


def file_loop(root: Path) -> None:
    """A link to itself with the name of an image."""
    good(root)
    (root / "rose/loop.jpg").symlink_to("loop.jpg")


def folder_loop(root: Path) -> None:
    """A link to the folder it is in."""
    good(root)
    (root / "again").symlink_to(root)


def bomb(root: Path) -> None:
    """45 kB that promise 400 million pixels."""
    good(root)
    Image.new("1", (20000, 20000)).save(root / "rose/bomb.png", optimize=True)


def changed(root: Path) -> None:
    """Overwritten after it was opened: made in `attempt`."""
    good(root)


BMP_HEADER = (
    b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 24, 0, 0, 1, 1, 0, 0)
)

INPUTS: dict[str, Callable[[Path], None]] = {
    "a folder that is not there": lambda root: None,
    "an empty folder": lambda root: root.mkdir(),
    "images without class folders": loose,
    "one class": one_class,
    "a class without images": empty_class,
    "a class with fewer images than splits": few,
    "a truncated JPEG": truncated(),
    "a zero-byte file": write("empty.jpg", b""),
    "text named .jpg": write("notes.jpg", b"Dear diary, "),
    "HEIC named .jpg": write("IMG_0042.jpg", b"\0\0\0\x18ftypheic" + b"\0" * 60),
    "a decompression bomb (PNG)": bomb,
    "a bomb in a header of 54 bytes (BMP)": write("bomb.bmp", BMP_HEADER),
    "a file that may not be read": locked,
    "a folder that may not be listed": locked_folder,
    "a symlink to itself": file_loop,
    "a symlink to its own folder": folder_loop,
    "a bad file, spaces in its name": truncated("my garden in may.jpg"),
    "a bad file, quotes in its name": truncated('mum\'s "best".jpg'),
    "a bad file, a newline in its name": truncated("first\nsecond.jpg"),
    "a bad file, Chinese and Greek": truncated("玫瑰 τριαντάφυλλο.jpg"),
    "a bad file, a name that is not UTF-8": truncated(os.fsdecode(b"\xe9t\xe9.jpg")),
    "a photograph overwritten after opening": changed,
}


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may read everything; nobody may not."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


def attempt(root: Path, cache: Path, name: str, *, skip: bool) -> ImageSet | str:
    """The opened set, or the line that the command would end with."""
    try:
        with without_privileges():
            images = open_images(str(root), cache=cache, skip_unreadable=skip, log=lambda line: None)
        if "overwritten" in name:
            for i, file in enumerate(sorted((root / "rose").iterdir())):
                photograph(file, 5000 + i)
            images.arrays("test", px=32)
    except UserError as error:
        return str(error)
    return images


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    options = arguments.parse_args()
    with recording(arguments.call(options)) as book:
        for name, make in INPUTS.items():
            with tempfile.TemporaryDirectory() as folder:
                judge(name, make, Path(folder), book)
    print(tables.markdown(tables.of("bad_inputs"), book.tables["rows"]))
    print("\nListed as skipped:\n")
    print("\n".join(f"- {row['line']}" for row in book.tables["skipped"]))


def judge(name: str, make: Callable[[Path], None], folder: Path, book: Book) -> None:
    """Adds what a folder made by `make` gets, without and with --skip-unreadable."""
    folder.chmod(0o755)
    root, cache = folder / "photos", folder / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    make(root)
    line = attempt(root, cache, name, skip=False)
    assert isinstance(line, str), f"{name} was taken without a word"
    assert "\n" not in line, f"{name} got more than a line"
    left = attempt(root, cache, name, skip=True)
    count = None if isinstance(left, str) else sum(left.sizes.values())
    book.add(input=name, line=line.replace(f"{folder}/", ""), left=count)
    for note in left.notes[1:] if isinstance(left, ImageSet) else ():
        book.add("skipped", input=name, line=note.replace(f"{folder}/", ""))
    for path in (root / "tulip", root / "rose/03.jpg"):
        if path.exists():
            path.chmod(0o755)


if __name__ == "__main__":
    main()
