"""The command of every stage: `tfcompact fit`, `tfcompact quantize`, whatever `stages.STAGES` holds."""

from __future__ import annotations

from collections.abc import Sequence

from tfcompact import stages
from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.pipeline.target import Target

PARENT = ("parent", str | None, opt(None, "run to start from, e.g. fit-3f9a10c2; the newest that fits unless given"))


def run(name: str, words: Sequence[str], help: str) -> None:
    """Runs the stage, and prints the run's directory."""
    config = stages.stage(name).config
    options = arguments.parse(arguments.command(Target, config, extra=[PARENT]), name, words, help)
    print(opened.pipeline(options).run(arguments.part(options, config), options.parent).path)
