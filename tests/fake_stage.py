"""A stage that tfcompact does not know: it trains a masked copy of a network from two seeds, and keeps the better.

It uses everything that the contract offers: options, parts, hooks, another run, prices. `tests/test_fake_stage.py`
takes it through every face.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from tfcompact import stages
from tfcompact.options import opt
from tfcompact.stages.contract import Entry, Notes, Stage
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training

ENTRY = Entry("mask", "Train with half of the weights of one layer held at zero", "fake_stage")


@dataclass(frozen=True)
class Config(Training):
    """Options of `mask`."""

    layer: str = opt("stem", "the layer whose smallest weights are held at zero")
    teacher: str | None = opt(None, "a finished run to compare with, e.g. inception_v3/fit-3f9a10c2")


def run(model: Any, config: Config, context: Context) -> tuple[Any, Notes]:
    """The better of two masked copies of `model`, and how good both were."""
    from tfcompact.networks.rewrite import clone
    from tfcompact.training import loop
    from tfcompact.training.hooks import AuxiliaryHead, Hook

    class Mask(Hook):
        def __init__(self, kernel: Any) -> None:
            values = abs(kernel.numpy())
            self.kernel, self.mask = kernel, (values > sorted(values.ravel())[values.size // 2]).astype("float32")

        def project(self, variable: Any, value: Any) -> Any:
            return value * self.mask if variable is self.kernel else None

    trained, notes = [], {}
    for seed in range(2):
        part = context.part(f"seed-{seed}", seed=context.seed + seed)
        copy = clone(model)
        heads = [AuxiliaryHead(i, 0.3) for i in range(1, len(copy.outputs))]
        mask = Mask(copy.get_layer(config.layer).trainable_weights[0])
        found = loop.train(copy, config, part, hooks=[*heads, mask])
        notes[f"seed-{seed}"] = found["validation_accuracy"]
        trained.append((found["validation_accuracy"], -seed, copy))
    if config.teacher:
        teacher = context.load(config.teacher)
        notes["teacher"] = [teacher.run, teacher.px, list(teacher.classes)]
    best = max(trained, key=lambda each: each[:2])
    return best[2], notes | {"validation_accuracy": best[0]}


STAGE = Stage(
    config=Config,
    run=run,
    version=1,
    takes=("float",),
    gives="float",
    loads=lambda config: (config.teacher,) if config.teacher else (),
    summary=lambda config: f"half of {config.layer} held at zero",
)


def install() -> None:
    """Adds the line to the table of stages, as a file of tfcompact would have it."""
    stages.STAGES = (*stages.STAGES, ENTRY)


if __name__ == "__main__":  # the command line with this stage in it, for tests that kill a process
    from tfcompact.cli.main import main

    install()
    sys.exit(main(sys.argv[1:]))
