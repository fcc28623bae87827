"""Files with a few bytes changed, for tests that read what nobody wrote."""

from __future__ import annotations

import random

HEAD = 64  # bytes at the beginning, where formats say what follows
VALUES = (0, 1, 2**31 - 1, 2**32 - 1, 2**40)


def mutated(content: bytes, numbers: random.Random) -> bytes:
    """The file with some bytes, or numbers, that are others, or with a part left out or there twice.

    Nearly half of the changes are at the beginning.
    """
    result, kind = bytearray(content), numbers.randrange(4)
    for _ in range(numbers.choice((1, 2, 8))):
        reach = HEAD if numbers.random() < 0.4 else len(result)
        at = numbers.randrange(max(1, min(reach, len(result) - 8)))
        length = numbers.randrange(64 if numbers.random() < 0.8 else max(1, len(result)))
        if kind == 0:
            result[at] = numbers.randrange(256)
        elif kind == 1:
            size = numbers.choice((4, 8))
            at = at // size * size if numbers.random() < 0.5 else at
            value = numbers.choice((*VALUES, len(result))) % 256**size
            result[at : at + size] = value.to_bytes(size, numbers.choice(("little", "big")))
        elif kind == 2:
            result[at:at] = result[at : at + length]
        else:
            del result[at + 1 : at + 1 + length]
    return bytes(result)
