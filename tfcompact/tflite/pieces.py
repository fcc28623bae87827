"""Each operator of a `.tflite` file as a file of its own: to see what one kernel computes, which XNNPACK else hides.

No TensorFlow here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.errors import UserError
from tfcompact.tflite import flatbuffer, metadata, runtime


class Piece(NamedTuple):
    """One operator as a file: its kind, its output's name, and the names of the tensors it reads and gives, in the
    order of the file's inputs and outputs. Constants stay inside."""

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
        reads = [int(t) for t in operator.inputs if t >= 0 and not is_constant(model, graph.tensors[int(t)])]
        if not reads:
            continue
        inputs = list(dict.fromkeys(reads))
        outputs = [int(t) for t in operator.outputs]
        content = _alone(model, operator, inputs, outputs)
        names = [graph.tensors[t].name.decode() for t in (*inputs, *outputs)]
        yield Piece(kind, names[len(inputs)], content, tuple(names[: len(inputs)]), tuple(names[len(inputs) :]))


def largest_difference(piece: Piece, values: dict[str, np.ndarray], first: str, second: str) -> int:
    """The largest difference in steps of the output's grid between two delegates that run `piece` on the integers
    `values` (tensor name -> `[1, …]`)."""
    given = [_run(piece, values, delegate) for delegate in (first, second)]
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
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=metadata.MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _run(piece: Piece, values: dict[str, np.ndarray], delegate: str) -> list[np.ndarray]:
    interpreter = runtime.open_interpreter(piece.content, 1, delegate)
    for name, detail in zip(piece.inputs, interpreter.get_input_details(), strict=True):
        interpreter.set_tensor(detail["index"], values[name])
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _alone(model: Any, operator: Any, inputs: list[int], outputs: list[int]) -> bytes:
    old = model.subgraphs[0]
    used = list(dict.fromkeys([int(t) for t in operator.inputs if t >= 0] + outputs))
    place = {t: i for i, t in enumerate(used)}
    graph = schema.SubGraphT()
    small = schema.ModelT()
    small.version, small.buffers, graph.tensors = model.version, [schema.BufferT()], []
    for t in used:
        tensor = copy.copy(old.tensors[t])
        if is_constant(model, tensor):
            small.buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = len(small.buffers) - 1
        else:
            tensor.buffer = 0
        graph.tensors.append(tensor)
    alone = copy.copy(operator)
    alone.opcodeIndex = 0
    alone.inputs = np.array([place.get(int(t), -1) for t in operator.inputs], np.int32)
    alone.outputs = np.array([place[t] for t in outputs], np.int32)
    graph.operators = [alone]
    graph.inputs = np.array([place[t] for t in inputs], np.int32)
    graph.outputs = np.array([place[t] for t in outputs], np.int32)
    small.operatorCodes = [model.operatorCodes[operator.opcodeIndex]]
    small.subgraphs = [graph]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(small.Pack(builder), file_identifier=metadata.MODEL_IDENTIFIER)
    return bytes(builder.Output())
