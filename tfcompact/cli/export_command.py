"""`tfcompact export`: verified files of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tfcompact.cli import arguments, opened
from tfcompact.export.gate import Config
from tfcompact.options import opt
from tfcompact.pipeline.target import Target


def run(name: str, words: Sequence[str], help: str) -> None:
    """Exports, and prints the run's directory."""
    parent = ("parent", str | None, opt(None, "run to export; the newest unless given"))
    options = arguments.parse(arguments.command(Target, Config, extra=[parent]), name, words, help)
    print(opened.pipeline(options).export(arguments.part(options, Config), options.parent).path)
