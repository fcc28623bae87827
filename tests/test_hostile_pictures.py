"""Pictures from elsewhere: whatever their bytes are, pixels or one line come of it, soon and in bounded memory."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import zlib

import numpy as np
import pytest
from mutations import mutated
from PIL import Image

MUTATIONS = 400
SECONDS, MEGABYTES = 5, 400
READ = """
import re, resource, signal, sys, time
from pathlib import Path
from tfcompact.data.images import decode, verify
from tfcompact.errors import UnreadableImage

def held():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

slowest = 0.0
before = held()
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (decode, verify):
        signal.alarm(SECONDS)
        start = time.monotonic()
        try:
            read(path)
        except UnreadableImage as error:
            assert "\\n" not in str(error)
        except BaseException as error:
            print(path.name, read.__name__, type(error).__name__, error)
        slowest = max(slowest, time.monotonic() - start)
print(f"{slowest:.2f} s, {held() - before:.0f} MB", file=sys.stderr)
if held() - before > MEGABYTES:
    print("more memory than allowed")
"""


def originals() -> dict[str, bytes]:
    """Pictures of every format that is read."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    grey16 = Image.fromarray(rng.integers(0, 65536, (48, 64)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "a.jpg": (colour, {"format": "JPEG", "exif": exif}),
        "b.jpg": (colour, {"format": "JPEG", "progressive": True}),
        "c.jpg": (colour.convert("CMYK"), {"format": "JPEG"}),
        "d.png": (colour, {"format": "PNG"}),
        "e.png": (grey16, {"format": "PNG"}),
        "f.png": (colour.quantize(16), {"format": "PNG", "transparency": 3}),
        "g.gif": (colour, {"format": "GIF", "save_all": True, "append_images": [colour.rotate(9)]}),
        "h.bmp": (colour, {"format": "BMP"}),
        "i.webp": (colour, {"format": "WEBP"}),
        "j.webp": (colour.convert("RGBA"), {"format": "WEBP", "lossless": True}),
    }
    found = {}
    for name, (image, options) in kinds.items():
        stream = io.BytesIO()
        image.save(stream, **options)
        found[name] = stream.getvalue()
    return found


def with_checksums(content: bytes) -> bytes:
    """A PNG whose parts have the checksums of what is in them now, so that it is read further."""
    result, at = bytearray(content), 8
    while at + 12 <= len(result):
        end = at + 8 + int.from_bytes(result[at : at + 4], "big")
        if end + 4 > len(result):
            break
        result[end : end + 4] = zlib.crc32(result[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(result)


@pytest.mark.slow
def test_any_bytes_are_pixels_or_one_line(tmp_path, capsys) -> None:
    numbers, files = random.Random(0), originals()
    for i in range(MUTATIONS):
        name = list(files)[i % len(files)]
        content = mutated(files[name], numbers)
        if name.endswith("png") and i % 3:
            content = with_checksums(content)
        (tmp_path / f"{i:03d}{name}").write_bytes(content)
    script = READ.replace("SECONDS", str(SECONDS)).replace("MEGABYTES", str(MEGABYTES))
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    bad = child.stdout.splitlines() + [f"status {child.returncode}"] * (child.returncode != 0)
    with capsys.disabled():
        print(f"\n{MUTATIONS} mutated pictures: slowest and most memory {child.stderr.strip()[-40:]}, {len(bad)} bad")
    assert not bad
