"""Image files to pixels, without TensorFlow: what training, evaluation, calibration and the app see of a file.

Everything here speaks `uint8 [h, w, 3]`, RGB, upright. `fit_square` is the one evaluation transform: whatever reports
an accuracy or shows a prediction goes through it, so that Keras, the exported file and the app agree.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from tfcompact.data.image_files import JPEG, MAX_PIXELS, bytes_of, named, opened, whole
from tfcompact.frameworks import Tensor
from tfcompact.records.artifact import Normalization

Pixels = npt.NDArray[np.uint8]
Values = TypeVar("Values", np.ndarray, Tensor)
"""An array, or a tensor."""

STRIP = 1 << 20  # pixels that are converted at a time


def decode(
    source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS, at_least: int | None = None
) -> Pixels:
    """The image as `uint8 [h, w, 3]`: upright, RGB, transparency on white, the first frame of an animation.

    With `at_least`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size while its short side stays at least that
    many px: all that a crop of that resolution needs. One of more than `max_pixels` is in any case. `name` is what
    errors call a source given as bytes. At most 400 MB are taken beyond the file's own bytes.
    Raises `UnreadableImage` with one line that names the file and what is wrong, but no remedy: the caller knows
    whether that is removing a file or choosing another.
    """
    with named(source, name):
        data = bytes_of(source)
        with opened(whole(data), max_pixels, at_least) as (image, _, _):
            image.load()
            pixels, turn = _pixels(image), _turn(image)
            image.close()
            return _turned(pixels, turn)


class Verified(NamedTuple):
    """What is known of a file that decodes: its bytes, height and width in px of the upright image, and whether its
    end is missing, though every row is there."""

    data: bytes
    height: int
    width: int
    cut: bool


def verify(source: Path) -> Verified:
    """The file's bytes and size, once all of it was found to decode. Raises `UnreadableImage` as `decode` does."""
    with named(source):
        data = bytes_of(source)
        decoded = whole(data)
        # At an eighth of its size every byte of a JPEG is met, yet few of its rows and columns are computed.
        with opened(decoded, MAX_PIXELS, 32) as (image, width, height):
            image.load()
            if _turn(image) in _SIDEWAYS:
                width, height = height, width
            _pixels(image)
            return Verified(data, height, width, data.startswith(JPEG) and decoded is not data)


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


def shrunk(image: Pixels, longest: int) -> Pixels:
    """The image to be shown, its longer side at most `longest` px and its shorter one at least one."""
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    if scale == 1.0:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def normalize(pixels: Values, normalization: Normalization) -> Values:
    """What the network sees of float32 `pixels [..., 3]` in 0..255, RGB; an array gives an array, a tensor a tensor.

    The only place where a `Normalization` becomes arithmetic. Its means and deviations are in its channel order.
    """
    if normalization.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    return (pixels - np.array(normalization.mean, np.float32)) / np.array(normalization.std, np.float32)


def pixels_of(values: Values, normalization: Normalization) -> Values:
    """The pixels in 0..255, RGB, of what a network sees `[..., 3]`: `normalize` undone."""
    pixels = values * np.array(normalization.std, np.float32) + np.array(normalization.mean, np.float32)
    return pixels[..., ::-1] if normalization.channel_order == "bgr" else pixels


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
    with contextlib.suppress(Exception):
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return None


def _turned(pixels: Pixels, turn: Image.Transpose | None) -> Pixels:
    """The pixels as they are meant to be seen."""
    if turn is None:
        return pixels
    if turn in _SIDEWAYS:
        pixels = pixels.transpose(1, 0, 2)
    upside_down, mirrored = _FLIPS[turn]
    return np.ascontiguousarray(pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


_FLIPS = {  # after rows and columns have changed places, where they do: rows in reverse, columns in reverse
    Image.Transpose.FLIP_LEFT_RIGHT: (False, True),
    Image.Transpose.ROTATE_180: (True, True),
    Image.Transpose.FLIP_TOP_BOTTOM: (True, False),
    Image.Transpose.TRANSPOSE: (False, False),
    Image.Transpose.ROTATE_270: (False, True),
    Image.Transpose.TRANSVERSE: (True, True),
    Image.Transpose.ROTATE_90: (True, False),
}


def _pixels(image: Image.Image) -> Pixels:
    """The pixels of a decoded image, RGB on white, as they lie in the file; in strips, since they are copied."""
    width, height = image.size
    out = np.empty((height, width, 3), np.uint8)
    top = _largest_grey(image)
    rows = max(1, STRIP // width)
    for start in range(0, height, rows):
        strip = image.crop((0, start, width, min(height, start + rows)))
        out[start : start + rows] = np.asarray(_on_white(strip, top))
    return out


def _largest_grey(image: Image.Image) -> int:
    """The value that is white in an image of 16-bit greys: cameras and scanners put 10 or 12 bits into 16."""
    if not image.mode.startswith("I"):
        return 255
    _, largest = cast("tuple[float, float]", image.getextrema())
    return next((top for top in (255, 1023, 4095) if largest <= top), 65535)


def _on_white(image: Image.Image, top: int) -> Image.Image:
    """The image in mode RGB. Pillow already inverts the CMYK that Adobe writes; 16-bit greys it would clip at 255.

    `top` is which of them is white.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, top)
        grey = ((values * 255 + top // 2) // top).astype(np.uint8)
        if (clear := image.info.get("transparency")) is not None:
            grey = np.where(values == clear, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def _resize(image: Pixels, side: int, box: tuple[float, float, float, float]) -> Pixels:
    """The part of the image in `box`, as a square of `side` px."""
    if image.shape[:2] == (side, side) and box == (0, 0, side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box))
