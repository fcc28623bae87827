"""Tensor decomposition: convolutions and dense layers as several that cost less together, fine-tuned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfcompact.data.images import normalize
from tfcompact.errors import UserError
from tfcompact.frameworks import Model
from tfcompact.options import opt, require, require_choice
from tfcompact.stages.contract import Notes, Stage
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Tuning, training_text

WINDOWS = ("tucker", "spatial", "cp", "none")
RANKS = ("cost", "energy", "evbmf")
COSTS = ("macs", "params", "table")
MOMENT_BATCH = 8  # images whose activations before every layer are held at once


@dataclass(frozen=True)
class Config(Tuning):
    """Options of `decompose`."""

    windows: str = opt("tucker", "what convolutions of more than 1x1 become: tucker, spatial (SVD), cp or none")
    pointwise: bool = opt(True, "split 1x1 convolutions and dense layers by SVD")
    ranks: str = opt("cost", "how ranks are chosen: cost (to a share of it), energy (a share kept) or evbmf (noise)")
    keep: float = opt(0.7, "cost: share of the cost that is left, in (0, 1)")
    cost: str = opt("macs", "what a split must lower: macs, params, or table (a latency table's cost; --table)")
    energy: float = opt(0.95, "energy: share of each layer's output energy that is kept, in (0, 1)")
    multiple: int = opt(16, "ranks are multiples of this; 16 is a step of ARM64's int8 kernels")
    moment_images: int = opt(256, "training images whose activations decide what is lost; 0 to judge kernels alone")
    learning_rate: float = opt(1e-4, "peak learning rate: reached linearly from 0, then falling as a cosine to 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("way for windows", self.windows, WINDOWS)
        require_choice("way to choose ranks", self.ranks, RANKS)
        require_choice("cost", self.cost, COSTS)
        for name in ("keep", "energy"):
            require(0 < getattr(self, name) < 1, name, getattr(self, name), "in (0, 1)")
        require(self.multiple >= 1, "multiple", self.multiple, "1 or more")
        require(self.moment_images >= 0, "moment_images", self.moment_images, "0 or more")
        require(self.pointwise or self.windows != "none", "windows", self.windows, "something where pointwise is off")


def run(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    """A copy of `model` with layers in factors, fine-tuned, and which they are.

    Depthwise convolutions, grouped ones and the one that sees the image are left alone. Raises `UserError` where no
    split lowers the cost, for a share that cannot be reached, and for a network that was pruned to zeros.
    """
    from tfcompact.compress.decomposition import ranks
    from tfcompact.compress.decomposition import split_layers as splits
    from tfcompact.compress.decomposition.factors import Roots
    from tfcompact.compress.distillation.teachers import of_a_tuning
    from tfcompact.compress.sparsity.masks import kept_zeros, kernels_of
    from tfcompact.networks import rewrite
    from tfcompact.training import evaluation, loop
    from tfcompact.training.training_images import renew_norms

    if kept_zeros(kernels_of(model)):
        raise UserError(
            f"{model.name} was pruned to zeros, which factors would fill again; decompose its parent, "
            "and prune the result"
        )
    layers = splits.splittable(model)
    kinds = {
        layer.name: kind for layer in layers if (kind := splits.kind_of(layer, config.windows, config.pointwise))
    }
    chosen_layers = [layer for layer in layers if layer.name in kinds]
    counted = "params" if config.cost == "params" else "macs"
    roots = {layer.name: Roots.none(int(layer.kernel.shape[-2])) for layer in chosen_layers}
    if config.moment_images:
        moments = splits.second_moments(model, chosen_layers, _images(config, context))
        roots = {name: Roots.of(value) for name, value in moments.items()}
    ladders = {
        layer.name: splits.ladder(layer, kinds[layer.name], roots[layer.name], cost=counted, multiple=config.multiple)
        for layer in chosen_layers
    }
    ladders = {name: rungs for name, rungs in ladders.items() if rungs}
    before = rewrite.cost(rewrite.inference(model))
    if config.ranks == "cost":
        total = float(before.macs if counted == "macs" else before.trainable)
        costs = {layer.name: splits.layer_cost(layer, counted) for layer in chosen_layers}
        found = ranks.to_cost(ladders, costs, total, config.keep)
    elif config.ranks == "energy":
        found = ranks.to_energy(ladders, config.energy)
    else:
        kernels = {layer.name: splits.kernel_of(layer) for layer in chosen_layers}
        found = ranks.by_noise(ladders, kernels, roots)
    if config.cost == "table":
        found = _cheaper(model, found, roots, context)
    if not found:
        raise UserError(
            f"no split of a layer of {model.name} lowers its cost: its layers are depthwise, or as narrow as their "
            "ranks; prune it instead"
        )
    network = splits.split(model, found, roots)
    after = rewrite.cost(rewrite.inference(network))
    renew_norms(network, config, context)
    accuracy = evaluation.evaluator(network)(evaluation.validation(config, context))[1]
    context.log(
        f"{len(found)} of {len(layers)} layers split, {after.macs / before.macs:.1%} of the multiply-adds left, "
        f"validation {accuracy:.1%} before it is trained on; depthwise and grouped layers are left alone"
    )
    notes: dict[str, Any] = {"validation_accuracy": accuracy}
    if config.epochs:
        heads = context.spec.aux_weight or 0.0
        hooks = of_a_tuning(model, network, heads, config.distill)
        notes = loop.train(network, config, context, hooks=hooks, from_start=True)
    return network, notes | {
        "untrained_accuracy": accuracy,
        "splits": {
            name: {"kind": s.kind, "ranks": list(s.ranks), "error": round(s.error, 6)} for name, s in found.items()
        },
        "macs": after.macs,
        "parameters": after.trainable,
    }


def _cheaper(model: Model, found: dict[str, Any], roots: Any, context: Context) -> dict[str, Any]:
    """The splits each of which, alone, lowers what the table says that the network costs."""
    from tfcompact.compress.decomposition import split_layers as splits

    whole = context.price(model)
    kept = {
        name: one for name, one in found.items() if context.price(splits.split(model, {name: one}, roots)) < whole
    }
    if left := len(found) - len(kept):
        context.log(f"{left} splits save multiply-adds but not time, by the table: left out")
    return kept


def _images(config: Config, context: Context) -> Iterator[Any]:
    """Normalized training images, unaugmented, a few at a time."""
    images, _ = context.data.arrays("train", px=context.px, limit=config.moment_images)
    for start in range(0, len(images), MOMENT_BATCH):
        yield normalize(images[start : start + MOMENT_BATCH], context.normalization)


def _summary(config: Config) -> str:
    tuned = training_text(config) if config.epochs else "not fine-tuned"
    how = {"cost": f"{config.keep:.0%} of the {config.cost}", "energy": f"{config.energy:.0%} of the energy"}
    ways = " and ".join([*["SVD"] * config.pointwise, *[config.windows] * (config.windows != "none")])
    return f"{ways} to {how.get(config.ranks, 'EVBMF ranks')}, {tuned}"


STAGE = Stage(
    config=Config,
    run=run,
    version=2,
    takes=("float",),
    gives="float",
    prices=lambda config: config.cost == "table",
    summary=_summary,
)
