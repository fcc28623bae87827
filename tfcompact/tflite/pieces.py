"""Each operator of a `.tflite` file as a file of its own: to see what one kernel computes, which XNNPACK hides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfcompact.errors import UserError
from tfcompact.tflite import flatbuffer, runtime


class Piece(NamedTuple):
    """One operator as a file, `name` being its output's.

    `inputs` and `outputs` are the names of the tensors it reads and gives, in the order of the file's inputs and
    outputs. Constants stay inside.
    """

    kind: str
    name: str
    content: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def pieces(source: flatbuffer.Source) -> Iterator[Piece]:
    """Every operator of the first subgraph, in order of execution; not one that reads constants only."""
    model = flatbuffer.parsed(source)
    graph = model.subgraphs[0]
    kinds = flatbuffer.operators(source)
    for kind, operator in zip(kinds, graph.operators, strict=False):
        inputs = list(dict.fromkeys(flatbuffer.variable_inputs(model, operator)))
        if not inputs:
            continue
        outputs = [int(t) for t in operator.outputs]
        content = flatbuffer.excerpt(model, [operator], inputs, outputs)
        names = [graph.tensors[t].name.decode() for t in (*inputs, *outputs)]
        yield Piece(kind, names[len(inputs)], content, tuple(names[: len(inputs)]), tuple(names[len(inputs) :]))


def largest_difference(piece: Piece, values: dict[str, np.ndarray], first: str, second: str) -> int:
    """The largest difference between two delegates that run `piece` on `values`, in steps of the output's grid.

    `values` are integers, by the name of their tensor, `[1, …]`.
    """
    given = [run(piece, values, delegate) for delegate in (first, second)]
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(*given, strict=True))


def integers(source: flatbuffer.Source, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What every tensor of an integer file holds when one image, uint8 `[px, px, 3]`, is run by reference kernels."""
    prepared = runtime.LiteModel(source, delegate="reference").prepared(pixels[np.newaxis])
    interpreter = runtime.open_interpreter(source, 1, "reference", preserve=True)
    (feed,) = interpreter.get_input_details()
    interpreter.set_tensor(feed["index"], prepared)
    interpreter.invoke()
    found = {}
    for detail in interpreter.get_tensor_details():
        try:
            found[detail["name"]] = interpreter.get_tensor(detail["index"])
        except ValueError:  # a tensor that no kernel has filled
            continue
    return found


def up_to_logits(source: flatbuffer.Source) -> bytes:
    """The file without its softmax: its output is what the softmax would have read. Without metadata.

    Raises `UserError` where the last operators are no softmax, with or without a change of the integers' type.
    """
    model = flatbuffer.parsed(source)
    graph = model.subgraphs[0]
    kinds = flatbuffer.operators(source)
    tail = kinds[-2:] if kinds[-1:] == ["QUANTIZE"] else kinds[-1:]
    if tail[:1] != ["SOFTMAX"]:
        raise UserError(
            f"{flatbuffer.described(source)} does not end in a softmax, but in {kinds[-1] if kinds else 'nothing'}"
        )
    graph.outputs = np.array([graph.operators[-len(tail)].inputs[0]], np.int32)
    graph.operators = graph.operators[: -len(tail)]
    model.signatureDefs, model.metadata = None, None  # they name outputs that are gone
    return flatbuffer.packed(model)


def run(piece: Piece, values: dict[str, np.ndarray], delegate: str) -> list[np.ndarray]:
    """The outputs of `piece` for the integers `values`, in the order of its file's outputs."""
    interpreter = runtime.open_interpreter(piece.content, 1, delegate)
    for name, detail in zip(piece.inputs, interpreter.get_input_details(), strict=True):
        interpreter.set_tensor(detail["index"], values[name])
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
