"""What is inside a `.tflite` file: its tensors and operators, to read and to rewrite.

`parsed` gives the file as the schema's objects, which may be changed and `packed` again; `tensors` and `operators`
are what most readers want of it. The schema's Python code comes without types: `Graph`, `Operator` and the others
describe what is used of it. Indices of tensors are NumPy integers.
"""

from __future__ import annotations

import contextlib
import copy
import math
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.errors import UserError

Source = Path | str | bytes
"""A file by its path, or its content."""
MODEL_IDENTIFIER = b"TFL3"


class Scales(Protocol):
    """The quantization of a stored tensor: one scale, or one for each index along `quantizedDimension`."""

    scale: np.ndarray | None
    zeroPoint: np.ndarray | None  # noqa: N815
    quantizedDimension: int  # noqa: N815


class StoredTensor(Protocol):
    """A tensor as the file has it. Its buffer is a number, and so is its type."""

    name: bytes
    type: int
    shape: np.ndarray | None
    shapeSignature: np.ndarray | None  # noqa: N815
    buffer: int
    quantization: Scales | None
    sparsity: object


class StoredOperator(Protocol):
    """An operator as the file has it, of the `opcodeIndex`-th of its kinds. An input that is left out is -1."""

    opcodeIndex: int  # noqa: N815
    inputs: np.ndarray
    outputs: np.ndarray
    builtinOptions: object  # noqa: N815


class OperatorCode(Protocol):
    """A kind of operator, by the schema's number, or of a custom one by its name."""

    builtinCode: int  # noqa: N815
    deprecatedBuiltinCode: int  # noqa: N815
    customCode: bytes | None  # noqa: N815
    version: int


class Buffer(Protocol):
    """The values of a constant, as bytes; of anything else None, or empty."""

    data: np.ndarray | None


class Graph(Protocol):
    """Tensors, and operators in order of execution."""

    tensors: list[StoredTensor]
    operators: list[StoredOperator]
    inputs: np.ndarray
    outputs: np.ndarray


class Entry(Protocol):
    """A named buffer that readers of metadata look for."""

    name: bytes
    buffer: int


class StoredModel(Protocol):
    """A whole file."""

    version: int
    operatorCodes: list[OperatorCode]  # noqa: N815
    subgraphs: list[Graph]
    buffers: list[Buffer]
    metadata: list[Entry] | None
    signatureDefs: object  # noqa: N815

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        """Writes it and returns its place."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file. `dtype` is the schema's name in lower case; `scales` has one entry, or one a channel."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    is_input: bool
    is_output: bool
    is_constant: bool


DAMAGE = (
    UserError, ValueError, struct.error, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError,
    NotImplementedError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What Python's struct, flatbuffers, numpy, zipfile and json raise on bytes that are not what they claim to be."""


@contextlib.contextmanager
def reading(source: Source) -> Iterator[None]:
    """A block that reads a file. Raises `UserError` where what it holds contradicts itself."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{described(source)} is damaged ({reason:.200}); export it again with: make export"
        ) from None


def tensors(source: Source) -> list[Tensor]:
    """Every tensor of the file, of all its subgraphs; inputs and outputs are the first subgraph's."""
    with reading(source):
        return _tensors(parsed(source))


def _tensors(model: StoredModel) -> list[Tensor]:
    """Every tensor of a file."""
    found = []
    for g, graph in enumerate(model.subgraphs):
        inputs, outputs = (set(graph.inputs), set(graph.outputs)) if g == 0 else (set(), set())
        for i, tensor in enumerate(graph.tensors):
            quantization = tensor.quantization
            scales = () if quantization is None or quantization.scale is None else quantization.scale
            zeros = () if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
            found.append(
                Tensor(
                    name=tensor.name.decode(),
                    dtype=TYPES[tensor.type],
                    shape=shape_of(tensor),
                    scales=tuple(float(scale) for scale in scales),
                    zero_points=tuple(int(zero) for zero in zeros),
                    is_input=i in inputs,
                    is_output=i in outputs,
                    is_constant=is_constant(model, tensor),
                )
            )
    return found


def operators(source: Source) -> list[str]:
    """The operators in order of execution: the schema's names, and for a custom one (Flex too) its own name."""
    with reading(source):
        return [name for model in (parsed(source),) for graph in model.subgraphs for name in _kinds(model, graph)]


def _kinds(model: StoredModel, graph: Graph) -> list[str]:
    """The operators of a subgraph."""
    names = []
    for operator in graph.operators or ():
        code = model.operatorCodes[operator.opcodeIndex]
        # Codes above 126 are only in the wider field; older ones may be in either (schema.fbs: OperatorCode).
        builtin = OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        names.append(code.customCode.decode() if builtin == "CUSTOM" and code.customCode else builtin)
    return names


def stray_floats(source: Source) -> list[str]:
    """The names of float tensors that are neither the file's input nor its output: none in a true integer file."""
    return [t.name for t in tensors(source) if t.dtype.startswith("float") and not (t.is_input or t.is_output)]


def names_of(enumeration: type) -> dict[int, str]:
    """The names of one of the schema's enumerations by their numbers."""
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


TYPES = {value: name.lower() for value, name in names_of(schema.TensorType).items()}
OPERATORS = names_of(schema.BuiltinOperator)


def described(source: Source) -> str:
    """What an error calls the file."""
    return "the model" if isinstance(source, bytes) else str(source)


def content_of(source: Source) -> bytes:
    """The bytes of the file. Raises `UserError` where it cannot be read, or is not a TFLite model."""
    try:
        if not isinstance(source, bytes) and Path(source).exists() and not Path(source).is_file():
            raise UserError(f"{described(source)} is no file; give the path of an exported .tflite file")
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{described(source)} cannot be read ({error.strerror}); check the path") from None
    if content[4:8] != MODEL_IDENTIFIER:
        raise UserError(f"{described(source)} is not a TFLite model; give the path of an exported .tflite file")
    return content


def parsed(source: Source) -> StoredModel:
    """The file as objects that may be changed. Raises `UserError` as `content_of` does."""
    with reading(source):
        model: StoredModel = schema.ModelT.InitFromPackedBuf(content_of(source), 0)
    return model


def packed(model: StoredModel) -> bytes:
    """The bytes of the file that `model` has become."""
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=MODEL_IDENTIFIER)
    return bytes(builder.Output())


def shape_of(tensor: StoredTensor) -> tuple[int, ...]:
    """The tensor's shape; that of a scalar is empty."""
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def is_constant(model: StoredModel, tensor: StoredTensor) -> bool:
    """Whether the file holds the tensor's values."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def variable_inputs(model: StoredModel, operator: StoredOperator) -> list[int]:
    """The operator's inputs that are no constants."""
    tensors = model.subgraphs[0].tensors
    return [int(t) for t in operator.inputs if t >= 0 and not is_constant(model, tensors[int(t)])]


def excerpt(
    model: StoredModel,
    operators: Sequence[StoredOperator],
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    zeros: Collection[int] = (),
) -> bytes:
    """A file of these operators of the first subgraph alone, with the constants that they read.

    `inputs` and `outputs` are tensors of `model`. Those in `zeros` become constants of zeros.
    """
    old = model.subgraphs[0]
    used = list(dict.fromkeys(int(t) for o in operators for t in (*o.inputs, *o.outputs) if t >= 0))
    place = {t: i for i, t in enumerate(used)}
    graph: Graph = schema.SubGraphT()
    part: StoredModel = schema.ModelT()
    part.version, part.buffers, part.subgraphs = model.version, [schema.BufferT()], [graph]
    graph.tensors, graph.operators = [], []
    for t in used:
        tensor = copy.copy(old.tensors[t])
        buffer = model.buffers[tensor.buffer]
        if t in zeros:
            size = math.prod(shape_of(tensor)) * np.dtype(TYPES[tensor.type]).itemsize
            buffer = schema.BufferT(data=np.zeros(size, np.uint8))
        tensor.buffer = 0
        if buffer.data is not None and len(buffer.data) > 0:
            part.buffers.append(buffer)
            tensor.buffer = len(part.buffers) - 1
        graph.tensors.append(tensor)
    codes = list(dict.fromkeys(operator.opcodeIndex for operator in operators))
    part.operatorCodes = [model.operatorCodes[code] for code in codes]
    for operator in operators:
        moved = copy.copy(operator)
        moved.opcodeIndex = codes.index(operator.opcodeIndex)
        moved.inputs = np.array([place.get(int(t), -1) for t in operator.inputs], np.int32)
        moved.outputs = np.array([place[int(t)] for t in operator.outputs], np.int32)
        graph.operators.append(moved)
    graph.inputs = np.array([place[t] for t in inputs], np.int32)
    graph.outputs = np.array([place[t] for t in outputs], np.int32)
    return packed(part)
