"""Every file of a folder, read and decoded once: content hash, size, and whether it is an image at all.

What was learned is remembered by path, size and time of change, so that opening the folder again only asks the file
system. Files that failed are never remembered: they are tried again after they were mended.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcompact.data.collection import in_parallel
from tfcompact.data.images import verify
from tfcompact.errors import UnreadableImage
from tfcompact.files import write_text

FORMAT = 3  # to be raised when the meaning of a row changes

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """A file that decodes: its sha256, height and width of the upright image in px, whether its end is missing."""

    content: bytes
    height: int
    width: int
    cut: bool = False


Row = tuple[int, int, str, int, int, bool]  # bytes, time of change in ns, sha256 in hex, height, width, cut


def scan(root: Path, files: Sequence[Path], memory: Path) -> list[Seen | UnreadableImage]:
    """What is known of each of `files` (all below `root`), from `memory` or by decoding it now.

    `memory` is a JSON file, replaced as a whole, and also when some files turn out to be unreadable: what was decoded
    is not decoded again after the others were mended.
    """
    known = _recall(memory)
    above = len(str(root / "x")) - 1
    names = {path: str(path)[above:] for path in files}
    stamps = {path: _stamp(path) for path in files}
    results: dict[Path, Seen | UnreadableImage] = {}
    for path, stamp in stamps.items():
        row = known.get(names[path])
        if row is not None and row[:2] == stamp:
            results[path] = Seen(bytes.fromhex(row[2]), *row[3:])
    new = [path for path in files if path not in results]
    results.update(zip(new, in_parallel(_look, new, title="Checking images", total=len(new)), strict=True))
    rows: dict[str, Row] = {}
    for path, seen in results.items():
        if isinstance(seen, Seen) and (stamp := stamps[path]) is not None:
            rows[names[path]] = (*stamp, seen.content.hex(), seen.height, seen.width, seen.cut)
    if rows != known:
        _remember(memory, rows)
    return [results[path] for path in files]


def sha256(data: bytes) -> bytes:
    """The 32 bytes of the content hash."""
    return hashlib.sha256(data).digest()


def _look(path: Path) -> Seen | UnreadableImage:
    """What is learned of a file by decoding it."""
    try:
        found = verify(path)
    except UnreadableImage as error:
        return error
    return Seen(sha256(found.data), found.height, found.width, found.cut)


def _stamp(path: Path) -> tuple[int, int] | None:
    """The file's size and time of change; None where it cannot be asked."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _recall(memory: Path) -> dict[str, Row]:
    """The remembered rows; none where the file is missing, of another format or damaged: it only saves time."""
    try:
        head, _, rows = memory.read_bytes().partition(b"\n")
        said = json.loads(head)
        if said["format"] != FORMAT:
            return {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if said.get("sha256") != hashlib.sha256(rows).hexdigest():
        LOG.warning("%s is damaged; the folder's images are checked again", memory)
        return {}
    return {name: tuple(row) for name, row in json.loads(rows).items()}


def _remember(memory: Path, rows: dict[str, Row]) -> None:
    """Replaces what is remembered."""
    # Two processes may open the same folder at once; the later replacement wins whole.
    text = json.dumps(rows)  # ASCII: names may not be Unicode
    head = json.dumps({"format": FORMAT, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    write_text(memory, f"{head}\n{text}")
