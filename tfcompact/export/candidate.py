"""A Keras network, never trained, as the int8 file it would become: what it costs to run does not depend on weights.

This is how a search prices a candidate: `Table.predict(int8_file(model))`, with a table of `latency.cost_table`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tfcompact import files, models
from tfcompact.compress.quantization.pixel_grid import INPUT, SIGMOID, image_range, on_grid
from tfcompact.errors import UserError
from tfcompact.export import converter
from tfcompact.frameworks import Model, keras
from tfcompact.models.architecture import Architecture, build
from tfcompact.records.artifact import Normalization

RANGE = 6.0
"""About where the ranges of activations end. No two are equal, so that values are rescaled where they are in a
trained network's file, and none is far from another: XNNPACK takes no addition of scales far apart, as those of
random networks may be."""


def int8_file(model: Model) -> bytes:
    """The int8 `.tflite` content of a float Keras network (image `[n, px, px, 3]` -> logits `[n, classes]`).

    Its operators are those of the file that `quantize` and `export` make of the trained network; its answers mean
    nothing. The model is not changed. Raises `UserError` for a layer that has no 8-bit form.
    """
    from tfcompact.compress.quantization.calibration import set_ranges
    from tfcompact.compress.quantization.for_xnnpack import shipped
    from tfcompact.compress.quantization.plan import rounding_plan
    from tfcompact.compress.quantization.prepare import prepare
    from tfcompact.compress.quantization.rounded_layers import exact_weights, rounded_layers
    from tfcompact.models.layers import ChannelShift

    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (1, *model.input_shape[1:])).astype(np.float32)
    parent, qat, _ = prepare(model, [noise])
    ranges = {INPUT: image_range(on_grid(Normalization()))}
    plan = rounding_plan(parent).outputs  # layer -> whose range it has
    sources = {name: i for i, name in enumerate(dict.fromkeys(plan.values()))}
    for name, by in plan.items():
        end = RANGE * (1 + sources[by] / 1024)
        is_sigmoid = isinstance(parent.get_layer(by), keras.layers.Activation)
        ranges[name] = SIGMOID if is_sigmoid else (-end, end)
    set_ranges(qat, ranges)
    for layer in rounded_layers(qat):
        added = exact_weights(layer)[0 if isinstance(layer.layer, ChannelShift) else 1 :]
        for numbers in added:  # the converter drops an addition of zeros, which a trained network has not
            numbers.assign(rng.normal(0, 0.1, numbers.shape))
    calibration = np.zeros((1, *model.input_shape[1:]), np.float32)
    return converter.convert(shipped(qat), "int8", calibration)


def networks(
    names: Sequence[str],
    architectures: Sequence[Architecture] = (),
    *,
    px: int | None = None,
    classes: int | None = None,
    widths: int = 0,
    kept: Path | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Name and file content of each: a `.tflite` file as it is, anything else as `int8_file` of it.

    `names` are files and architectures of `models`, the latter built for `px` and `classes`, if given, and then with
    `widths` other widths of their layers, drawn at random, from which those between are found. Files made are kept in
    the directory `kept`, if given, and not made again. Raises `UserError`, before any is built, for a name that is
    neither.
    """
    for name in names:
        if not name.endswith(".tflite"):
            models.spec(name)
        elif not Path(name).is_file():
            raise UserError(f"there is no file {name}; give a .tflite file or the name of an architecture")
    return _files(names, architectures, px, classes, widths, kept)


def _files(
    names: Sequence[str],
    architectures: Sequence[Architecture],
    px: int | None,
    classes: int | None,
    widths: int,
    kept: Path | None,
) -> Iterator[tuple[str, bytes]]:
    """What `networks` says, of names that were looked at."""
    for name in names:
        if name.endswith(".tflite"):
            yield name, Path(name).read_bytes()
            continue
        row = models.spec(name)
        key = f"{name}-{px or row.image_px}px-{classes or row.classes}"
        yield key, keeping(kept, key, partial(_of_model, name, px, classes))
        for number in range(1, widths + 1):
            other = f"{key}-widths{number}"
            yield other, keeping(kept, other, partial(_of_model, name, px, classes, number))
    for i, architecture in enumerate(architectures, 1):
        text = json.dumps(architecture.to_json(), sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        content = keeping(kept, key, partial(_of_architecture, architecture))
        yield f"network {i} of {len(architectures)}, {key}", content


def keeping(directory: Path | None, name: str, make: Callable[[], bytes]) -> bytes:
    """`make()`, kept as `<directory>/<name>.tflite`; read from there where it was made before."""
    if directory is None:
        return make()
    path = directory / f"{name}.tflite"
    if path.exists():
        return path.read_bytes()
    content = make()
    directory.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, content)
    return content


def _of_model(name: str, px: int | None, classes: int | None, widths: int = 0) -> bytes:
    """The file of an architecture of the zoo; with `widths`, of the so-many-th drawing of other widths."""
    from tfcompact.compress.channels.narrowing import of_random_widths

    model = models.build(name, px=px, classes=classes)
    if widths:  # in turns by multiples of 8 and of 16: what is left over a kernel's step has a cost of its own
        model = of_random_widths(model, random.Random(widths), step=8 if widths % 2 else 16)
    return int8_file(model)


def _of_architecture(architecture: Architecture) -> bytes:
    """The file of a member of a search space."""
    return int8_file(build(architecture))
