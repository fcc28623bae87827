"""One image file to pixels: every kind of file that a folder of photographs holds."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcompact.data import image_files
from tfcompact.data.images import decode, fit_square, normalize, shrunk, stretch, verify
from tfcompact.errors import UnreadableImage
from tfcompact.records.artifact import Normalization

RAMP = np.stack(np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 32)), axis=-1).round().astype(np.uint8)
SCENE = np.concatenate([RAMP, 255 - RAMP[..., :1]], axis=-1)  # [32, 48, 3]: every corner differs


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_lossless_files_give_their_pixels():
    for kind, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(SCENE), kind, **options)), SCENE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation, tmp_path):
    """The oracle is the definition: rows and columns of the stored picture as EXIF 2.32 names them."""
    stored = {
        1: SCENE,
        2: SCENE[:, ::-1],
        3: SCENE[::-1, ::-1],
        4: SCENE[::-1],
        5: SCENE.transpose(1, 0, 2),
        6: np.rot90(SCENE, 1),
        7: np.rot90(SCENE, 2).transpose(1, 0, 2),
        8: np.rot90(SCENE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "turned.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(file, quality=100, subsampling=0, exif=exif)
    assert difference(decode(file), SCENE) <= 4
    assert verify(file)[1:] == (*SCENE.shape[:2], False)


def test_broken_exif_does_not_hide_the_pixels():
    assert decode(encoded(Image.fromarray(SCENE), "JPEG", exif=b"Exif\0\0garbage")).shape == SCENE.shape


def test_greyscale_and_one_bit_become_three_equal_channels():
    grey = SCENE[..., 0]
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, -1))
    assert set(np.unique(decode(encoded(Image.fromarray(grey).convert("1"), "PNG")))) == {0, 255}


def test_palette_keeps_its_colours():
    picture = Image.fromarray(SCENE).quantize(16)
    np.testing.assert_array_equal(decode(encoded(picture, "PNG")), np.asarray(picture.convert("RGB")))
    np.testing.assert_array_equal(decode(encoded(picture, "GIF")), np.asarray(picture.convert("RGB")))


def test_transparency_shows_white():
    alpha = np.zeros(SCENE.shape[:2], np.uint8)
    alpha[:, 24:] = 255
    seen = decode(encoded(Image.fromarray(np.dstack([SCENE, alpha])), "PNG"))
    assert (seen[:, :24] == 255).all()
    np.testing.assert_array_equal(seen[:, 24:], SCENE[:, 24:])

    half = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert difference(decode(encoded(half, "PNG")), np.full((2, 2, 3), 127)) <= 1
    assert difference(decode(encoded(Image.new("LA", (2, 2), (0, 0)), "PNG")), np.full((2, 2, 3), 255)) == 0


def test_a_transparent_palette_entry_or_colour_shows_white():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((0, 0), 0)
    seen = decode(encoded(palette, "PNG", transparency=0))
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[1, 1].tolist() == [255, 0, 0]
    assert decode(encoded(Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7))).min() == 255


def test_cmyk_as_adobe_writes_it_is_not_inverted():
    cmyk = Image.fromarray(SCENE).convert("CMYK")
    data = encoded(cmyk, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in data
    assert difference(decode(data), SCENE) <= 6


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file by hand: `rows` are unfiltered scan lines without their filter bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = len(rows) // height
    lines = b"".join(b"\0" + rows[y * size : (y + 1) * size] for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 257, 25700, 65535]], ">u2")
    assert decode(png(4, 1, 16, 0, values.tobytes()))[0, :, 0].tolist() == [0, 1, 100, 255]
    colour = np.array([[[65535, 25700, 0], [257, 0, 65535]]], ">u2")
    assert difference(decode(png(2, 1, 16, 2, colour.tobytes())), np.array([[[255, 100, 0], [1, 0, 255]]])) <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert difference(decode(data), np.asarray(frames[0])) <= 2


def test_a_bomb_is_refused_by_its_header():
    for side in (8000, 10000, 14000):  # below Pillow's own limit, between its warning and its error, beyond
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # as images.py sets it; pytest resets it
            with pytest.raises(UnreadableImage, match="more than 50 million pixels; make it smaller"):
                decode(_header_only(side))
    with pytest.raises(UnreadableImage, match="48 x 32: more than 0 million"):
        decode(encoded(Image.fromarray(SCENE), "PNG"), max_pixels=100)


def _header_only(side: int) -> bytes:
    return encoded(Image.fromarray(SCENE), "BMP")[:18] + struct.pack("<ii", side, side) + b"\1\0\x18\0" + b"\0" * 24


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "zero bytes"),
        (b"Dear diary, today", "text, not a picture"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC, AVIF or a film; convert it to JPEG"),
        (b"II*\0" + b"\1" * 40, "TIFF or a camera's raw file; convert it"),
        (encoded(Image.fromarray(SCENE), "JPEG")[:-200], "truncated"),
        (encoded(Image.fromarray(SCENE), "PNG")[:-100], "truncated"),
        (encoded(Image.fromarray(SCENE), "JPEG")[:9], "truncated"),
        (b"\x89PNG\r\n" + b"\xff" * 60, "not JPEG, PNG, WebP, BMP or GIF"),
    ],
)
def test_what_is_not_an_image_says_why(content, reason, tmp_path):
    file = tmp_path / "it's a\nname.jpg"
    file.write_bytes(content)
    for function in (decode, verify):
        with pytest.raises(UnreadableImage) as caught:
            function(file)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "name.jpg" in str(caught.value)


def test_damaged_files_never_raise_anything_else():
    """500 files with flipped bytes: each gives pixels or `UnreadableImage`."""
    random = np.random.default_rng(0)
    originals = [encoded(Image.fromarray(SCENE), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")]
    refused = 0
    for i in range(500):
        data = bytearray(originals[i % len(originals)])
        for position in random.integers(0, len(data), 6):
            data[position] = random.integers(0, 256)
        try:
            assert decode(bytes(data[: random.integers(8, len(data) + 1)])).dtype == np.uint8
        except UnreadableImage:
            refused += 1
    assert 0 < refused < 500


def test_special_files_and_links_are_refused(tmp_path):
    pipe, loop, folder = tmp_path / "pipe.jpg", tmp_path / "loop.jpg", tmp_path / "folder.jpg"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    folder.mkdir()
    for path, reason in (
        (pipe, "pipe or device"),
        (loop, "leads to itself"),
        (folder, "a folder"),
        (Path("no"), "no"),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            decode(path)


def test_a_draft_is_smaller_but_large_enough():
    big = Image.fromarray(SCENE).resize((960, 640))
    data = encoded(big, "JPEG", quality=95)
    small = decode(data, at_least=100)
    assert small.shape == (160, 240, 3)
    assert difference(stretch(small, 50), stretch(decode(data), 50)) <= 4


def test_fit_square_takes_the_centre_and_leaves_a_square_of_that_size_alone():
    np.testing.assert_array_equal(fit_square(SCENE, 32), SCENE[:, 8:40])
    np.testing.assert_array_equal(fit_square(SCENE[:32, :32], 32), SCENE[:32, :32])
    assert fit_square(SCENE, 224).shape == (224, 224, 3)
    # Each target pixel is a mean over what it covers: a checkerboard becomes grey, not black or white.
    board = np.indices((64, 64)).sum(0)[..., None].repeat(3, -1) % 2 * np.uint8(255)
    assert difference(fit_square(board.astype(np.uint8), 8)[2:-2, 2:-2], np.full((4, 4, 3), 127)) <= 2


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 3000), (1, 100)), ((3000, 1), (100, 1)), ((50, 200), (25, 100))]
)
def test_a_shrunk_picture_keeps_its_proportions_and_a_row(shape, expected):
    image = np.full((*shape, 3), 9, np.uint8)
    assert shrunk(image, 100).shape == (*expected, 3)
    assert shrunk(image, 5000) is image


def test_normalization_is_one_formula_for_arrays_and_tensors():
    pixels = SCENE.astype(np.float32)
    np.testing.assert_allclose(normalize(pixels, Normalization()), pixels / 127.5 - 1, atol=1e-6)
    caffe = Normalization(mean=(103.939, 116.779, 123.68), std=(1.0,), channel_order="bgr")
    np.testing.assert_allclose(normalize(pixels, caffe)[..., 0], pixels[..., 2] - 103.939, atol=1e-5)
    per_channel = Normalization(mean=(1, 2, 3), std=(4, 5, 6))
    np.testing.assert_allclose(normalize(pixels, per_channel)[..., 2], (pixels[..., 2] - 3) / 6, atol=1e-5)


def test_formats_without_a_decoder_here_are_not_tried():
    assert "EPS" not in image_files.FORMATS  # Pillow would start Ghostscript for it
    with pytest.raises(UnreadableImage):
        decode(encoded(Image.fromarray(SCENE), "TIFF"))


PHOTO = np.random.default_rng(3).integers(0, 256, (120, 168, 3)).astype(np.uint8)
CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "photos"


@pytest.mark.parametrize("missing", [1, 2, 8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_without_its_end_is_taken_where_every_row_is_there(missing, options, tmp_path):
    whole = encoded(Image.fromarray(PHOTO), "JPEG", quality=80, **options)
    file = tmp_path / "cut.jpg"
    file.write_bytes(whole[:-missing])
    assert difference(decode(file)[:-16], decode(whole)[:-16]) == 0
    assert verify(file)[1:] == (*PHOTO.shape[:2], True)
    assert decode(file, at_least=50).shape == decode(whole, at_least=50).shape


def test_the_end_of_the_picture_in_the_exif_is_not_the_pictures(tmp_path):
    small = encoded(Image.fromarray(SCENE), "JPEG")
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + small
    whole = encoded(Image.fromarray(PHOTO), "JPEG", quality=80, exif=exif)
    file = tmp_path / "cut.jpg"
    file.write_bytes(whole[:-2])
    assert verify(file).cut
    np.testing.assert_array_equal(decode(file), decode(whole))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_rows_is_truncated(share, options):
    whole = encoded(Image.fromarray(PHOTO), "JPEG", quality=80, **options)
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(whole[: int(share * len(whole))])


def chunk(kind: bytes, content: bytes, *, crc: int | None = None) -> bytes:
    """A part of a PNG."""
    checked = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checked)


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"tEXt", b"no separator", crc=7),
        chunk(b"pHYs", b"short"),
        chunk(b"acTL", b""),
        chunk(b"vPAg", bytes(10), crc=7),
    ],
    ids=["text", "international text", "profile", "damaged text", "damaged size", "animation", "unknown"],
)
def test_what_no_pixel_of_a_png_needs_may_be_anything(part):
    data = encoded(Image.fromarray(SCENE), "PNG")
    with_part = data[:33] + part + data[33:]
    np.testing.assert_array_equal(decode(with_part), SCENE)


def test_a_jpeg_of_too_many_pixels_is_decoded_smaller():
    data = encoded(Image.fromarray(PHOTO), "JPEG", quality=90)
    small = decode(data, max_pixels=PHOTO.shape[0] * PHOTO.shape[1] // 3)
    assert small.shape == (60, 84, 3)
    assert abs(float(small.mean()) - float(PHOTO.mean())) < 2
    with pytest.raises(UnreadableImage, match=r"168 x 120: more than 0 million pixels"):
        decode(data, max_pixels=100)


@pytest.mark.parametrize(
    ("largest", "white"), [(255, 255), (1023, 1023), (4095, 4095), (4096, 65535), (65535, 65535)]
)
def test_sixteen_bits_may_hold_fewer(largest, white):
    values = np.linspace(0, largest, 64).round().astype(np.uint16).reshape(8, 8)
    seen = decode(encoded(Image.fromarray(values), "PNG"))
    assert difference(seen[..., 0], (values * 255.0 / white).round()) <= 1


def test_scans_of_a_jpeg_are_bounded(monkeypatch):
    data = encoded(Image.fromarray(PHOTO), "JPEG", progressive=True)
    assert decode(data).shape == PHOTO.shape
    monkeypatch.setattr(image_files, "MAX_SCANNED", 9 * PHOTO.shape[0] * PHOTO.shape[1])
    with pytest.raises(UnreadableImage, match="scans of 0 million pixels; save it again"):
        decode(data)
    monkeypatch.setattr(image_files, "MAX_SCANNED", 10**9)
    monkeypatch.setattr(image_files, "MAX_COEFFICIENTS", 1000)
    with pytest.raises(UnreadableImage, match="168 x 120, progressive; save it again"):
        decode(data)


def test_nothing_is_said_of_broken_exif(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    file = tmp_path / "x.jpg"
    file.write_bytes(encoded(Image.fromarray(SCENE), "JPEG", exif=exif))
    code = f"from pathlib import Path; from tfcompact.data.images import decode; decode(Path({str(file)!r}))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (child.stdout, child.stderr) == ("", "")


TAKEN = {
    "no_eoi_x.jpg": (256, 383, 3),
    "last_bytes_cut_x.jpg": (256, 383, 3),
    "png_big_text_x.png": None,
    "png_big_icc_x.png": None,
    "exif_bad_x.jpg": (256, 383, 3),
    "mp50_IMG_50MP.jpg": (3072, 4096, 3),
    "mp108_IMG_108MP.jpg": (4500, 6000, 3),
    "px_1xN_b.png": (1, 3000, 3),
    "png16_12bit_x.png": (64, 80, 3),
}


@pytest.mark.parametrize("name", TAKEN)
def test_photographs_of_phones_and_of_public_sets_are_taken(name):
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    seen = decode(CASES / name)
    assert TAKEN[name] in (None, seen.shape)
    assert seen.max() > 100
    assert fit_square(seen, 32).shape == (32, 32, 3)
