"""What a `.tflite` file is the sum of: operators, each as text and as a file of its own, to be timed alone.

A part is an operator of the file, or several that XNNPACK makes one of. Two parts are alike where kind, options, and
every tensor's type, shape and constancy agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.errors import UserError
from tfcompact.tflite import flatbuffer, runtime
from tfcompact.tflite.flatbuffer import StoredModel, StoredTensor, shape_of

PLAIN = " (not by XNNPACK)"
"""Ends the configuration of an operator that XNNPACK leaves to TFLite's own kernels."""
WITH_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
POINTWISE = (
    *("ABS", "ADD", "DIV", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MAXIMUM", "MINIMUM"),
    *("MUL", "NEG", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RSQRT", "SQRT", "SQUARE"),
    *("SQUARED_DIFFERENCE", "SUB", "TANH"),
)
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
SHOWN_VALUES = 16  # an axis, a permutation, paddings: small constants whose values decide what is done


class Part(NamedTuple):
    """One operator of a file, or a few that run as one, with `content`, a file of it alone.

    `name` is that of what it writes in the whole file, where the converter left the names of layers.
    """

    configuration: str
    delegated: bool
    content: bytes
    name: str = ""


class Network(NamedTuple):
    """A file as a table sees it: its operators' configurations in order, and the pieces that XNNPACK runs."""

    configurations: tuple[str, ...]
    partitions: int


def read(source: flatbuffer.Source, delegate: str = "xnnpack") -> Network:
    """What of the file decides its cost under that delegate. Raises `UserError` as `parts` does."""
    return made_of(parts(source, delegate), source, delegate)


def made_of(parts: Sequence[Part], source: flatbuffer.Source, delegate: str = "xnnpack") -> Network:
    """What `read` gives, of a file whose parts are known."""
    configurations = tuple(part.configuration for part in parts)
    return Network(configurations, runtime.partitions(source).count if delegate == "xnnpack" else 0)


def parts(source: flatbuffer.Source, delegate: str = "xnnpack") -> list[Part]:
    """What the file is the sum of, in order of execution: operators, and those that XNNPACK makes one of.

    Raises `UserError` for a file that is not the sum of its operators: one that unpacks its weights when it is loaded
    (float16), or has control flow.
    """
    model, kinds = flatbuffer.parsed(source), flatbuffer.operators(source)
    graph = model.subgraphs[0]
    reads = [flatbuffer.variable_inputs(model, operator) for operator in graph.operators]
    if len(model.subgraphs) > 1 or not all(reads):
        raise UserError(
            f"{flatbuffer.described(source)} has operators that read constants only, or control flow, so its cost is "
            "not the sum of its operators'; give an int8 or float32 file"
        )
    groups = {}
    if delegate == "xnnpack":
        groups = _pointwise_groups(model, kinds, reads) | _padded_convolutions(model, kinds, reads)
    absorbed = {i for group in groups.values() for i in group[:-1]} - set(groups)
    found: dict[int, Part] = {}
    for i in range(len(kinds)):
        if i in absorbed:
            continue
        part = _part(model, groups.get(i, [i]), kinds, delegate)
        # Without a part, XNNPACK leaves some of the group to TFLite, so it is no group.
        found |= {i: part} if part else {j: p for j in groups[i] if (p := _part(model, [j], kinds, delegate))}
    return [found[i] for i in sorted(found)]


def _pointwise_groups(model: StoredModel, kinds: Sequence[str], reads: Sequence[list[int]]) -> dict[int, list[int]]:
    """Operators by number that XNNPACK replaces, with some before them, by one look-up of 256 values: last -> all.

    It does so where an 8-bit tensor is, position by position, a function of one other, such as `x * relu6(x + 3)` or
    `x * sigmoid(x)`. Those before it cost nothing then, unless something else reads them too.
    """
    graph = model.subgraphs[0]
    root: dict[int, int] = {}  # a tensor that is a function of one other -> that other
    maker: dict[int, int] = {}
    cones: dict[int, list[int]] = {}
    for i, operator in enumerate(graph.operators):
        output = int(operator.outputs[0])
        maker[output] = i
        roots = {root.get(t, t) for t in reads[i]}
        if kinds[i] not in POINTWISE or len(roots) > 1:
            continue
        (origin,) = roots
        tensors = [graph.tensors[t] for t in (*reads[i], origin, output)]
        same = len({shape_of(t) for t in tensors}) == 1
        if same and {flatbuffer.TYPES[t.type] for t in tensors} <= {"int8", "uint8"}:
            root[output] = origin
            before = {j for t in reads[i] if t != origin for j in cones[maker[t]]}
            cones[i] = [*sorted(before), i]
    outputs = {int(t) for t in graph.outputs}
    groups = {}
    for i, cone in cones.items():
        output = int(graph.operators[i].outputs[0])
        readers = [j for j, tensors in enumerate(reads) if output in tensors]
        if output in outputs or not readers or any(j not in cones or i not in cones[j] for j in readers):
            groups[i] = cone
    return groups


def _padded_convolutions(
    model: StoredModel, kinds: Sequence[str], reads: Sequence[list[int]]
) -> dict[int, list[int]]:
    """Convolutions by number with the padding before them, where nothing else reads it: XNNPACK makes one of them."""
    graph = model.subgraphs[0]
    outputs = {int(t) for t in graph.outputs}
    groups = {}
    for i, kind in enumerate(kinds):
        padded = int(graph.operators[i].outputs[0])
        readers = [j for j, tensors in enumerate(reads) if padded in tensors]
        if kind == "PAD" and len(readers) == 1 and padded not in outputs and kinds[readers[0]] in CONVOLUTIONS:
            groups[readers[0]] = [i, readers[0]]
    return groups


def _part(model: StoredModel, group: list[int], kinds: Sequence[str], delegate: str) -> Part | None:
    """The operators as a file; None where there are several and XNNPACK does not run them all as one piece."""
    content = _cut(model, group)
    pieces = runtime.partitions(content) if delegate == "xnnpack" else None
    if len(group) > 1 and pieces and (pieces.count, pieces.delegated_nodes) != (1, len(group)):
        return None
    delegated = pieces is not None and pieces.count > 0
    plain = PLAIN if delegate == "xnnpack" and not delegated else ""
    written = model.subgraphs[0].tensors[int(model.subgraphs[0].operators[group[-1]].outputs[0])].name
    name = written.decode(errors="replace") if isinstance(written, bytes) else str(written)
    return Part(_configuration(model, group, [kinds[i] for i in group]) + plain, delegated, content, name)


def _cut(model: StoredModel, group: list[int]) -> bytes:
    """Some operators as a file of one input and one output, as what runs files on devices wants it.

    Any further input becomes a constant of zeros, any output but the last operator's first stays inside.
    """
    operators = [model.subgraphs[0].operators[i] for i in group]
    made = {int(t) for operator in operators for t in operator.outputs}
    first, *others = [t for o in operators for t in flatbuffer.variable_inputs(model, o) if t not in made]
    last = int(operators[-1].outputs[0])
    return flatbuffer.excerpt(model, operators, [first], [last], zeros=set(others) - {first})


def _configuration(model: StoredModel, group: list[int], kinds: Sequence[str]) -> str:
    """Operators as text, equal where kernels and work are the same.

    It holds each one's kind, inputs, outputs, and options other than the schema's defaults.
    `CONV_2D int8[1,8,8,16] const int8/channel[24,1,1,16] const int32[24] -> int8[1,8,8,24] strideH=1 strideW=1`.
    Of several, `<1>` is the output of the first.
    """
    graph = model.subgraphs[0]
    made: dict[int, int] = {}
    texts = []
    for number, (i, kind) in enumerate(zip(group, kinds, strict=True), 1):
        operator = graph.operators[i]
        words = [kind]
        for t in map(int, operator.inputs):
            inside = f"<{made[t]}>" if t in made else None
            words.append(inside or ("none" if t < 0 else _tensor(model, graph.tensors[t], kind)))
        words += ["->", *(_tensor(model, graph.tensors[int(t)], kind) for t in operator.outputs)]
        texts.append(" ".join([*words, *_options(operator.builtinOptions)]))
        made |= {int(t): number for t in operator.outputs}
    return "; ".join(texts)


def _tensor(model: StoredModel, tensor: StoredTensor, kind: str) -> str:
    """A tensor as text: its type and shape, whether it is a constant, and the values of a small one that count."""
    shape = ",".join(map(str, shape_of(tensor)))
    scales = None if tensor.quantization is None else tensor.quantization.scale
    by_channel = "/channel" if scales is not None and len(scales) > 1 else ""
    sparse = "/sparse" if tensor.sparsity is not None else ""
    text = f"{flatbuffer.TYPES[tensor.type]}{by_channel}{sparse}[{shape}]"
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return text
    if kind in WITH_BIAS or flatbuffer.TYPES[tensor.type] not in ("int32", "int64"):
        return f"const {text}"
    values = np.frombuffer(bytes(data), flatbuffer.TYPES[tensor.type])
    return f"const {text}" + (f"={','.join(map(str, values))}" if values.size <= SHOWN_VALUES else "")


def _options(options: object) -> list[str]:
    """An operator's options that differ from the schema's defaults, as text."""
    if options is None:
        return []
    usual = vars(type(options)())
    names = {"padding": _PADDINGS, "fusedActivationFunction": _ACTIVATIONS}
    return [
        f"{name}={names[name][value] if name in names else _plain(value)}"
        for name, value in sorted(vars(options).items())
        if not np.array_equal(value, usual[name])
    ]


def _plain(value: object) -> str:
    """The value of an option as text."""
    return ",".join(map(str, value)) if isinstance(value, np.ndarray | list) else str(value)


_PADDINGS = flatbuffer.names_of(schema.Padding)
_ACTIVATIONS = flatbuffer.names_of(schema.ActivationFunctionType)
