"""Which variants a test builds: the cheapest of every family always, the others with --exhaustive."""

from collections.abc import Callable
from typing import Any

import pytest

from tfcompact import models


def cheapest_first(has: Callable[[models.ModelSpec], bool]) -> list[Any]:
    """The names of all variants for which `has` holds, as parameters; those marked exhaustive are not a family's
    cheapest, or take more than 15 G multiply-adds."""
    rows = [spec for spec in models.specs().values() if has(spec)]
    least: dict[str, models.ModelSpec] = {}
    for spec in rows:
        if spec.family not in least or spec.macs < least[spec.family].macs:
            least[spec.family] = spec
    always = [spec for spec in least.values() if spec.macs < 15e9]
    return [pytest.param(s.name, marks=[] if s in always else [pytest.mark.exhaustive], id=s.name) for s in rows]
