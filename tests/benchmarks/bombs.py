"""Small files that ask for much: what decoding pictures of the largest kinds, and reading hostile files, takes.

    python tests/benchmarks/bombs.py

Each file is made in a temporary folder and read in a process of its own. Prints the seconds, and the memory beyond
what the process held before, as a Markdown table; fails where a picture takes more than `SECONDS` or `MEGABYTES`.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording

SECONDS, MEGABYTES = 5.0, 400
SIDE = 7071  # of a square of 50 million pixels, the most that is decoded
READ = """
import json, re, sys, time
from pathlib import Path
from tfcompact.errors import UserError
from tfcompact.data.images import decode
from tfcompact.tflite import metadata
from tfcompact.weights import state_dict

def held():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

path = Path(sys.argv[1])
read = {"picture": decode, "weights": state_dict.read, "metadata": metadata.read}[sys.argv[2]]
before, start = held(), time.monotonic()
try:
    found = read(path)
    answer = f"{found.shape[1]} x {found.shape[0]}" if sys.argv[2] == "picture" else "taken"
except UserError as error:
    answer = "refused"
print(json.dumps([answer, time.monotonic() - start, held() - before]))
"""


def main() -> int:
    arguments = Arguments(__file__, __doc__)
    options = arguments.parse_args()
    missed = []
    with recording(arguments.call(options)) as book, tempfile.TemporaryDirectory() as folder:
        for (name, kind), content in FILES.items():
            path = Path(folder) / "file"
            path.write_bytes(content())
            command = [sys.executable, "-c", READ, str(path), kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            answer, seconds, megabytes = json.loads(done.stdout)
            size = path.stat().st_size / 1e6
            book.add(file=name, kind=kind, mb=size, answer=answer, seconds=seconds, megabytes=megabytes)
            if seconds > SECONDS or megabytes > MEGABYTES + size:
                missed.append(name)
        print(tables.markdown(tables.of("bombs"), book.tables["rows"]))
    print(*(f"{name} takes too much" for name in missed), sep="\n")
    return int(bool(missed))


def png(bits: int, colour: int, channels: int, exif: bytes = b"") -> bytes:
    """A square PNG of `SIDE`, every row the same."""
    row = b"\0" + (bytes(range(256)) * (SIDE * channels * bits // 8 // 256 + 1))[: SIDE * channels * bits // 8]
    packer = zlib.compressobj(1)
    packed = b"".join([*(packer.compress(row) for _ in range(SIDE)), packer.flush()])
    parts = [(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0))]
    parts += [(b"eXIf", exif)] if exif else []
    parts += [(b"IDAT", packed), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(width: int, height: int, form: str, mode: str = "RGB", **options: object) -> bytes:
    """A picture of stripes."""
    row = np.tile(np.arange(256, dtype=np.uint8), width // 256 + 1)[:width]
    stream = io.BytesIO()
    Image.fromarray(np.broadcast_to(row, (height, width))).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def scans(count: int) -> bytes:
    """A progressive JPEG of 8 million pixels whose last scan is there `count` times."""
    data = saved(3264, 2448, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def pickled(view: bytes) -> bytes:
    """A zip as torch.save writes it, of one pickle and four numbers."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net/data.pkl", view)
        archive.writestr("net/data/0", bytes(16))
    return stream.getvalue()


def stride_0() -> bytes:
    """A pickle of one tensor that shows four numbers two thousand million times."""
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0J\xff\xff\xff\x7f\x85K\0\x85\x89}tR"
    return b"\x80\x02}X\x01\0\0\0a" + tensor + b"s."


def with_labels() -> bytes:
    """A file with metadata, whose labels are 256 MB of zeros, compressed."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from colour_model import COLOURS, colour_model

    from tfcompact.records.artifact import Normalization
    from tfcompact.tflite import metadata

    whole = metadata.attach(
        colour_model("float32"),
        name="net",
        description="",
        labels=tuple(COLOURS),
        normalization=Normalization((0.0,), (1.0,)),
    )
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        names = archive.namelist()
    stream = io.BytesIO(whole[: whole.index(b"PK\x03\x04")])
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(256_000_000))
    return stream.getvalue()


TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
FILES: dict[tuple[str, str], Callable[[], bytes]] = {
    ("PNG, grey of 16 bits, 50 megapixels", "picture"): lambda: png(16, 0, 1),
    ("PNG, 50 megapixels", "picture"): lambda: png(8, 2, 3),
    ("PNG with transparency, 50 megapixels", "picture"): lambda: png(8, 6, 4),
    ("PNG with transparency of 16 bits, 50 megapixels", "picture"): lambda: png(16, 6, 4),
    ("PNG to be turned, 50 megapixels", "picture"): lambda: png(8, 2, 3, TURNED),
    ("GIF, 50 megapixels", "picture"): lambda: saved(SIDE, SIDE, "GIF", "P"),
    ("WebP, 25 megapixels", "picture"): lambda: saved(5000, 5000, "WEBP"),
    ("JPEG, 108 megapixels", "picture"): lambda: saved(12000, 9000, "JPEG"),
    ("JPEG, 200 megapixels", "picture"): lambda: saved(16320, 12240, "JPEG"),
    ("progressive JPEG, 50 megapixels", "picture"): lambda: saved(
        SIDE, SIDE, "JPEG", progressive=True, subsampling=0
    ),
    ("progressive JPEG, 100 scans, 8 megapixels", "picture"): lambda: scans(100),
    ("progressive JPEG, 2,000 scans", "picture"): lambda: scans(2000),
    ("pickle that numbers its memory by 2^31", "weights"): lambda: b"\x80\x02Nr\xff\xff\xff\x7f.",
    ("tensor of 2^31 numbers with a stride of 0", "weights"): lambda: pickled(stride_0()),
    ("labels of 256 MB, compressed", "metadata"): with_labels,
}


if __name__ == "__main__":
    sys.exit(main())
