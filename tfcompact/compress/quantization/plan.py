"""Where in a network values are rounded, and whose range each rounding has."""

from __future__ import annotations

from typing import NamedTuple

from tfcompact.compress.quantization.pixel_grid import INPUT
from tfcompact.compress.quantization.rules import fuses_relu, rounds_for, rule_for
from tfcompact.errors import UserError
from tfcompact.frameworks import Model, keras
from tfcompact.networks.rewrite import Call, calls

L = keras.layers


class Plan(NamedTuple):
    """Where a network is rounded. All tables are by layer name, in topological order."""

    outputs: dict[str, str]  # a layer whose output is rounded -> the layer whose observed range it takes
    source: dict[str, str]  # a layer -> the rounding that its (first) input carries
    joined: dict[str, str]  # a concatenation that goes into another -> the last one, whose range holds all of theirs


def rounding_plan(model: Model) -> Plan:
    """Where the layers of a lowered network are rounded.

    Raises `UserError` for a layer that has no rule, and for one that pools the image itself.
    """
    outputs: dict[str, str] = {}
    source: dict[str, str] = {}
    carried: dict[str, str] = {}  # a layer -> the rounding that its output carries
    graph = list(calls(model))
    joined = _joined(graph)
    layers = {layer.name: layer for layer, _, _ in graph}
    readers_of = {layer.name: readers for layer, _, readers in graph}
    for layer, sources, readers in graph:
        rule = rule_for(layer)
        source[layer.name] = carried[sources[0]] if sources else INPUT
        carried[layer.name] = source[layer.name]
        grid_of_input = rule.output == "source"
        if isinstance(layer, L.ReLU) and source[layer.name] != INPUT:
            before = layers[sources[0]]
            fused = fuses_relu(before) and len(readers_of[before.name]) == 1
            # Alone, it picks from values that are rounded already; a finer grid would gain nothing.
            grid_of_input = not fused
        if rule.output == "observed" and not grid_of_input:
            carried[layer.name] = layer.name
            if not (len(readers) == 1 and rounds_for(layers[readers[0]], layer)):
                outputs[layer.name] = joined.get(layer.name, layer.name)
        elif grid_of_input:
            if source[layer.name] == INPUT:
                raise UserError(f"layer {layer.name} pools the image itself; no rule to quantize that")
            carried[layer.name] = layer.name
            outputs[layer.name] = outputs[source[layer.name]]
    return Plan(outputs, source, joined)


def _joined(graph: list[Call]) -> dict[str, str]:
    """Concatenations whose values go into one other, as they are, each with the last of such a chain.

    On one grid none of them has to be rounded again: DenseNet's blocks copy all that they have so far at every layer,
    ShuffleNet V2's units half of it.
    """
    layers = {layer.name: layer for layer, _, _ in graph}
    readers_of = {layer.name: readers for layer, _, readers in graph}
    last: dict[str, str] = {}
    for layer, _, readers in reversed(graph):
        if isinstance(layer, L.Concatenate):
            reached, open_ends = set(), list(readers)
            while open_ends:
                name = open_ends.pop()
                if isinstance(layers[name], L.Concatenate):
                    reached.add(name)
                elif rule_for(layers[name]).output == "none":
                    open_ends += readers_of[name]
            if len(reached) == 1:
                (other,) = reached
                last[layer.name] = last.get(other, other)
    return last
