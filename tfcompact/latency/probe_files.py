"""Small files that overheads are found with, and noise to feed any file. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.tflite.flatbuffer import MODEL_IDENTIFIER

CHANNELS = 512
WEIGHTS = CHANNELS * CHANNELS + 4 * CHANNELS
"""The bytes of weights of one of `convolutions`."""


def chain(kind: str, count: int, channels: int = 8) -> bytes:
    """A file of `count` operators in a row, each on int8 `[1, 2, 2, channels]`: MAX_POOL_2D of 2x2, or SOFTMAX.

    XNNPACK takes the first and not the second, and joins neither with its like.
    """
    options = {"MAX_POOL_2D": schema.Pool2DOptionsT, "SOFTMAX": schema.SoftmaxOptionsT}[kind]()
    if kind == "SOFTMAX":
        options.beta = 1.0
    else:
        options.filterHeight, options.filterWidth, options.strideH, options.strideW = 2, 2, 1, 1
        options.padding = schema.Padding.SAME
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [_tensor(f"t{i}", channels) for i in range(count + 1)]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([count], np.int32)
    graph.operators = []
    for i in range(count):
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = np.array([i], np.int32), np.array([i + 1], np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        operator.builtinOptions = options
        graph.operators.append(operator)
    model.buffers = [schema.BufferT()]
    return _file(model, graph, getattr(schema.BuiltinOperator, kind), 2)  # the first version with 8 bits, of both


def convolutions(count: int) -> bytes:
    """A file of `count` convolutions of 1x1 in a row, each with `WEIGHTS` bytes of its own, on `[1, 7, 7, CHANNELS]`.

    It is the shape in which the last third of most networks has its weights.
    """
    rng = np.random.default_rng(0)
    graph, model = schema.SubGraphT(), schema.ModelT()
    model.buffers = [schema.BufferT()]
    graph.tensors, graph.operators = [_stored("t0", (1, 7, 7, CHANNELS), schema.TensorType.INT8, 1 / 16)], []
    for i in range(count):
        for name, values, scale in (
            ("kernel", rng.integers(-127, 128, (CHANNELS, 1, 1, CHANNELS), np.int8), 1 / 1024),
            ("bias", np.zeros(CHANNELS, np.int32), 1 / 16384),
        ):
            kind = getattr(schema.TensorType, values.dtype.name.upper())
            graph.tensors.append(_stored(f"{name}{i}", values.shape, kind, scale, len(model.buffers)))
            model.buffers.append(schema.BufferT(data=values.reshape(-1).view(np.uint8)))
        graph.tensors.append(_stored(f"t{i + 1}", (1, 7, 7, CHANNELS), schema.TensorType.INT8, 1 / 16))
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = 1
        operator = schema.OperatorT()
        operator.inputs = np.array([3 * i, 3 * i + 1, 3 * i + 2], np.int32)
        operator.outputs = np.array([3 * i + 3], np.int32)
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
        graph.operators.append(operator)
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([3 * count], np.int32)
    return _file(model, graph, schema.BuiltinOperator.CONV_2D, 3)


def noise(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """The same pseudo-random values at every call: over the whole range of integers, in [0, 1) of floats."""
    rng = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return rng.random(tuple(shape)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max + 1, tuple(shape), dtype)


def _file(model: Any, graph: Any, kind: int, version: int) -> bytes:
    """The model of this graph, whose operators are all of one kind."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _stored(name: str, shape: Sequence[int], kind: int, scale: float, buffer: int = 0) -> Any:
    """A tensor with one scale and the zero point 0."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape = name, np.array(shape, np.int32)
    tensor.type, tensor.buffer = kind, buffer
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array([scale], np.float32)
    tensor.quantization.zeroPoint = np.array([0], np.int64)
    return tensor


def _tensor(name: str, channels: int) -> Any:
    """A tensor of int8 `[1, 2, 2, channels]`, on the grid that TFLite wants of a softmax."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape = name, np.array([1, 2, 2, channels], np.int32)
    tensor.type, tensor.buffer = schema.TensorType.INT8, 0
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array([1 / 256], np.float32)
    tensor.quantization.zeroPoint = np.array([-128], np.int64)
    return tensor
