"""Parallel 1x1 convolutions of Inception as one: does the int8 file get faster?

    python tests/benchmarks/merged_branches.py [googlenet_bn inception_v3 inception_v4] [--rounds 40]

Convolutions of 1x1 that read the same tensor, each with its ReLU, become one whose channels are dealt out again by
slices: the same function (printed: the largest difference, relative to the largest output). Both networks are
quantized after training, with random weights, and timed in turns in one process. Prints Markdown.

It is not part of `lowering`, because it does not pay: the slices copy what one reading less of the input saves, and
the branches get one range instead of one each.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from tfcompact import models
from tfcompact.compress.quantization import calibration, for_xnnpack, lowering, pixel_grid, wrapping
from tfcompact.export import converter
from tfcompact.frameworks import keras
from tfcompact.measure.host import this_device
from tfcompact.models.layers import ChannelSlice
from tfcompact.networks.rewrite import calls, rewrite
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import runtime

L = keras.layers


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
    qat = wrapping.quantized(network)
    calibration.calibrate(qat, network, [images], pixel_grid.on_grid(Normalization()), 99.99)
    return converter.convert(for_xnnpack.shipped(qat), "int8", images[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["googlenet_bn", "inception_v3", "inception_v4"])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    print(f"{this_device().processor}, 1 thread, n = {options.rounds} rounds of 3 runs\n")
    print(
        "| network | px | merged groups | difference | apart, ms | merged, ms | apart / merged, median | p10 to p90 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models:
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
        files = {
            way: runtime.LiteModel(file_of(net, images)) for way, net in (("apart", apart), ("merged", together))
        }
        for file in files.values():
            file.set(file.prepared(pixels[:1]))
            for _ in range(5):
                file.invoke()
        times: dict[str, list[float]] = {way: [] for way in files}
        for turn in range(options.rounds):
            for way in sorted(files, reverse=bool(turn % 2)):
                files[way].invoke()
                samples = []
                for _ in range(3):
                    start = time.perf_counter()
                    files[way].invoke()
                    samples.append(1e3 * (time.perf_counter() - start))
                times[way].append(float(np.median(samples)))
        low, ratio, high = np.percentile(np.array(times["apart"]) / np.array(times["merged"]), (10, 50, 90))
        medians = " | ".join(f"{np.median(times[way]):.2f}" for way in ("apart", "merged"))
        print(f"| {name} | {px} | {groups} | {difference:.1e} | {medians} | {ratio:.3f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
