"""Each network that torchvision or timm has, with a state dict of theirs with random weights: the same logits.

The other implementation runs in an environment of its own (tests/torch_reference/environment.py).
"""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch_reference import environment
from variants import cheapest_first

from tfcompact import models
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.weights import transfer

HERE = Path(__file__).parent / "torch_reference"
LARGE = 1e9  # multiply-adds; above, an image of fewer pixels is compared, or 64 bits take minutes and gigabytes


def _marks(name: str, marks: Any) -> list[Any]:
    """The marks of a row; a network that keras.applications has too (test_applications.py) is exhaustive here."""
    return [*marks, pytest.mark.exhaustive] if models.spec(name).keras is not None else list(marks)


SOURCES = [
    pytest.param(name, source, id=f"{name}-{source.library}", marks=_marks(name, marks))
    for library in ("torchvision", "timm")
    for (name,), marks in (
        (row.values, row.marks)
        for row in cheapest_first(lambda spec, library=library: any(s.library == library for s in spec.torch))
    )
    for source in models.spec(name).torch
    if source.library == library
]


def compared_px(spec: models.ModelSpec) -> int:
    """The side of the images compared. For a large network the smallest one, from 128 px up, that leaves the same
    remainder by 32 as the published one: it is even and odd in the same strided layers, so padding is the same."""
    if spec.macs <= LARGE:
        return spec.image_px
    least = max(128, spec.min_px)
    return least + (spec.image_px - least) % 32


@pytest.fixture(scope="module")
def python() -> Path:
    if reason := environment.hindrance():
        pytest.skip(reason)
    return environment.python()


def state_of(python: Path, source, px: int, classes: int, folder: Path):
    """The state dict, images and logits of the other library's network."""
    command = [python, HERE / "dump.py", source.library, source.model, str(px), str(classes), folder]
    subprocess.run(command, check=True, capture_output=True)
    io = np.load(folder / "io.npz")
    return load_file(folder / "state.safetensors"), io["images"], io["logits"]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("name", "source"), SOURCES)
def test_logits_are_those_of_the_other_library(
    name: str, source, python: Path, tmp_path: Path, record_property
) -> None:
    keras.backend.clear_session()
    spec = models.spec(name)
    px = compared_px(spec)
    state, images, logits = state_of(python, source, px, spec.classes, tmp_path)
    keras.backend.set_floatx("float64")  # in 32 bits, rounding alone grows to 1e-3 in deep networks
    try:
        found = transfer.from_torch(models.build(name, px=px, classes=spec.classes), state, source)(images).numpy()
    finally:
        keras.backend.set_floatx("float32")
    spread = float(logits.std())
    difference = float(np.abs(found - logits).max())
    print(f"{name}, {source.library}/{source.model}, {px} px: difference {difference:.1e}, deviation {spread:.2f}")
    for key, value in (("network", name), ("px", px), ("difference", difference)):
        record_property(key, value)  # for tests/benchmarks/references.py
    assert spread > 0.1, "logits too alike to tell anything"
    assert np.abs(logits[0] - logits[1]).max() > 0.05, "logits that do not depend on the image"
    assert difference <= 1e-8


def test_a_missing_key_is_named() -> None:
    source = models.spec("mobilenet_v2").torch[0]
    with pytest.raises(UserError, match=r"layer stem needs 'features.0.0.weight'"):
        transfer.from_torch(models.build("mobilenet_v2", px=32), {}, source)
