"""What is inside a `.tflite` file: its tensors and operators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfcompact.errors import UserError
from tfcompact.tflite import metadata

Source = Path | str | bytes
"""A file by its path, or its content."""


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


def tensors(source: Source) -> list[Tensor]:
    """Every tensor of the file, of all its subgraphs; inputs and outputs are the first subgraph's."""
    model = parsed(source)
    found = []
    for g, graph in enumerate(model.subgraphs):
        inputs, outputs = (set(graph.inputs), set(graph.outputs)) if g == 0 else (set(), set())
        for i, tensor in enumerate(graph.tensors):
            quantization = tensor.quantization
            scales = () if quantization is None or quantization.scale is None else quantization.scale
            zeros = () if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
            data = model.buffers[tensor.buffer].data
            found.append(
                Tensor(
                    name=tensor.name.decode(),
                    dtype=TYPES[tensor.type],
                    shape=() if tensor.shape is None else tuple(int(size) for size in tensor.shape),
                    scales=tuple(float(scale) for scale in scales),
                    zero_points=tuple(int(zero) for zero in zeros),
                    is_input=i in inputs,
                    is_output=i in outputs,
                    is_constant=data is not None and len(data) > 0,
                )
            )
    return found


def operators(source: Source) -> list[str]:
    """The operators in order of execution: the schema's names, and for a custom one (Flex too) its own name."""
    model = parsed(source)
    names = []
    for graph in model.subgraphs:
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
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


TYPES = {value: name.lower() for value, name in names_of(schema.TensorType).items()}
OPERATORS = names_of(schema.BuiltinOperator)


def described(source: Source) -> str:
    return "the model" if isinstance(source, bytes) else str(source)


def parsed(source: Source) -> Any:
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{described(source)} cannot be read ({error.strerror}); check the path") from None
    if content[4:8] != metadata.MODEL_IDENTIFIER:
        raise UserError(f"{described(source)} is not a TFLite model; give the path of an exported .tflite file")
    return schema.ModelT.InitFromPackedBuf(content, 0)
