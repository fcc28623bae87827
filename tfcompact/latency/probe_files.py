"""Small files that overheads are found with, and noise to feed any file. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.tflite.flatbuffer import MODEL_IDENTIFIER


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
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 2  # the first with 8 bits, of both
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=MODEL_IDENTIFIER)
    return bytes(builder.Output())


def noise(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """The same pseudo-random values at every call: over the whole range of integers, in [0, 1) of floats."""
    rng = np.random.default_rng(0)
    if np.issubdtype(dtype, np.floating):
        return rng.random(tuple(shape)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max + 1, tuple(shape), dtype)


def _tensor(name: str, channels: int) -> Any:
    """A tensor of int8 `[1, 2, 2, channels]`, on the grid that TFLite wants of a softmax."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape = name, np.array([1, 2, 2, channels], np.int32)
    tensor.type, tensor.buffer = schema.TensorType.INT8, 0
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array([1 / 256], np.float32)
    tensor.quantization.zeroPoint = np.array([-128], np.int64)
    return tensor
