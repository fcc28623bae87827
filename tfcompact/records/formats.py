"""The kinds of `.tflite` file there are: one table, from which every list of them is made."""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """One kind of file, called by its input's type or, for float16 and dynamic, by its weights'."""

    name: str
    quantized: bool  # made of a quantized network; the others of the float network behind it
    usual: bool  # written unless told otherwise
    rank: int  # its place in lists: what a model's files were made from comes first


# fmt: off
TABLE = (
    Format("uint8",   quantized=True,  usual=True,  rank=5),  # what Android's Task Library takes
    Format("int8",    quantized=True,  usual=True,  rank=4),
    Format("float32", quantized=False, usual=True,  rank=0),
    Format("float16", quantized=False, usual=True,  rank=1),
    Format("dynamic", quantized=False, usual=True,  rank=2),  # float32 in and out; activations rounded as they come
    Format("int16x8", quantized=False, usual=False, rank=3),  # 16-bit activations: XNNPACK runs nothing of it
)
# fmt: on

FORMATS = tuple(format.name for format in TABLE)
USUAL = tuple(format.name for format in TABLE if format.usual)
INTEGER = tuple(format.name for format in TABLE if format.quantized)
LISTED = tuple(format.name for format in sorted(TABLE, key=lambda format: format.rank))
"""How a model's files are listed."""
ORIGINAL = LISTED[0]
"""What a model's other files are compared with."""
