"""Trains a network: from scratch, from published weights, or on from the weights of another run."""

from __future__ import annotations

from dataclasses import dataclass

from tfcompact.errors import UserError
from tfcompact.frameworks import Model
from tfcompact.options import opt, require
from tfcompact.stages.contract import Notes, Stage
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training, training_text


@dataclass(frozen=True)
class Config(Training):
    """Options of `fit`."""

    weights: str | None = opt(
        None,
        "what to start from: imagenet, a run's directory, or a file (.h5, .safetensors, .pth); random unless given",
    )
    squeeze_excite: int = opt(
        0,
        "add squeeze-and-excite gates to every block first, their channels divided by this, 16 in the paper; 0: none",
    )
    width: float = opt(1.0, "share of the channels that every layer has, in (0, 1]; less than 1: random weights")
    fresh: bool = opt(False, "with --parent: random weights in a network of the parent's shape")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.squeeze_excite >= 0, "squeeze_excite", self.squeeze_excite, "0 or more")
        require(0 < self.width <= 1, "width", self.width, "in (0, 1]")
        if self.weights and (self.width < 1 or self.fresh):
            option = "--width" if self.width < 1 else "--fresh"
            raise UserError(f"{option} begins with random weights; leave it or --weights {self.weights} out")


def run(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    """A trained copy of `model`, with the weights of the best validation accuracy, and what became of it.

    Auxiliary heads, which have their weight in the architecture's `aux_weight`, are trained and kept, and so are the
    zeros of a network that was pruned. Raises
    `UserError` where the loss stops being a number, and for gates in a network that has them.
    """
    from tfcompact.compress.channels.narrowing import fresh, narrowed
    from tfcompact.compress.sparsity.masks import kept_zeros, kernels_of
    from tfcompact.networks.squeeze_excite import with_squeeze_excite
    from tfcompact.training import loop
    from tfcompact.training.hooks import AuxiliaryHead
    from tfcompact.training.precision import policy_for, with_precision

    if config.width < 1:
        model = narrowed(model, config.width)
    elif config.fresh:
        model = fresh(model)
    if config.squeeze_excite:
        model = with_squeeze_excite(model, config.squeeze_excite)
    policy = policy_for(config.precision)
    network = with_precision(model, policy)
    heads = [AuxiliaryHead(i, context.spec.aux_weight or 0.0) for i in range(1, len(network.outputs))]
    notes = loop.train(network, config, context, hooks=[*heads, *kept_zeros(kernels_of(network))])
    return with_precision(network, "float32"), notes | {"precision": policy}


def _summary(config: Config) -> str:
    gates = f", squeeze-and-excite gates with reduction {config.squeeze_excite}" if config.squeeze_excite else ""
    start = f", from {config.weights}'s weights" if config.weights else ", random weights" * config.fresh
    narrow = f", {config.width:.0%} of the channels" if config.width < 1 else ""
    return f"{training_text(config)}{start}{narrow}{gates}"


STAGE = Stage(
    config=Config,
    run=run,
    version=1,
    takes=("float",),
    gives="float",
    starts_new=True,
    weights=lambda config: config.weights,
    summary=_summary,
)
