"""The wire format of protocol buffers: https://protobuf.dev/programming-guides/encoding. No TensorFlow here."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def fields(content: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protocol buffer: number, and an integer, a float or the bytes of a string or message."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        match tag & 7:
            case 0:
                value, at = _varint(content, at)
                yield tag >> 3, value
            case 1:
                yield tag >> 3, struct.unpack_from("<d", content, at)[0]
                at += 8
            case 2:
                length, at = _varint(content, at)
                if at + length > len(content):
                    raise ValueError("cut off")
                yield tag >> 3, content[at : at + length]
                at += length
            case 5:
                yield tag >> 3, struct.unpack_from("<f", content, at)[0]
                at += 4
            case kind:
                raise ValueError(f"wire type {kind}")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if not byte & 128:
            return value, at
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")


def numbers(value: int | float | bytes) -> list[int]:
    """The integers of a repeated field: one, or many that are packed. Raises `ValueError` for a float."""
    if isinstance(value, int):
        return [value]
    if isinstance(value, float):
        raise ValueError("a float in place of integers")
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found
