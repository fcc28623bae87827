"""What an operator reads and writes, by the text of its configuration (`tflite.fused_groups`)."""

from __future__ import annotations

import math
import re

import numpy as np

_TENSOR = re.compile(r"(const )?([a-z]+\d+)[/a-z]*\[([\d,]*)\]")


def weight_bytes(configuration: str) -> int:
    """The bytes of an operator's constants: kernel, bias and whatever else the file holds for it."""
    return sum(size for constant, size in _tensors(configuration) if constant)


def activation_bytes(configuration: str) -> int:
    """The bytes of all else that an operator reads or writes."""
    return sum(size for constant, size in _tensors(configuration) if not constant)


def _tensors(configuration: str) -> list[tuple[bool, int]]:
    """Each tensor of the operator: whether it is a constant, and its bytes."""
    return [
        (bool(constant), np.dtype(kind).itemsize * math.prod(int(size) for size in shape.split(",") if size))
        for constant, kind, shape in _TENSOR.findall(configuration)
    ]
