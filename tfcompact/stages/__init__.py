"""Stages: each file has a frozen `Config` and `run(model, config, context) -> (new model, notes)`.

`model` is never changed. `FROM` names the stages whose newest run a stage starts from; an empty one starts from a
freshly built network.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

STAGES = ("fit", "quantize")


def stage(name: str) -> ModuleType:
    """The module of the stage called `name`."""
    return import_module(f"tfcompact.stages.{name}")
