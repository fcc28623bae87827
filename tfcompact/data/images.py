"""Image files to pixels, without TensorFlow: what training, evaluation, calibration and the app see of a file.

Everything here speaks `uint8 [h, w, 3]`, RGB, upright. `fit_square` is the one evaluation transform: whatever reports
an accuracy or shows a prediction goes through it, so that Keras, the exported file and the app agree.
"""

from __future__ import annotations

import contextlib
import errno
import io
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from tfcompact.errors import UnreadableImage
from tfcompact.frameworks import Tensor
from tfcompact.records.artifact import Normalization

Pixels = npt.NDArray[np.uint8]
Values = TypeVar("Values", np.ndarray, Tensor)
"""An array, or a tensor."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # JPEG: with the MPO that some phones write into a .jpg
MAX_PIXELS = 50_000_000
MAX_BYTES = 256_000_000

# Pillow only warns between its own limit (89 million pixels) and twice that. Ours is lower, so a warning from it
# always means a refusal here; as an exception it arrives before a pixel is decoded and prints nothing.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decode(
    source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS, at_least: int | None = None
) -> Pixels:
    """The image as `uint8 [h, w, 3]`: upright, RGB, transparency on white, the first frame of an animation.

    With `at_least`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size while its short side stays at least that
    many px: all that a crop of that resolution needs. `name` is what errors call a source given as bytes.
    Raises `UnreadableImage` with one line that names the file and what is wrong, but no remedy: the caller knows
    whether that is removing a file or choosing another.
    """
    with _named(source, name), _opened(_bytes(source), max_pixels) as image:
        if at_least is not None:
            image.draft(image.mode, (at_least, at_least))
        image.load()
        return np.array(_on_white(_upright(image)))


def verify(source: Path) -> tuple[bytes, int, int]:
    """The file's bytes, and the height and width in px of the upright image, once all of it was found to decode.

    Raises `UnreadableImage` as `decode` does.
    """
    with _named(source), _opened(data := _bytes(source), MAX_PIXELS) as image:
        width, height = image.size
        image.draft(image.mode, (32, 32))  # meets every byte, yet computes an eighth of a JPEG's rows and columns
        image.load()
        if _turn(image) in _SIDEWAYS:
            width, height = height, width
        _on_white(image)
        return data, height, width


def fit_square(image: Pixels, px: int) -> Pixels:
    """The evaluation transform, `[h, w, 3] -> [px, px, 3]`: short side to `px`, centre square.

    Resizing is bilinear over the area each target pixel covers (Pillow), in one pass over the centre square.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return _resize(image, px, (left, top, left + side, top + side))


def stretch(image: Pixels, side: int) -> Pixels:
    """The whole image in a square, `[h, w, 3] -> [side, side, 3]`; its proportions are the caller's to remember."""
    return _resize(image, side, (0, 0, image.shape[1], image.shape[0]))


def normalize(pixels: Values, normalization: Normalization) -> Values:
    """What the network sees of float32 `pixels [..., 3]` in 0..255, RGB; an array gives an array, a tensor a tensor.

    The only place where a `Normalization` becomes arithmetic. Its means and deviations are in its channel order.
    """
    if normalization.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    return (pixels - np.array(normalization.mean, np.float32)) / np.array(normalization.std, np.float32)


def escape(path: Path | str) -> str:
    """The path as it can stand in one line: quoted and escaped where it holds newlines or control characters."""
    text = str(path)
    return text if text.isprintable() else repr(text)


_REASONS = {
    errno.EACCES: "permission denied; chmod u+r gives it back",
    errno.EPERM: "permission denied",
    errno.ELOOP: "a symbolic link that leads to itself",
    errno.ENOENT: "a symbolic link to nothing, or removed meanwhile",
}


def _bytes(source: Path | bytes) -> bytes:
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
def _named(source: Path | bytes, name: str | None = None) -> Iterator[None]:
    """Puts the image's name before the reason why it is unreadable."""
    try:
        yield
    except UnreadableImage as reason:
        shown = escape(source) if isinstance(source, Path) else (name or "the image")
        raise UnreadableImage(f"{shown} is not a readable image ({reason})") from None


@contextlib.contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The image after its header was read and found to promise few enough pixels; failures become reasons."""
    if not data:
        raise UnreadableImage("zero bytes")
    too_many = f"more than {max_pixels / 1e6:.0f} million pixels; make it smaller"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise UnreadableImage(f"{image.width} x {image.height}: {too_many}")
            yield image
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("not enough memory to decode it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(too_many) from None
    except UnidentifiedImageError:
        raise UnreadableImage(_what_else(data)) from None
    except Exception as error:  # a damaged file can raise nearly anything out of Pillow's parsers
        truncated = "truncat" in str(error).lower() or isinstance(error, EOFError)
        raise UnreadableImage("truncated" if truncated else f"damaged: {' '.join(str(error).split())}") from None


_TURNS = {  # EXIF 2.32, tag 0x0112: how the camera was held, and what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_SIDEWAYS = {_TURNS[tag] for tag in (5, 6, 7, 8)}


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How the image must be turned to stand upright, by its EXIF; None if not at all."""
    # A broken EXIF block is no reason to refuse the pixels; viewers show such files unturned, too.
    with contextlib.suppress(Exception):
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return None


def _upright(image: Image.Image) -> Image.Image:
    """The image as it is meant to be seen."""
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    """The image in mode RGB. Pillow already inverts the CMYK that Adobe writes; 16-bit greys it would clip at 255."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        grey = ((values + 128) // 257).clip(0, 255).astype(np.uint8)
        if (clear := image.info.get("transparency")) is not None:
            grey = np.where(values == clear, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def _what_else(data: bytes) -> str:
    """What the bytes are instead of an image, as a reason."""
    if data[4:8] == b"ftyp":
        return "HEIC, AVIF or a film; convert it to JPEG"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF; convert it to PNG or JPEG"
    with contextlib.suppress(UnicodeDecodeError):
        data[:64].decode("ascii")
        return "text, not a picture"
    return "not JPEG, PNG, WebP, BMP or GIF, or cut off in its header"


def _resize(image: Pixels, side: int, box: tuple[float, float, float, float]) -> Pixels:
    """The part of the image in `box`, as a square of `side` px."""
    if image.shape[:2] == (side, side) and box == (0, 0, side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box))
