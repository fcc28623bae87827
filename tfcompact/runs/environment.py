"""What a result was made with: machine, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The machine this process runs on."""
    return {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}


def versions() -> dict[str, str]:
    """The installed versions of what shapes a result."""
    names = (
        "tfcompact",
        "tensorflow",
        "tf_keras",
        "tensorflow-model-optimization",
        "keras-cv",
        "ai-edge-litert",
    )
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout this package runs from, or None where it is not a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
