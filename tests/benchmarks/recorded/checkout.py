"""What git knows of the code: the commit, whether it was changed since, and files as they were at a commit."""

from __future__ import annotations

import io
import subprocess
import tarfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The top of the checkout."""

WRITTEN = (":(exclude)docs", ":(exclude)README.md", ":(exclude)CHANGELOG.md")
"""Prose, and what benchmarks and docs/results.py write: a change there makes no code dirty."""


def head() -> str | None:
    """The commit that is checked out, 40 hex digits; None where this is no checkout."""
    found = _git("rev-parse", "HEAD")
    return None if found is None else found.decode().strip()


def dirty() -> bool:
    """Whether code differs from that commit, files that git does not know included."""
    return bool(_git("status", "--porcelain", "--", ".", *WRITTEN))


@cache
def sources_at(commit: str) -> dict[str, str] | None:
    """The `.py` and `.toml` files under tfcompact/ at a commit, by path without it; None where git lacks that."""
    archive = _git("archive", "--format=tar", commit, "tfcompact")
    if archive is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            member.name.removeprefix("tfcompact/"): stream.read().decode()
            for member in tar
            if member.name.endswith((".py", ".toml")) and (stream := tar.extractfile(member))
        }


def _git(*words: str) -> bytes | None:
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
