"""TensorFlow Lite Support's metadata schema as slot numbers, with a writer and a reader of tables by slot.

The numbers are those of version 0.4.4 (schema 1.5.0), where a field's slot is its place in its table and a union
takes two, its type and its value:
https://github.com/tensorflow/tflite-support/blob/v0.4.4/tensorflow_lite_support/metadata/metadata_schema.fbs
They never change: new fields go to the end, by the format's own rule. The code generated from that schema comes only
in packages that cannot be installed beside a current TensorFlow.
"""

from __future__ import annotations

import struct

import flatbuffers
import flatbuffers.number_types
import flatbuffers.table
import numpy as np


class Model:  # table ModelMetadata
    NAME, DESCRIPTION, VERSION, SUBGRAPHS, AUTHOR, LICENSE, FILES, PARSER_VERSION = range(8)


class Subgraph:  # table SubGraphMetadata
    INPUTS, OUTPUTS = 2, 3


class Tensor:  # table TensorMetadata
    NAME, DESCRIPTION, DIMENSIONS, CONTENT, PROCESS_UNITS, STATS, FILES = range(7)


class Content:  # table Content, union ContentProperties
    TYPE, VALUE = 0, 1
    FEATURE, IMAGE = 1, 2


class Image:  # table ImageProperties, enum ColorSpaceType
    COLOR_SPACE = 0
    UNKNOWN, RGB = 0, 1


class ProcessUnit:  # table ProcessUnit, union ProcessUnitOptions
    TYPE, OPTIONS = 0, 1
    NORMALIZATION = 1


class Options:  # table NormalizationOptions
    MEAN, STD = 0, 1


class Stats:  # table Stats
    MAX, MIN = 0, 1


class File:  # table AssociatedFile, enum AssociatedFileType
    NAME, DESCRIPTION, TYPE = 0, 1, 2
    OTHER, AXIS_LABELS = 0, 2


class Byte(int):
    """A number that goes into a one-byte slot."""


def write(builder: flatbuffers.Builder, value: object) -> int:
    """The offset of a string, a list of floats, a table `{slot: value}` or a list of tables, which it writes.

    A flatbuffer grows from its end, so whatever a table points to is written before the table.
    """
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, list) and isinstance(value[0], float):
        return int(builder.CreateNumpyVector(np.array(value, np.float32)))
    if isinstance(value, list):
        offsets = [write(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    if not isinstance(value, dict):
        raise TypeError(f"a table is a dict by slot, not {value!r}")
    ready = {slot: child if isinstance(child, Byte) else write(builder, child) for slot, child in value.items()}
    builder.StartObject(max(ready, default=-1) + 1)
    for slot, child in ready.items():
        if isinstance(value[slot], Byte):
            builder.PrependUint8Slot(slot, child, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, child, 0)
    return int(builder.EndObject())


class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that puts byte vectors, which hold the weights, at multiples of 16 (`force_align` in the schema)."""

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        """The offset of the vector, which it writes."""
        if x.dtype != np.uint8:
            return int(super().CreateNumpyVector(x))
        self.StartVector(1, x.size, 16)
        self.head = self.Head() - x.size
        self.Bytes[self.Head() : self.Head() + x.size] = x.tobytes()
        return int(self.EndVector())


class Table(flatbuffers.table.Table):  # type: ignore[misc]
    """A table read by slot. An absent string is empty, as an absent byte is 0; anything else absent is damage."""

    @classmethod
    def root(cls, content: bytes) -> Table:
        """The outermost table of a flatbuffer."""
        return cls(content, int(struct.unpack_from("<I", content)[0]))

    def text(self, slot: int) -> str:
        """The string in a slot; empty where there is none."""
        at = self._at(slot)
        return self.String(at).decode() if at else ""

    def byte(self, slot: int) -> int:
        """The number in a one-byte slot; 0 where there is none."""
        at = self._at(slot)
        return int(self.Get(flatbuffers.number_types.Uint8Flags, at)) if at else 0

    def floats(self, slot: int) -> tuple[float, ...]:
        """The numbers in a slot."""
        start, length = self._vector(slot)
        return struct.unpack_from(f"<{length}f", self.Bytes, start)

    def table(self, slot: int) -> Table:
        """The table in a slot."""
        return Table(self.Bytes, self.Indirect(self._required(slot)))

    def tables(self, slot: int) -> list[Table]:
        """The tables in a slot."""
        start, length = self._vector(slot)
        return [Table(self.Bytes, self.Indirect(start + 4 * i)) for i in range(length)]

    def _vector(self, slot: int) -> tuple[int, int]:
        """Where the elements of the vector in a slot begin, and how many there are."""
        relative = self._required(slot) - self.Pos
        start, length = self.Vector(relative), self.VectorLen(relative)
        if start + 4 * length > len(self.Bytes):
            raise ValueError(f"a vector of {length} elements in {len(self.Bytes)} bytes")
        return int(start), int(length)

    def _required(self, slot: int) -> int:
        """Where the content of a slot lies. Raises `ValueError` where it has none."""
        at = self._at(slot)
        if not at:
            raise ValueError(f"slot {slot} is missing")
        return at

    def _at(self, slot: int) -> int:
        """Where the content of a slot lies; 0 where it has none."""
        relative = self.Offset(4 + 2 * slot)
        return int(self.Pos + relative) if relative else 0
