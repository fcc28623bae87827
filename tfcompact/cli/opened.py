"""What commands open: the terminal, a pipeline on what the words name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tfcompact.cli import arguments

if TYPE_CHECKING:
    from tfcompact.pipeline.pipeline import Pipeline


def console() -> Console:
    """The terminal, or what stands in for it."""
    return Console()


def check_network(model: str | None, root: Path) -> None:
    """Raises `UnknownName` where there is no network of that name; `None` names none."""
    from tfcompact.pipeline.subject import network_named

    if model is not None:
        network_named(model, root)


def pipeline(options: Any) -> Pipeline:
    """The pipeline on the target that the options name."""
    from tfcompact.pipeline.pipeline import Pipeline
    from tfcompact.pipeline.target import Target

    return Pipeline(arguments.part(options, Target), console())
