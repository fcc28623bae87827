"""Some operators of an 8-bit `.tflite` file in float, the rest as they are.

It is done on the finished file. The converter decides by itself what it quantizes, and makes 8 bits of every
convolution that lies between two tensors with ranges, which is where one kept float lies. Here an operator that is
kept gets its float constants back, a DEQUANTIZE before each 8-bit input, and a QUANTIZE, on the grid that was there,
behind an output that some 8-bit operator reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.errors import UserError
from tfcompact.tflite import flatbuffer
from tfcompact.tflite.flatbuffer import Graph, StoredOperator, StoredTensor, shape_of

Layers = Sequence[Sequence[str]]
"""Layers in groups: those of a group are one operator, or are kept float together."""
Weights = Mapping[str, Sequence[np.ndarray]]
"""Float kernel and, if there is one, bias of each layer, in Keras' shapes."""

Grid = tuple[np.ndarray, np.ndarray]
"""Scale and zero point, in shapes that the tensor's values can be multiplied with."""
DEQUANTIZED = "_dequantized"
"""How the name of a tensor ends that a DEQUANTIZE makes of one in 8 bits."""
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8


def with_float(content: bytes, layers: Layers, kept: Collection[str], weights: Weights, *, readers: bool) -> bytes:
    """The 8-bit file `content` with the operators of the `kept` layers in float.

    `content` comes from the converter, without metadata. An operator belongs to the layer that its output is named
    after. If `readers`, operators that read what a kept layer gives are float too: an 8-bit operator would get it
    rounded to 8 bits again, and only this takes that rounding away. Raises `UserError` for a layer without an
    operator, and where `weights` are not those that the file holds in 8 bits.
    """
    return _Surgery(content, layers, weights).kept(kept, readers)


def float_layers(content: bytes, layers: Layers) -> set[str]:
    """The first name of every group of `layers` that has an operator with float output in the file."""
    graph = flatbuffer.parsed(content).subgraphs[0]
    rows = zip(_owners(graph, layers), flatbuffer.operators(content), graph.operators, strict=True)
    return {
        owner
        for owner, name, operator in rows
        if owner and name not in CONVERSIONS and graph.tensors[operator.outputs[0]].type == FLOAT32
    }


def _owners(graph: Graph, layers: Layers) -> list[str]:
    """For each operator the first name of the group it belongs to, or an empty string."""
    group = {name: names[0] for names in layers for name in names}
    owners = []
    for operator in graph.operators:
        parts = graph.tensors[operator.outputs[0]].name.decode().split(";")[0].split("/")
        owners.append(next((group[part] for part in parts if part in group), ""))
    return owners


class _Surgery:
    """A file being rewritten. Operators and tensors are numbers; an operator is an index into those of before."""

    def __init__(self, content: bytes, layers: Layers, weights: Weights) -> None:
        self.model = flatbuffer.parsed(content)
        self.graph, self.tensors = self.model.subgraphs[0], self.model.subgraphs[0].tensors
        self.names, self.weights = flatbuffer.operators(content), weights
        self.owners = _owners(self.graph, layers)
        self.members = {names[0]: names for names in layers}
        self.producer = {int(t): i for i, op in enumerate(self.graph.operators) for t in op.outputs}
        self.readers: dict[int, list[int]] = {}
        for i, operator in enumerate(self.graph.operators):
            for t in operator.inputs:
                self.readers.setdefault(int(t), []).append(i)
        self.codes: dict[int, int] = {}
        self.twins: dict[int, int] = {}  # an 8-bit tensor -> the float one with its values

    def kept(self, layers: Collection[str], with_readers: bool) -> bytes:
        """The file's bytes when the operators of these layers, and of their readers, are float."""
        chosen: set[int] = set()
        for layer in layers:
            found = {i for i, owner in enumerate(self.owners) if owner == layer}
            if not found:
                raise UserError(f"the file has no operator for layer {layer}; keep others float")
            chosen |= found
        if with_readers:
            chosen |= self._reading(chosen)
        chosen = {i for i in chosen if self.names[i] != "QUANTIZE"}
        chosen |= self._requantizing(chosen)
        operators: list[StoredOperator] = []
        for i, operator in enumerate(self.graph.operators):
            if i in chosen:
                self._make_float(i, operator, chosen, operators)
            else:
                operators.append(operator)
        self.graph.operators = operators
        self._drop_unused_buffers()
        return flatbuffer.packed(self.model)

    def _reading(self, chosen: set[int]) -> set[int]:
        """The operators that read what the chosen give: through those that only move values, up to the next layer."""
        found: set[int] = set()
        open_ends = [int(t) for i in chosen for t in self.graph.operators[i].outputs]
        while open_ends:
            for reader in self.readers.get(open_ends.pop(), ()):
                if reader in chosen | found or self._is_last(reader):
                    continue
                if self.owners[reader]:
                    found.update(i for i, owner in enumerate(self.owners) if owner == self.owners[reader])
                else:
                    found.add(reader)
                    open_ends.extend(int(t) for t in self.graph.operators[reader].outputs)
        return found

    def _is_last(self, i: int) -> bool:
        """Whether the operator is the conversion from int8 to the file's output."""
        return self.names[i] == "QUANTIZE" and self.graph.operators[i].outputs[0] in self.graph.outputs

    def _requantizing(self, chosen: set[int]) -> set[int]:
        """The QUANTIZE operators, from 8 bits to 8 bits, that have chosen readers only: float has no use for them."""
        return {
            i
            for i, operator in enumerate(self.graph.operators)
            if self.names[i] == "QUANTIZE"
            and self.tensors[operator.inputs[0]].type == INT8
            and self.readers.get(int(operator.outputs[0]))
            and set(self.readers[int(operator.outputs[0])]) <= chosen
        }

    def _make_float(
        self, i: int, operator: StoredOperator, chosen: set[int], operators: list[StoredOperator]
    ) -> None:
        """Appends the operator in float to `operators`, with the conversions it needs."""
        inputs = [int(t) for t in operator.inputs]
        floats = [self._float_input(i, t, chosen, operators) for t in inputs]
        if self.names[i] == "QUANTIZE":
            self.twins[int(operator.outputs[0])] = floats[0]
            return
        outputs = [int(t) for t in operator.outputs]
        behind = []
        for k, t in enumerate(outputs):
            if self.tensors[t].type != INT8:
                continue
            outside = t in self.graph.outputs or not set(self.readers.get(t, ())) <= chosen
            if outside:
                outputs[k] = self.twins[t] = self._new_float(t)
                behind.append(self._conversion("QUANTIZE", outputs[k], t))
            else:
                self.twins[t] = t
                self._become_float(t)
        operator.inputs, operator.outputs = np.array(floats, np.int32), np.array(outputs, np.int32)
        operators.extend([operator, *behind])

    def _float_input(self, i: int, t: int, chosen: set[int], operators: list[StoredOperator]) -> int:
        """The float tensor that operator `i` reads instead of its input `t`."""
        if t < 0 or t in self.twins:  # -1: an input that is left out
            return self.twins.get(t, t)
        tensor = self.tensors[t]
        data = self.model.buffers[tensor.buffer].data
        grid = _grid(tensor)
        if grid is None:
            return t  # axes, shapes
        if data is None or not len(data):
            self.twins[t] = self._new_float(t, DEQUANTIZED)
            operators.append(self._conversion("DEQUANTIZE", t, self.twins[t]))
            return self.twins[t]
        values = self._constant(i, tensor, grid, data)
        self.twins[t] = t if set(self.readers[t]) <= chosen else self._new_float(t)
        twin = self.tensors[self.twins[t]]
        self._become_float(self.twins[t])
        twin.buffer = len(self.model.buffers)
        self.model.buffers.append(schema.BufferT(data=np.frombuffer(values.astype("<f4").tobytes(), np.uint8)))
        return self.twins[t]

    def _constant(self, i: int, tensor: StoredTensor, grid: Grid, data: np.ndarray) -> np.ndarray:
        """The float values of a constant input: the layer's own where it has weights, else what the file's mean."""
        stored = np.frombuffer(bytes(data), "<i4" if tensor.type == schema.TensorType.INT32 else np.int8)
        stored = stored.reshape(shape_of(tensor))
        scale, zero_point = grid
        meant: np.ndarray = ((stored.astype(np.float32) - zero_point) * scale).reshape(stored.shape)
        own = [w for name in self.members.get(self.owners[i], ()) for w in self.weights.get(name, ())]
        if not own:
            return meant
        is_bias = tensor.type == schema.TensorType.INT32
        if is_bias and len(own) == 1:
            return meant  # zeros, which the converter adds to a layer without a bias
        values = own[1] if is_bias else _as_stored(self.names[i], own[0])
        if values.shape != meant.shape or np.any(np.abs(values - meant) > 0.51 * scale + 1e-6 * np.abs(values)):
            raise UserError(f"the file's weights of layer {self.owners[i]} are not the run's; export it again")
        return values

    def _new_float(self, t: int, suffix: str = "_float") -> int:
        """A float tensor of the shape of `t`, named after it."""
        old = self.tensors[t]
        new: StoredTensor = schema.TensorT(
            shape=old.shape,
            type=FLOAT32,
            buffer=0,
            name=old.name + suffix.encode(),
            shapeSignature=old.shapeSignature,
        )
        self.tensors.append(new)
        return len(self.tensors) - 1

    def _become_float(self, t: int) -> None:
        """Makes the tensor `t` itself float."""
        self.tensors[t].type, self.tensors[t].quantization = FLOAT32, None

    def _conversion(self, name: str, source: int, target: int) -> StoredOperator:
        """The operator QUANTIZE or DEQUANTIZE from one tensor to another."""
        builtin = getattr(schema.BuiltinOperator, name)
        if builtin not in self.codes:
            # The first versions that know int8 (tensorflow/lite/tools/versioning/op_version.cc).
            code = schema.OperatorCodeT(
                deprecatedBuiltinCode=builtin, builtinCode=builtin, version=2 if name == "DEQUANTIZE" else 1
            )
            self.codes[builtin] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        made: StoredOperator = schema.OperatorT(
            opcodeIndex=self.codes[builtin],
            inputs=np.array([source], np.int32),
            outputs=np.array([target], np.int32),
        )
        return made

    def _drop_unused_buffers(self) -> None:
        """Empties the buffers of constants that have become float. Their places stay, so that no index changes."""
        used = {tensor.buffer for graph in self.model.subgraphs for tensor in graph.tensors}
        used |= {entry.buffer for entry in self.model.metadata or ()}
        for i, buffer in enumerate(self.model.buffers):
            if i not in used:
                buffer.data = None


def _grid(tensor: StoredTensor) -> Grid | None:
    """The scale and zero point of a tensor in 8 bits, or those of each channel; None of any other tensor."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or quantization.zeroPoint is None:
        return None
    scale, zero_point = (np.array(v, np.float32) for v in (quantization.scale, quantization.zeroPoint))
    if not len(scale):
        return None
    if len(scale) == 1:
        return scale, zero_point
    shape = [-1 if k == quantization.quantizedDimension else 1 for k in range(len(shape_of(tensor)))]
    return scale.reshape(shape), zero_point.reshape(shape)


def _as_stored(operator: str, kernel: np.ndarray) -> np.ndarray:
    """A Keras kernel in the order in which a file has it (TFLite operators: filters are OHWI)."""
    if operator == "DEPTHWISE_CONV_2D":  # [h, w, channels, multiplier] -> [1, h, w, channels * multiplier]
        return kernel.reshape(1, *kernel.shape[:2], -1)
    if kernel.ndim == 2:  # [in, out] -> [out, in]
        return np.ascontiguousarray(kernel.T)
    return np.ascontiguousarray(kernel.transpose(3, 0, 1, 2))
