"""What making a network smaller takes before anything is trained: seconds and memory.

    python tests/benchmarks/compression_cost.py [--parts groups decompose memory]

`groups`: the walk that finds coupled channels, the choice and the smaller network, for the cheapest and the largest
variant of every family, in processor time and beside the time that building the network itself takes. `decompose`:
Inception V3 at 299 px with second moments of 64 images. `memory`: how much more a process takes at most than one that
gives the network the same images once, for the passes that read activations.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact import models
from tfcompact.compress.channels.atoms import channels
from tfcompact.compress.channels.importance import importance
from tfcompact.compress.channels.selection import chosen
from tfcompact.compress.channels.slicing import smaller
from tfcompact.compress.decomposition import ranks, split_layers
from tfcompact.compress.decomposition.factors import Roots
from tfcompact.compress.sparsity import energy
from tfcompact.compress.sparsity.masks import maskable
from tfcompact.errors import UserError
from tfcompact.networks import rewrite

PARTS = ("groups", "decompose", "memory")
PASSES = ("once", "moments", "energy")
MEMORY_NETWORKS = ("inception_v3", "densenet_121", "mobilenet_v2")
IMAGES, BATCH = 64, 8


def variants() -> list[str]:
    """The cheapest and the largest network of every family."""
    found: dict[str, list[Any]] = {}
    for spec in models.specs().values():
        found.setdefault(spec.family, []).append(spec)
    ends = [(min(rows, key=lambda s: s.macs), max(rows, key=lambda s: s.params)) for rows in found.values()]
    return list(dict.fromkeys(spec.name for pair in ends for spec in pair))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and the processor time it took."""
    started = time.process_time()
    return work(), time.process_time() - started


def groups(book: Book) -> None:
    """Seconds to find the groups and to build half of each network."""
    for name in variants():
        spec = models.spec(name)
        model, build_s = timed(lambda spec=spec: models.built(spec, px=max(64, spec.min_px), classes=10, aux=True))
        structure, walk_s = timed(lambda model=model: channels(model))

        def halved(model: Any = model, structure: Any = structure) -> Any:
            scores = importance(model, structure, "l2")
            gone, _ = chosen(structure, scores, cost="macs", share=0.5, cap=0.8, multiple=1)
            return smaller(model, structure, gone)

        try:
            _, halve_s = timed(halved)
        except UserError:  # channels that hang together
            halve_s = None
        beyond = None if halve_s is None else walk_s + halve_s - build_s
        book.add("groups", network=name, build_s=build_s, walk_s=walk_s, halve_s=halve_s, beyond_s=beyond)


def batches(px: int) -> Iterator[np.ndarray]:
    """Normalized images of noise."""
    rng = np.random.default_rng(0)
    for _ in range(IMAGES // BATCH):
        yield rng.uniform(-1, 1, (BATCH, px, px, 3)).astype(np.float32)


def decompose(book: Book) -> None:
    """Seconds to split Inception V3 to 70 % of its multiply-adds."""
    model = models.build("inception_v3", px=299, classes=1000)
    layers = split_layers.splittable(model)
    moments, moments_s = timed(lambda: split_layers.second_moments(model, layers, batches(299)))
    roots = {name: Roots.of(value) for name, value in moments.items()}
    started, wall = time.process_time(), time.monotonic()
    kinds = {layer.name: split_layers.kind_of(layer, "tucker", True) for layer in layers}
    ladders = {
        layer.name: split_layers.ladder(layer, kinds[layer.name] or "", roots[layer.name], cost="macs", multiple=16)
        for layer in layers
    }
    costs = {layer.name: split_layers.layer_cost(layer, "macs") for layer in layers}
    total = float(rewrite.cost(rewrite.inference(model)).macs)
    found = ranks.to_cost({name: rungs for name, rungs in ladders.items() if rungs}, costs, total, 0.7)
    network = split_layers.split(model, found, roots)
    book.add(
        "decompose",
        network="inception_v3",
        layers=len(found),
        moments_s=moments_s,
        cpu_s=time.process_time() - started,
        seconds=time.monotonic() - wall,
        left=rewrite.cost(rewrite.inference(network)).macs / total,
    )


def work(name: str, what: str) -> None:
    """One pass, in a process of its own; prints its peak of memory in MB."""
    spec = models.spec(name)
    px = max(96, spec.min_px)
    model = models.built(spec, px=px, classes=10)
    if what == "once":
        for images in batches(px):
            model(images, training=False)
    elif what == "moments":
        split_layers.second_moments(model, split_layers.splittable(model), batches(px))
    else:
        names = [layer.name for layer in maskable(model)]
        widest = sorted(names, key=lambda each: -int(np.prod(model.get_layer(each).kernel.shape[:-1])))[:2]
        refit = energy.Refit(model, rewrite.clone(model), widest, lambda: batches(px), 0)
        for each in widest:
            refit.prune(each, 0.75)
    # Not getrusage's: what a parent took before it started this process counts in it.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    print(json.dumps({"peak_mb": int(peak[1]) / 1024}))


def memory(book: Book) -> None:
    """The peak of each pass, and how far it is above that of a process that reads the images once."""
    for name in MEMORY_NETWORKS:
        peaks = {}
        for what in PASSES:
            command = [sys.executable, __file__, "--work", name, what]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[what] = json.loads(said.splitlines()[-1])["peak_mb"]
        widest = max(int(np.prod(layer.kernel.shape[:-1])) for layer in maskable(models.build(name, classes=10)))
        more = {f"{what}_more_mb": peaks[what] - peaks["once"] for what in PASSES[1:]}
        book.add("memory", network=name, once_mb=peaks["once"], **more, widest=widest)


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:4])
        return
    arguments = Arguments(__file__, __doc__)
    arguments.add_selection("--parts", choices=PARTS, default=PARTS)
    options = arguments.parse_args()
    for part in options.parts:
        with recording(arguments.call(options), part, flag="--parts") as book:
            {"groups": groups, "decompose": decompose, "memory": memory}[part](book)
        print(f"\n{tables.markdown(tables.of('compression_cost', part), book.tables[part])}")


if __name__ == "__main__":
    main()
