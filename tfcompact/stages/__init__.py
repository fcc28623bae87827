"""The stages: one file each, one line here each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tfcompact.errors import UnknownName, UserError
from tfcompact.records.network import Kind
from tfcompact.stages.contract import Entry, Stage

STAGES: tuple[Entry, ...] = (
    Entry("fit", "Train a network, or go on with a training that was interrupted", "tfcompact.stages.fit"),
    Entry("distill", "Train a network to do what another one does, of any architecture", "tfcompact.stages.distill"),
    Entry("prune", "Remove channels, which makes a network smaller and faster, or weights", "tfcompact.stages.prune"),
    Entry(
        "netadapt",
        "Make a network narrower step by step, by what its layers cost on a device, until it fits a budget",
        "tfcompact.stages.netadapt",
    ),
    Entry(
        "decompose",
        "Split convolutions and dense layers into several that cost less together",
        "tfcompact.stages.decompose",
    ),
    Entry(
        "quantize",
        "Quantization-aware training of a float network; --epochs 0 is post-training quantization",
        "tfcompact.stages.quantize",
    ),
    Entry(
        "cluster",
        "Give the kernels of a quantized network few distinct values, so that its file zips well",
        "tfcompact.stages.cluster",
    ),
)


def names() -> tuple[str, ...]:
    """The names of all stages, in the order in which they usually follow each other."""
    return tuple(entry.name for entry in STAGES)


def first() -> str:
    """The name of the first stage that starts from a new network: what to type where there is no run yet."""
    return next(entry.name for entry in STAGES if stage(entry.name).starts_new)


def giving(kind: Kind) -> str:
    """The name of the first stage whose result is of this kind: what to type where one is needed."""
    return next(entry.name for entry in STAGES if stage(entry.name).gives == kind)


def stage(name: str) -> Stage[Any]:
    """The stage called `name`. Raises `UnknownName` that suggests the nearest."""
    for entry in STAGES:
        if entry.name == name:
            found: Stage[Any] = import_module(entry.module).STAGE
            return found
    raise UnknownName("stage", name, names())


def stage_of(config: object) -> tuple[str, Stage[Any]]:
    """The stage whose config this is, with its name. Raises `UserError` where it is no stage's."""
    for entry in STAGES:
        if type(config).__module__ == entry.module and type(config) is stage(entry.name).config:
            return entry.name, stage(entry.name)
    of = f"{type(config).__module__}.{type(config).__qualname__}"
    raise UserError(f"{of} is no stage's config; those of {', '.join(names())} are in tfcompact.stages")
