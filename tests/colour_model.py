"""A `.tflite` file that runs under the real runtime and whose answer is known: the colour a picture is nearest to.

No TensorFlow here: the file is written record by record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (235, 210, 60),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
PX = 32
SHARPNESS = 1.5  # logits per squared distance between normalized colours: sure, but not to 100 %
PIXEL, LOGIT = 1 / 127.5, 0.15  # steps of the integer files' pixels and logits


KINDS, OPERATORS = schema.TensorType, schema.BuiltinOperator
CODES = {
    "pool": OPERATORS.AVERAGE_POOL_2D,
    "dense": OPERATORS.FULLY_CONNECTED,
    "softmax": OPERATORS.SOFTMAX,
    "quantize": OPERATORS.QUANTIZE,
}
Step = tuple[str, list[int], int]
"""An operator of `CODES`, the tensors that it reads, and the one that it writes, by their places in the graph."""


def colour_model(format: str) -> bytes:
    """The bytes of a `.tflite` file: `[1, 32, 32, 3] -> [1, classes]` probabilities by nearest mean colour.

    Nearest, since `-|x - p|^2` differs from `2 p.x - |p|^2` by what all classes share: one dense layer.
    """
    points = np.array(list(COLOURS.values()), np.float32) / 127.5 - 1
    weights, bias = SHARPNESS * 2 * points, -SHARPNESS * (points**2).sum(1)
    buffers = [np.zeros(0, np.uint8)]  # the first stands for none
    steps: list[Step] = [("pool", [0], 1), ("dense", [1, 2, 3], 4), ("softmax", [4], 5)]
    graph = schema.SubGraphT()
    graph.inputs, graph.outputs = [0], [5]
    if format == "float32":
        graph.tensors = float_tensors(weights, bias, buffers)
    else:
        graph.tensors = integer_tensors(weights, bias, buffers)
    if format == "uint8":
        graph.tensors.append(tensor("image", (1, PX, PX, 3), KINDS.UINT8, scale=PIXEL, zero=128))
        graph.tensors.append(tensor("probabilities_uint8", (1, len(points)), KINDS.UINT8, scale=1 / 256))
        steps = [("quantize", [6], 0), *steps, ("quantize", [5], 7)]
        graph.inputs, graph.outputs = [6], [7]
    return packed(graph, steps, buffers)


def float_tensors(weights: np.ndarray, bias: np.ndarray, buffers: list[np.ndarray]) -> list[Any]:
    """The six tensors of the float network; what is constant goes to the end of `buffers`."""
    n = len(weights)
    return [
        tensor("image", (1, PX, PX, 3), KINDS.FLOAT32),
        tensor("mean", (1, 1, 1, 3), KINDS.FLOAT32),
        tensor("weights", (n, 3), KINDS.FLOAT32, buffer=constant(weights, buffers)),
        tensor("bias", (n,), KINDS.FLOAT32, buffer=constant(bias.astype(np.float32), buffers)),
        tensor("logits", (1, n), KINDS.FLOAT32),
        tensor("probabilities", (1, n), KINDS.FLOAT32),
    ]


def integer_tensors(weights: np.ndarray, bias: np.ndarray, buffers: list[np.ndarray]) -> list[Any]:
    """The same six in 8 bits."""
    n, scale = len(weights), float(abs(weights).max() / 127)
    rounded = np.round(weights / scale).astype(np.int8)
    rounded_bias = np.round(bias / (scale * PIXEL)).astype(np.int32)
    return [
        tensor("pixels", (1, PX, PX, 3), KINDS.INT8, scale=PIXEL),
        tensor("mean", (1, 1, 1, 3), KINDS.INT8, scale=PIXEL),
        tensor("weights", (n, 3), KINDS.INT8, buffer=constant(rounded, buffers), scale=scale),
        tensor("bias", (n,), KINDS.INT32, buffer=constant(rounded_bias, buffers), scale=scale * PIXEL),
        tensor("logits", (1, n), KINDS.INT8, scale=LOGIT),
        tensor("probabilities", (1, n), KINDS.INT8, scale=1 / 256, zero=-128),
    ]


def tensor(
    name: str, shape: tuple[int, ...], kind: int, *, buffer: int = 0, scale: float = 0.0, zero: int = 0
) -> Any:
    """A tensor record; a `scale` makes it a quantized one."""
    t = schema.TensorT()
    t.name, t.shape, t.type, t.buffer = name.encode(), list(shape), kind, buffer
    if scale:
        t.quantization = schema.QuantizationParametersT()
        t.quantization.scale, t.quantization.zeroPoint = [scale], [zero]
    return t


def constant(array: np.ndarray, buffers: list[np.ndarray]) -> int:
    """The place in `buffers` to which the array's bytes went."""
    buffers.append(np.frombuffer(array.tobytes(), np.uint8))
    return len(buffers) - 1


def packed(graph: Any, steps: list[Step], buffers: list[np.ndarray]) -> bytes:
    """The file of one graph."""
    model = schema.ModelT()
    model.operatorCodes, graph.operators, model.buffers = [], [], []
    for code in CODES.values():
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, code, 4 if code == CODES["dense"] else 2
        model.operatorCodes.append(entry)
    for step, inputs, output in steps:
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = list(CODES).index(step), inputs, [output]
        op.builtinOptionsType, op.builtinOptions = options(step)
        graph.operators.append(op)
    for content in buffers:
        buffer = schema.BufferT()
        buffer.data = content
        model.buffers.append(buffer)
    model.version, model.subgraphs, model.description = 3, [graph], b"the colour a picture is nearest to"
    builder = Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def options(step: str) -> tuple[int, Any]:
    """The options record of an operator, and its kind."""
    if step == "pool":
        pool = schema.Pool2DOptionsT()
        pool.padding = schema.Padding.VALID
        pool.filterWidth = pool.filterHeight = PX
        pool.strideW = pool.strideH = 1
        return schema.BuiltinOptions.Pool2DOptions, pool
    if step == "dense":
        return schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT()
    if step == "softmax":
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        return schema.BuiltinOptions.SoftmaxOptions, softmax
    return schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT()
