"""A `.tflite` file as a function, and what the runtime makes of it: pieces for XNNPACK, values of inner tensors.

Everything goes through `ai_edge_litert`, which loads in a fraction of a second and is what runs on devices. Files are
those that `export` writes: one image of `[1, px, px, 3]` in, probabilities `[1, classes]` out.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypedDict

import numpy as np
from ai_edge_litert import interpreter as litert

from tfcompact.data.images import normalize
from tfcompact.errors import UserError
from tfcompact.options import require, require_choice
from tfcompact.records.artifact import Normalization, Quantization
from tfcompact.tflite import metadata
from tfcompact.tflite.first_run import RESOLVERS, first_run
from tfcompact.tflite.flatbuffer import Source, described

DELEGATES = {name: litert.OpResolverType[resolver] for name, resolver in RESOLVERS.items()}


class TensorDetail(TypedDict):
    """A tensor, as the runtime describes it."""

    name: str
    index: int
    shape: Sequence[int]
    dtype: type[np.generic]
    quantization: tuple[float, int]


class Node(TypedDict):
    """An operator, as the runtime describes it: `inputs` and `outputs` are indices of tensors."""

    index: int
    op_name: str
    inputs: np.ndarray
    outputs: np.ndarray


class Interpreter(Protocol):
    """A file, loaded by LiteRT, which comes without types: what is used of it."""

    def get_input_details(self) -> list[TensorDetail]: ...
    def get_output_details(self) -> list[TensorDetail]: ...
    def get_tensor_details(self) -> list[TensorDetail]: ...
    def set_tensor(self, index: int, value: np.ndarray) -> None: ...
    def get_tensor(self, index: int) -> np.ndarray: ...
    def allocate_tensors(self) -> None: ...
    def invoke(self) -> None: ...
    def _get_ops_details(self) -> list[Node]: ...


class LiteModel:
    """A loaded file. Safe to share between threads: one runs at a time.

    `delegate` is one of `DELEGATES`. Raises `UserError` where the file is not a classifier's, or the runtime does not
    take it under this delegate.
    """

    def __init__(self, source: Source, *, threads: int = 1, delegate: str = "xnnpack") -> None:
        require(threads >= 1, "threads", threads, "at least 1")
        self._source, self._where = source, described(source)
        self._interpreter = open_interpreter(source, threads, delegate)
        self._lock = threading.Lock()
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shapes = [tuple(int(size) for size in detail["shape"]) for detail in (*inputs, *outputs)]
        match shapes:
            case [(1, height, width, 3), (1, classes)] if height == width:
                self.image_px, self.classes = height, classes
            case _:
                raise UserError(
                    f"{self._where} maps {shapes} instead of one [1, px, px, 3] to one [1, classes]; "
                    "give a classifier exported by tfcompact"
                )
        self.input_dtype, self.output_dtype = np.dtype(inputs[0]["dtype"]), np.dtype(outputs[0]["dtype"])
        if self.input_dtype not in (np.uint8, np.int8, np.float32):
            raise UserError(f"{self._where} takes {self.input_dtype}; only uint8, int8 and float32 files are known")
        self.input_quantization = _quantization(inputs[0])
        self.output_quantization = _quantization(outputs[0])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]

    @cached_property
    def normalization(self) -> Normalization:
        """What the network expects of a pixel, from the file's own metadata. Raises `UserError` where it has none."""
        return metadata.read(self._source).normalization

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 `[n, classes]`, of RGB pixels, uint8 `[n, px, px, 3]`."""
        parts = [
            self.raw(self.prepared(images[i : i + 32])) for i in range(0, len(images), 32)
        ]  # bounds float copies
        return self.dequantized(np.concatenate(parts)) if parts else np.empty((0, self.classes), np.float32)

    def prepared(self, images: np.ndarray) -> np.ndarray:
        """Pixels, uint8 `[n, px, px, 3]`, as this file takes them.

        A uint8 file takes the pixel itself and an int8 file the pixel - 128, because their input's scale and zero
        point already say what a pixel is worth; a float file takes what its metadata's `Normalization` makes of it.
        """
        px = self.image_px
        if images.dtype != np.uint8 or images.shape[1:] != (px, px, 3):
            raise UserError(
                f"{self._where} takes uint8 images of shape (n, {px}, {px}, 3), not {images.dtype} {images.shape}"
            )
        if self.input_dtype == np.uint8:
            return images
        if self.input_dtype == np.int8:
            return (images ^ 0x80).view(np.int8)  # flipping the top bit is subtracting 128
        scaled: np.ndarray = normalize(images.astype(np.float32), self.normalization)
        return scaled

    def raw(self, batch: np.ndarray) -> np.ndarray:
        """The output as the file gives it, `[n, classes]`, of inputs as the file takes them, `[n, px, px, 3]`."""
        if batch.dtype != self.input_dtype:
            raise UserError(f"{self._where} takes {self.input_dtype} input, not {batch.dtype}")
        outputs = np.empty((len(batch), self.classes), self.output_dtype)
        with self._lock:
            for i in range(len(batch)):
                self.set(batch[i : i + 1])
                self.invoke()
                outputs[i] = self._interpreter.get_tensor(self._output)[0]
        return outputs

    def set(self, image: np.ndarray) -> None:
        """Copies one prepared image, `[1, px, px, 3]`, into the input."""
        self._interpreter.set_tensor(self._input, image)

    def invoke(self) -> None:
        """Runs the network once on what `set` left; nothing else happens here, so this is what is timed."""
        self._interpreter.invoke()

    def dequantized(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities, float32, of what `raw` returned."""
        return _dequantized(outputs, self.output_quantization)


@dataclass(frozen=True)
class Partitions:
    """How XNNPACK took a file: in `count` pieces, with `delegated_nodes` of its `total_nodes` operators."""

    count: int
    delegated_nodes: int
    total_nodes: int


def partitions(source: Source, *, threads: int = 1) -> Partitions:
    """What the XNNPACK delegate makes of the file.

    The runtime keeps the replaced nodes in its list and adds one node `DELEGATE` for each piece. A piece consists of
    the nodes passed on the way back from its outputs to its inputs, which is how they are counted here.
    """
    nodes = open_interpreter(source, threads, "xnnpack")._get_ops_details()
    pieces = [node for node in nodes if node["op_name"] == "DELEGATE"]
    originals = [node for node in nodes if node["op_name"] != "DELEGATE"]
    producer = {int(tensor): node["index"] for node in originals for tensor in node["outputs"]}
    inputs_of = {node["index"]: node["inputs"] for node in originals}
    delegated: set[int] = set()
    for piece in pieces:
        given = {int(tensor) for tensor in piece["inputs"]}
        open_ends = [int(tensor) for tensor in piece["outputs"]]
        while open_ends:
            tensor = open_ends.pop()
            if tensor in given or tensor not in producer or producer[tensor] in delegated:
                continue
            delegated.add(producer[tensor])
            open_ends.extend(int(tensor) for tensor in inputs_of[producer[tensor]])
    return Partitions(len(pieces), len(delegated), len(originals))


def tensor_values(source: Source, images: np.ndarray, *, delegate: str = "reference") -> dict[str, np.ndarray]:
    """What every operator of the file put out: name -> float32 `[n, ...]`, dequantized, in order of execution.

    `images` are uint8 `[n, px, px, 3]`; all values of all of them are held in memory, so give a few. `delegate` is
    `reference` or `builtin`: what XNNPACK computes on its way cannot be seen.
    """
    if delegate == "xnnpack":
        raise UserError("XNNPACK keeps its intermediate values to itself; use delegate reference or builtin")
    prepared = LiteModel(source, delegate=delegate).prepared(images)
    interpreter = open_interpreter(source, 1, delegate, preserve=True)
    (feed,) = interpreter.get_input_details()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    produced = [int(t) for node in interpreter._get_ops_details() for t in node["outputs"] if int(t) in details]
    values: dict[str, list[np.ndarray]] = {}
    for image in prepared:
        interpreter.set_tensor(feed["index"], image[np.newaxis])
        interpreter.invoke()
        for index in produced:
            value = _dequantized(interpreter.get_tensor(index), _quantization(details[index]))
            values.setdefault(details[index]["name"], []).append(value)
    return {name: np.concatenate(each) for name, each in values.items()}


def open_interpreter(source: Source, threads: int, delegate: str, *, preserve: bool = False) -> Interpreter:
    """The file loaded under one of `DELEGATES`; with `preserve` it keeps the values of all tensors.

    A file given by its path is tried in another process first (`first_run`); bytes are taken for this process' own.
    Raises `UserError` where the runtime does not take it.
    """
    require_choice("delegate", delegate, DELEGATES)
    if not isinstance(source, bytes):
        first_run(source, threads=threads, delegate=delegate)
    content = {"model_content": source} if isinstance(source, bytes) else {"model_path": str(source)}
    try:
        interpreter: Interpreter = litert.Interpreter(
            **content,
            num_threads=threads,
            experimental_op_resolver_type=DELEGATES[delegate],
            experimental_preserve_all_tensors=preserve,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{described(source)} cannot be run with delegate {delegate} ({reason}); export it again"
        ) from None
    return interpreter


def _quantization(detail: TensorDetail) -> Quantization | None:
    """The quantization of a tensor with a single scale; None of a float tensor, or one with a scale per channel."""
    scale, zero_point = detail["quantization"]
    return Quantization(float(scale), int(zero_point)) if scale else None


def _dequantized(values: np.ndarray, quantization: Quantization | None) -> np.ndarray:
    """The real numbers that `values` stand for, float32."""
    if quantization is None:
        return values.astype(np.float32)
    return (values.astype(np.float32) - quantization.zero_point) * np.float32(quantization.scale)
