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
MIXED_CHANNELS = 32
"""Channels of the image that `mixture` begins with, as most networks do."""


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
    return _file(model, graph, [getattr(schema.BuiltinOperator, kind)], 2)  # the first version with 8 bits, of both


def convolutions(count: int) -> bytes:
    """A file of `count` convolutions of 1x1 in a row, each with `WEIGHTS` bytes of its own, on `[1, 7, 7, CHANNELS]`.

    It is the shape in which the last third of most networks has its weights.
    """
    rng = np.random.default_rng(0)
    graph, model = schema.SubGraphT(), schema.ModelT()
    model.buffers = [schema.BufferT()]
    graph.tensors, graph.operators = [_stored("image", (1, 7, 7, CHANNELS), schema.TensorType.INT8, 1 / 16)], []
    last = 0
    for _ in range(count):
        last = _convolved(model, graph, last, rng, CHANNELS, 7, CHANNELS, depthwise=False, stride=1)
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([last], np.int32)
    return _file(model, graph, [schema.BuiltinOperator.CONV_2D], 3)


def widening(out: int) -> bytes:
    """A file of one convolution of 1x1 with so many output channels, on `[1, 14, 14, 64]`."""
    graph, model = schema.SubGraphT(), schema.ModelT()
    model.buffers = [schema.BufferT()]
    graph.tensors, graph.operators = [_stored("image", (1, 14, 14, 64), schema.TensorType.INT8, 1 / 16)], []
    last = _convolved(model, graph, 0, np.random.default_rng(0), 64, 14, out, depthwise=False, stride=1)
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([last], np.int32)
    return _file(model, graph, [schema.BuiltinOperator.CONV_2D], 3)


def mixture(px: int) -> bytes:
    """A file of many different convolutions, as a network has them: up to five sizes of image, each in three blocks.

    A block is a convolution of 1x1 and a depthwise one of 3x3; between the sizes the image, of `px` at first, is
    halved and the channels are doubled. Every size has about the same number of multiply-adds; the weights are a
    megabyte at most.
    """
    rng = np.random.default_rng(0)
    graph, model = schema.SubGraphT(), schema.ModelT()
    model.buffers = [schema.BufferT()]
    channels, sizes = MIXED_CHANNELS, next(n for n in range(5, 0, -1) if px % 2 ** (n - 1) == 0)
    graph.tensors, graph.operators = [_stored("image", (1, px, px, channels), schema.TensorType.INT8, 1 / 16)], []
    last = 0
    for level in range(sizes):
        for _ in range(3):
            last = _convolved(model, graph, last, rng, channels, px, channels, depthwise=False, stride=1)
            last = _convolved(model, graph, last, rng, channels, px, channels, depthwise=True, stride=1)
        if level < sizes - 1:
            last = _convolved(model, graph, last, rng, channels, px // 2, 2 * channels, depthwise=False, stride=2)
            px, channels = px // 2, 2 * channels
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([last], np.int32)
    kinds = [schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D]
    return _file(model, graph, kinds, 3)


def _convolved(
    model: Any,
    graph: Any,
    source: int,
    rng: np.random.Generator,
    channels: int,
    px: int,
    out: int,
    *,
    depthwise: bool,
    stride: int,
) -> int:
    """The number of the tensor `[1, px, px, out]` that another convolution of the tensor `source` gives."""
    shape = (1, 3, 3, channels) if depthwise else (out, 1, 1, channels)
    arrays = (rng.integers(-127, 128, shape, np.int8), np.zeros(out, np.int32))
    numbers = [source]
    for values, scale in zip(arrays, (1 / 1024, 1 / 16384), strict=True):
        kind = getattr(schema.TensorType, values.dtype.name.upper())
        numbers.append(len(graph.tensors))
        graph.tensors.append(_stored(f"weights{len(graph.tensors)}", values.shape, kind, scale, len(model.buffers)))
        model.buffers.append(schema.BufferT(data=values.reshape(-1).view(np.uint8)))
    result = len(graph.tensors)
    graph.tensors.append(_stored(f"t{result}", (1, px, px, out), schema.TensorType.INT8, 1 / 16))
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.strideH = options.strideW = stride
    options.padding = schema.Padding.SAME
    if depthwise:
        options.depthMultiplier = 1
    operator = schema.OperatorT()
    operator.opcodeIndex = int(depthwise)
    operator.inputs, operator.outputs = np.array(numbers, np.int32), np.array([result], np.int32)
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    operator.builtinOptions = options
    graph.operators.append(operator)
    return result


def noise(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """The same pseudo-random values at every call: over the whole range of integers, in [0, 1) of floats."""
    rng = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return rng.random(tuple(shape)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max + 1, tuple(shape), dtype)


def _file(model: Any, graph: Any, kinds: Sequence[int], version: int) -> bytes:
    """The model of this graph, whose operators are of these kinds."""
    model.version, model.operatorCodes, model.subgraphs = 3, [], [graph]
    for kind in kinds:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = version
        model.operatorCodes.append(code)
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
