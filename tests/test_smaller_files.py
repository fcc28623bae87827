"""Networks that were pruned and then split become int8 files, of every family."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from random_weights import randomize
from variants import cheapest_first

from tfcompact import models
from tfcompact.compress.channels.atoms import channels
from tfcompact.compress.channels.importance import importance
from tfcompact.compress.channels.selection import chosen
from tfcompact.compress.channels.slicing import smaller
from tfcompact.compress.decomposition import split_layers
from tfcompact.compress.decomposition.factors import Roots
from tfcompact.export import candidate

QUICK = ("squeezenet_1.1", "densenet_bc_40_12")
"""Families that are always tried; the others take up to two minutes each, and are tried with --exhaustive."""
STUCK = "shufflenet_v1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        p if p.id in QUICK else pytest.param(p.id, marks=pytest.mark.exhaustive)
        for p in cheapest_first(lambda spec: spec.family != STUCK)
        if not p.marks
    ],
)
def test_a_pruned_and_split_network_becomes_an_int8_file(name) -> None:
    spec = models.spec(name)
    model = models.built(spec, px=max(64, spec.min_px), classes=10)
    randomize(model, np.random.default_rng(0))
    structure = channels(model)
    gone, _ = chosen(structure, importance(model, structure, "l2"), cost="macs", share=0.6, cap=0.8, multiple=8)
    pruned = smaller(model, structure, gone)
    layers = split_layers.splittable(pruned)
    roots = {layer.name: Roots.none(int(layer.kernel.shape[-2])) for layer in layers}
    splits = {}
    for layer in layers:
        kind = split_layers.kind_of(layer, "tucker", True)
        if rungs := split_layers.ladder(layer, kind, roots[layer.name], cost="macs", multiple=8):
            splits[layer.name] = rungs[len(rungs) // 2]
    assert splits
    whole, small = candidate.int8_file(model), candidate.int8_file(split_layers.split(pruned, splits, roots))
    assert len(small) < len(whole)
