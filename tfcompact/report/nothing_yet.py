"""What is said where there is nothing yet: one line, with the command that changes it."""

from __future__ import annotations

from pathlib import Path

FIRST = "make train MODEL=mobilenet_v2"
"""The command that makes runs, files and measurements where there are none."""


def nothing_measured(root: Path, model: str | None = None) -> str:
    """The line shown where there is no measurement."""
    if model is None:
        return f"no measurements under {root}; try: {FIRST}"
    return f"no measurements of {model} under {root}; try: make measure MODEL={model}"


def nothing_run(root: Path, model: str | None = None) -> str:
    """The line shown where there is no run."""
    if model is None:
        return f"no runs under {root}; try: {FIRST}"
    return f"no runs of {model} under {root}; try: make train MODEL={model}"
