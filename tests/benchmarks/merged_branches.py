"""Parallel 1x1 convolutions of Inception as one: does the int8 file get faster?

    python tests/benchmarks/merged_branches.py [--networks googlenet_bn …] [--rounds 40]

Convolutions of 1x1 that read the same tensor, each with its ReLU, become one whose channels are dealt out again by
slices: the same function (printed: the largest difference, relative to the largest output). Both networks are
quantized after training, with random weights, and timed in turns in one process. Prints Markdown.

It is not part of `lowering`, because it does not pay: the slices copy what one reading less of the input saves, and
the branches get one range instead of one each.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording

from tfcompact import models
from tfcompact.compress.quantization import calibration, for_xnnpack, lowering, pixel_grid, wrapping
from tfcompact.export import converter
from tfcompact.frameworks import keras
from tfcompact.models.layers import ChannelSlice
from tfcompact.networks.rewrite import calls, rewrite
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import runtime

L = keras.layers
NETWORKS = ("googlenet_bn", "inception_v3", "inception_v4")


def merged(model: Any) -> tuple[Any, int]:
    """A lowered network with its parallel 1x1 convolutions merged, and how many groups of them there were."""
    rows = {layer.name: (layer, sources, readers) for layer, sources, readers in calls(model)}
    groups: dict[tuple[str, Any], list[tuple[Any, Any]]] = {}
    for layer, sources, readers in rows.values():
        plain = type(layer) is L.Conv2D and layer.kernel_size == layer.strides == (1, 1) and layer.groups == 1
        if plain and len(readers) == 1 and isinstance(rows[readers[0]][0], L.ReLU):
            relu = rows[readers[0]][0]
            groups.setdefault((sources[0], relu.max_value), []).append((layer, relu))
    groups = {key: group for key, group in groups.items() if len(group) > 1}
    of_convolution = {layer.name for group in groups.values() for layer, _ in group}
    of_relu = {relu.name: group for group in groups.values() for _, relu in group}
    made: dict[str, Any] = {}

    def rule(layer: Any, x: Any) -> Any:
        if layer.name in of_convolution:
            return x
        if layer.name not in of_relu:
            return None
        group = of_relu[layer.name]
        first = group[0][0].name
        if first not in made:
            kernels, biases = zip(*(convolution.get_weights() for convolution, _ in group), strict=True)
            whole = L.Conv2D(sum(len(bias) for bias in biases), 1, name=f"{first}_merged")
            out = whole(x)
            whole.set_weights([np.concatenate(kernels, -1), np.concatenate(biases)])
            made[first] = L.ReLU(layer.max_value, name=f"{first}_merged_relu")(out)
        before = [convolution.filters for convolution, _ in group]
        place = [relu.name for _, relu in group].index(layer.name)
        return ChannelSlice(sum(before[:place]), before[place], name=layer.name)(made[first])

    return rewrite(model, rule), len(groups)


def file_of(network: Any, images: np.ndarray) -> bytes:
    """The int8 file of a network after training."""
    qat = wrapping.quantized(network)
    calibration.calibrate(qat, network, [images], pixel_grid.on_grid(Normalization()), 99.99)
    return converter.convert(for_xnnpack.shipped(qat), "int8", images[:4])


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_selection("--networks", default=NETWORKS)
    arguments.add_argument("--rounds", type=int, default=40)
    options = arguments.parse_args()
    rows = []
    for name in options.networks:
        with recording(arguments.call(options), name, flag="--networks", threads=1) as book:
            rows.append(book.add(network=name, **compared(name, options.rounds)))
    print(tables.markdown(tables.of("merged_branches"), rows))


def compared(name: str, rounds: int) -> dict[str, Any]:
    """What merging does to a network's outputs and to its latency, in turns of both files."""
    px = models.spec(name).image_px
    pixels = np.random.default_rng(0).integers(0, 256, (8, px, px, 3)).astype(np.uint8)
    images = ((pixels - 128.0) / 127.5).astype(np.float32)
    model = models.build(name, px=px)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0  # the statistics of these images
    model(images, training=True)
    apart = lowering.lower(model)
    together, groups = merged(apart)
    expected = apart(images[:2]).numpy()
    difference = np.abs(together(images[:2]).numpy() - expected).max() / np.abs(expected).max()
    files = {way: runtime.LiteModel(file_of(net, images)) for way, net in (("apart", apart), ("merged", together))}
    for file in files.values():
        file.set(file.prepared(pixels[:1]))
        for _ in range(5):
            file.invoke()
    times: dict[str, list[float]] = {way: [] for way in files}
    for turn in range(rounds):
        for way in sorted(files, reverse=bool(turn % 2)):
            files[way].invoke()
            samples = []
            for _ in range(3):
                start = time.perf_counter()
                files[way].invoke()
                samples.append(1e3 * (time.perf_counter() - start))
            times[way].append(float(np.median(samples)))
    low, ratio, high = np.percentile(np.array(times["apart"]) / np.array(times["merged"]), (10, 50, 90))
    return {
        "px": px,
        "groups": groups,
        "difference": float(difference),
        **{f"{way}_ms": float(np.median(times[way])) for way in files},
        "ratio": float(ratio),
        "ratio_p10": float(low),
        "ratio_p90": float(high),
        "rounds": rounds,
    }


if __name__ == "__main__":
    sys.exit(main())
