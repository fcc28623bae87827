"""The arrays of an HDF5 file, which may point out of it, or promise more than there is."""

from __future__ import annotations

from pathlib import Path

import h5py  # type: ignore[import-untyped]

from tfcompact.errors import UserError


def check_arrays(path: Path, file: h5py.File) -> int:
    """The numbers that the arrays of a file hold. Raises `UserError` for links out of it or back, and for arrays that
    are not wholly in it."""
    numbers = size = 0
    waiting, seen = [file["/"]], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            member = group[name] if isinstance(link, h5py.HardLink) else None
            address = h5py.h5o.get_info(member.id).addr if member is not None else None
            if member is None or address in seen:
                raise UserError(f"{path} has a link in the place of weights ({name:.60}); it was not loaded")
            seen.add(address)
            if isinstance(member, h5py.Group):
                waiting.append(member)
                continue
            if member.external or member.is_virtual or member.dtype.kind not in "fiu":
                raise UserError(
                    f"{path} has weights that are not numbers in the file ({name:.60}); it was not loaded"
                )
            numbers += member.size
            size += member.size * member.dtype.itemsize
    if size > path.stat().st_size:
        raise UserError(f"{path} declares {size:,} bytes of weights and is shorter than that; it was not loaded")
    return numbers
