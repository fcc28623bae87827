"""Image files before a pixel is decoded: bytes, formats, and bounds for memory and time that decoding takes."""

from __future__ import annotations

import contextlib
import errno
import io
import re
import stat
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from tfcompact.errors import UnreadableImage

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"})
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # JPEG: with the MPO that some phones write into a .jpg
MAX_PIXELS = 50_000_000
"""Pixels that are decoded of one picture. A JPEG of more is decoded at a half, a quarter or an eighth of its size."""
MAX_WEBP_PIXELS = 25_000_000  # its decoder holds the whole picture three times
MAX_STORED_PIXELS = 250_000_000  # of a JPEG: the largest cameras of phones have 200 million
MAX_BYTES = 128_000_000
MAX_COEFFICIENTS, MAX_PROGRESSIVE_PIXELS = 300_000_000, 13_000_000
"""Bytes of coefficients of a progressive JPEG, all of which its decoder holds, and pixels decoded beside them."""
MAX_SCANNED = 1_000_000_000
"""Pixels that the scans of a JPEG go over, each the whole picture: a camera's file has one scan, a web site's ten."""

# Pillow only warns between its own limit and twice that, and then raises. A warning from it always means a refusal
# here; as an exception it arrives before a pixel is decoded and prints nothing.
Image.MAX_IMAGE_PIXELS = MAX_STORED_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# A broken EXIF block is no reason to refuse the pixels, and nothing to tell: viewers show such files unturned, too.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def escape(path: Path | str) -> str:
    """The path as it can stand in one line: quoted and escaped where it holds newlines or control characters."""
    text = str(path)
    return text if all(map(is_text, text)) else repr(text)


def is_text(character: str) -> bool:
    """Whether it can stand in a line and does nothing to it: letters, signs, spaces, and what joins letters."""
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: Persian and Sinhala are written with them, and emoji."""


_REASONS = {
    errno.EACCES: "permission denied; chmod u+r gives it back",
    errno.EPERM: "permission denied",
    errno.ELOOP: "a symbolic link that leads to itself",
    errno.ENOENT: "a symbolic link to nothing, or removed meanwhile",
}


def bytes_of(source: Path | bytes) -> bytes:
    """The content of a file, or of what was given as bytes. Raises `UnreadableImage` without its name."""
    if isinstance(source, bytes):
        return source
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UnreadableImage("a folder, pipe or device with the name of an image")
        if status.st_size > MAX_BYTES:
            raise UnreadableImage(f"{status.st_size / 1e6:,.0f} MB, more than the {MAX_BYTES / 1e6:.0f} allowed")
        return source.read_bytes()
    except OSError as error:
        raise UnreadableImage(_REASONS.get(error.errno or 0, error.strerror or "cannot be read")) from None


@contextlib.contextmanager
def named(source: Path | bytes, name: str | None = None) -> Iterator[None]:
    """Puts the image's name before the reason why it is unreadable."""
    try:
        yield
    except UnreadableImage as reason:
        shown = escape(source) if isinstance(source, Path) else (name or "the image")
        raise UnreadableImage(f"{shown} is not a readable image ({reason})") from None


class Opened(NamedTuple):
    """An image before its pixels are decoded, and the width and height in px of what the file holds."""

    image: Image.Image
    width: int
    height: int


@contextlib.contextmanager
def opened(data: bytes, max_pixels: int, at_least: int | None = None) -> Iterator[Opened]:
    """The image after its header was read and found to promise few enough pixels; failures become reasons.

    A JPEG will be decoded at 1/2, 1/4 or 1/8 of its size where it has more than `max_pixels`, and with `at_least`
    where its short side stays at least that many px.
    """
    if not data:
        raise UnreadableImage("zero bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            _bound(image, data, max_pixels, at_least)
            yield Opened(image, width, height)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("not enough memory to decode it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(f"more than {MAX_STORED_PIXELS / 1e6:.0f} million pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise UnreadableImage(_what_else(data)) from None
    except Exception as error:  # a damaged file can raise nearly anything out of Pillow's parsers
        truncated = "truncat" in str(error).lower() or isinstance(error, EOFError)
        raise UnreadableImage("truncated" if truncated else f"damaged: {' '.join(str(error).split())}") from None


def _bound(image: Image.Image, data: bytes, max_pixels: int, at_least: int | None) -> None:
    """Bounds what decoding takes, by a smaller scale where the format has one. Raises `UnreadableImage` otherwise."""
    width, height = image.size
    pixels = width * height
    most = min(max_pixels, MAX_WEBP_PIXELS) if image.format == "WEBP" else max_pixels
    if isinstance(image, JpegImageFile):
        if pixels * data.count(SCAN) > MAX_SCANNED and data.count(SCAN) > 1:
            raise UnreadableImage(f"{data.count(SCAN)} scans of {pixels / 1e6:.0f} million pixels; save it again")
        if image.info.get("progressive"):
            most = min(most, MAX_PROGRESSIVE_PIXELS)
            if _coefficients(image) > MAX_COEFFICIENTS:
                raise UnreadableImage(f"{width} x {height}, progressive; save it again without, or smaller")
        wanted = min(width, height) // at_least if at_least else 1  # how much smaller it may be
        enough = [s for s in (1, 2, 4, 8) if -(-width // s) * -(-height // s) <= most] or [8]
        scale = max([enough[0], *(s for s in enough if s <= wanted)])
        image.draft(image.mode, (width // scale, height // scale))
    if image.width * image.height > most:
        raise UnreadableImage(f"{width} x {height}: more than {most / 1e6:.0f} million pixels; make it smaller")


def _coefficients(image: JpegImageFile) -> int:
    """The bytes of all coefficients of a JPEG, two each."""
    most = max(h * v for _, h, v, _ in image.layer)
    return 2 * image.width * image.height * sum(h * v for _, h, v, _ in image.layer) // most


def whole(data: bytes) -> bytes:
    """The data of an image as it is decoded: a PNG without what no pixel needs, a JPEG with its end.

    A JPEG whose end is missing is given one where every row of it decodes all the same, but the last few.
    """
    if data.startswith(PNG):
        return _needed_chunks(data)
    if not data.startswith(JPEG) or data.rfind(END) > data.rfind(SCAN):  # the small picture in its EXIF has ends, too
        return data
    small = []
    for end in (END, FILLER):
        with contextlib.suppress(UnreadableImage), opened(data + end, MAX_PIXELS, 32) as (image, _, height):
            image.load()
            small.append(np.asarray(image).reshape(image.height, -1))
    if len(small) < 2:
        return data
    lost = np.flatnonzero((small[0] != small[1]).any(axis=1))
    last = len(small[0]) * (1 - min(LAST_ROWS / height, LAST_SHARE))
    return data if len(lost) and lost[0] < last else data + END


def _needed_chunks(data: bytes) -> bytes:
    """A PNG with nothing but what its pixels, and how they are turned, are made of: text and profiles may be damaged,
    or large."""
    parts, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in NEEDED:
            parts.append(data[at : at + 12 + size])
        at += 12 + size
    return b"".join([*parts, data[at:]])


PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
END, SCAN = b"\xff\xd9", b"\xff\xda"
FILLER = bytes(range(1, 255)) * 64 + END
"""What stands for the lost end of a JPEG, to see which rows it changes."""
LAST_ROWS, LAST_SHARE = 16, 0.1  # rows of pixels that one row of a JPEG's blocks covers at most, and of a small one


OTHER_KINDS = {
    "....ftyp": "HEIC, AVIF or a film; convert it to JPEG",
    "(II\\*\0|MM\0\\*)": "TIFF or a camera's raw file; convert it to PNG or JPEG",
    "\0\0\0\x0cjP  |\xff\x4f\xff\x51": "JPEG 2000; convert it to JPEG",
    "\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL; convert it to JPEG",
    "8BPS": "a Photoshop document; convert it to PNG or JPEG",
    "%PDF-": "a PDF document, not a picture",
    "\x1f\x8b|PK\x03\x04|Rar!|7z\xbc\xaf": "an archive; unpack it",
    "version https://git-lfs": "a pointer of Git LFS in the picture's place; fetch it: git lfs pull",
    r"\s*<(!doctype html|html)": "a web page in the picture's place; download it again",
    r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg": "SVG, a drawing; convert it to PNG",
}
"""First bytes, as a pattern of characters of one byte, and what they are of."""


def _what_else(data: bytes) -> str:
    """What the bytes are instead of an image, as a reason."""
    if not any(data):
        return "nothing but zero bytes; copy it again"
    for first, kind in OTHER_KINDS.items():
        if re.match(first, data[:512].decode("latin-1"), re.DOTALL | re.IGNORECASE):
            return kind
    with contextlib.suppress(UnicodeDecodeError):
        data[:64].decode("ascii")
        return "text, not a picture"
    return "not JPEG, PNG, WebP, BMP or GIF, or cut off in its header"
