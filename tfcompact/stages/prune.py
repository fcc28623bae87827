"""Pruning: fewer channels, which is a smaller and faster network, or zeros among the weights, which zip well."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcompact.data.images import normalize
from tfcompact.errors import UserError
from tfcompact.frameworks import Model, tf
from tfcompact.options import opt, require, require_choice
from tfcompact.stages.contract import Notes, Stage
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Tuning, training_text

STRUCTURES = ("channels", "weights", "2:4", "energy")
FIT_BATCH = 8  # images whose activations before one layer are held at once
IMPORTANCE = ("l2", "bn", "taylor", "fpgm", "random")
COSTS = ("macs", "params", "table")
TABLE_STEPS = 8  # networks that a table prices to find the share of multiply-adds that costs the target


@dataclass(frozen=True)
class Config(Tuning):
    """Options of `prune`."""

    structure: str = opt(
        "channels",
        "channels (a smaller network), weights (zeros by magnitude), 2:4 (zeros in fours) or energy (zeros in the "
        "layers that take most of it, the rest refitted)",
    )
    keep: float = opt(0.5, "channels: share of the cost that is left, energy: of the energy; in (0, 1)")
    cost: str = opt(
        "macs", "channels: what the share is of: macs, params, or table (a latency table's cost; --table)"
    )
    importance: str = opt(
        "l2", "channels: l2 (filters' norms), bn (scales), taylor (effect on the loss), fpgm or random"
    )
    cap: float = opt(0.8, "channels: share at most that goes of channels that hang together, in (0, 1)")
    multiple: int = opt(
        16, "channels: what is left of a layer is a multiple of this; 16 is a step of ARM64's int8 kernels"
    )
    rounds: int = opt(
        1, "channels: turns of removing and fine-tuning, which share the epochs, until the share is reached"
    )
    score_images: int = opt(512, "channels: training images from which taylor takes the effects")
    slimming: float = opt(0.0, "channels: L1 penalty on BN scales in a training of as many epochs before; 0 for none")
    sparsity: float = opt(0.75, "weights, energy: share of zeros in the kernels that get them, in (0, 1)")
    fit_images: int = opt(128, "energy: training images on which the weights that are left are refitted")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("structure", self.structure, STRUCTURES)
        require_choice("importance", self.importance, IMPORTANCE)
        require_choice("cost", self.cost, COSTS)
        for name in ("keep", "cap", "sparsity"):
            require(0 < getattr(self, name) < 1, name, getattr(self, name), "in (0, 1)")
        for name in ("multiple", "rounds", "score_images", "fit_images"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        require(self.slimming >= 0, "slimming", self.slimming, "0 or more")
        require(
            self.rounds <= max(1, self.epochs), "rounds", self.rounds, f"at most {max(1, self.epochs)}, the epochs"
        )
        require(not self.slimming or self.epochs > 0, "slimming", self.slimming, "0 where there are no epochs")


def run(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    """A pruned copy of `model`, fine-tuned, and what was removed.

    With channels the copy is smaller, its heads included; with weights or 2:4 it has the same layers, and zeros that
    stay through every later training. Raises `UserError` for a share that cannot be reached, and for a layer that
    nothing is known of.
    """
    return (
        _with_channels(model, config, context)
        if config.structure == "channels"
        else _with_zeros(model, config, context)
    )


def _with_channels(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    from tfcompact.compress.channels.atoms import channels
    from tfcompact.compress.channels.importance import importance
    from tfcompact.compress.channels.slicing import smaller, widths
    from tfcompact.compress.distillation.teachers import of_a_tuning
    from tfcompact.compress.sparsity.masks import kept_zeros, kernels_of
    from tfcompact.networks import rewrite
    from tfcompact.training import evaluation, loop
    from tfcompact.training.training_images import renew_norms

    heads = context.spec.aux_weight or 0.0
    found: dict[str, Any] = {"rounds": []}
    network = model
    if config.slimming:
        from tfcompact.compress.channels.slimming import Slimming

        network = rewrite.clone(model)
        part = context.part("slimming")
        hooks = [*of_a_tuning(model, network, heads, config.distill), Slimming(network, config.slimming)]
        found["slimming"] = loop.train(network, config, part, hooks=hooks)
    whole = _cost(network, config, context)
    for turn in range(1, config.rounds + 1):
        part = context.part(f"round-{turn}") if config.rounds > 1 else context
        structure = channels(network)
        if not structure.groups or max(len(group.classes) for group in structure.groups) < 2:
            raise UserError(
                f"the channels of {model.name} hang together, layer by layer, so that none can go without all of its "
                "layer; take a narrower variant of it"
            )
        scores = importance(
            network,
            structure,
            config.importance,
            seed=context.seed + turn,
            batches=lambda: _labelled(config, context),
        )
        target = whole * config.keep ** (turn / config.rounds)
        gone, left = _chosen(network, structure, scores, config, context, target, whole)
        before = widths(structure)
        network = smaller(network, structure, gone)
        renew_norms(network, config, context)
        accuracy = evaluation.evaluator(network)(evaluation.validation(config, context))[1]
        part.log(f"{left:.1%} of the {_words(config)} left, validation {accuracy:.1%} before it is trained on")
        now = widths(channels(network))
        notes: dict[str, Any] = {
            "left": left,
            "untrained_accuracy": accuracy,
            "channels": {name: [count, now[name]] for name, count in before.items() if count != now[name]},
        }
        if config.epochs:
            share = dataclasses.replace(config, epochs=_epochs(config, turn))
            hooks = [*of_a_tuning(model, network, heads, config.distill), *kept_zeros(kernels_of(network))]
            notes |= loop.train(network, share, part, hooks=hooks, from_start=True)
        else:
            notes["validation_accuracy"] = accuracy
        found["rounds"].append(notes)
    cost = rewrite.cost(rewrite.inference(network))
    return network, notes | found | {"macs": cost.macs, "parameters": cost.trainable}


def _chosen(
    network: Model, structure: Any, scores: Any, config: Config, context: Context, target: float, whole: float
) -> tuple[set[int], float]:
    """The classes that go so that the network costs at most `target`, and the share of `whole` that is left.

    By a table the classes still go by multiply-adds saved: the share of those is looked for that costs the target.
    """
    from tfcompact.compress.channels.selection import chosen
    from tfcompact.compress.channels.slicing import smaller

    kind = "macs" if config.cost == "table" else config.cost
    now = _cost(network, config, context)

    def at(share: float) -> set[int]:
        return chosen(structure, scores, cost=kind, share=share, cap=config.cap, multiple=config.multiple)[0]

    if config.cost != "table":
        gone, left = chosen(
            structure, scores, cost=kind, share=target / now, cap=config.cap, multiple=config.multiple
        )
        return gone, left * now / whole
    low, high = 0.0, 1.0  # shares of multiply-adds: one that is cheap enough if any is, and one that costs too much
    best: tuple[set[int], float] | None = None
    for _ in range(TABLE_STEPS):
        middle = (low + high) / 2
        try:
            gone = at(middle)
        except UserError:
            low = middle
            continue
        price = context.price(smaller(network, structure, gone))
        if price <= target:
            best, low = (gone, price / whole), middle
        else:
            high = middle
    if best is None:
        raise UserError(
            f"{config.keep:.0%} of the table's cost cannot be reached; give a larger --keep or --cap, or a smaller "
            "--multiple"
        )
    return best


def _cost(network: Model, config: Config, context: Context) -> float:
    """What the network costs, in what the share is of."""
    from tfcompact.networks import rewrite

    if config.cost == "table":
        return context.price(network)
    cost = rewrite.cost(network)
    return float(cost.macs if config.cost == "macs" else cost.trainable + cost.non_trainable)


def _words(config: Config) -> str:
    return {"macs": "multiply-adds", "params": "parameters", "table": "table's cost"}[config.cost]


def _epochs(config: Config, turn: int) -> int:
    """The epochs of one round: all of them divided, what is over in the last ones."""
    return config.epochs * turn // config.rounds - config.epochs * (turn - 1) // config.rounds


def _labelled(config: Config, context: Context) -> Iterator[tuple[Any, Any]]:
    """Normalized training images with one-hot labels, unaugmented."""
    images, labels = context.data.arrays("train", px=context.px, limit=config.score_images)
    for start in range(0, len(images), config.batch):
        part = slice(start, start + config.batch)
        yield normalize(images[part], context.normalization), tf.one_hot(labels[part], len(context.data.classes))


def _with_zeros(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    from tfcompact.compress.distillation.teachers import of_a_tuning
    from tfcompact.compress.sparsity.masks import Masks, block_mask, magnitude_mask, maskable
    from tfcompact.networks import rewrite
    from tfcompact.training import evaluation, loop
    from tfcompact.training.training_images import renew_norms

    network = rewrite.clone(model)
    layers = maskable(network)
    if not layers:
        raise UserError(f"{model.name} has no kernel that may have zeros: only depthwise ones, and the first")
    kernels = [layer.kernel for layer in layers]
    steps = config.epochs * context.data.steps_per_epoch(config.batch, config.epoch_images)
    notes: dict[str, Any] = {}
    if config.structure == "energy":
        notes = _by_energy(model, network, layers, config, context)
        renew_norms(network, config, context)
        masks = Masks(kernels, [(layer.kernel.numpy() != 0).astype(np.float32) for layer in layers])
    elif config.structure == "2:4":
        masks = Masks(kernels, [block_mask(layer.kernel.numpy()) for layer in layers])
    elif config.epochs:
        if steps < 2:
            raise UserError("magnitude pruning needs two steps or more to let sparsity rise; give more --epochs")
        masks = Masks(kernels, final=config.sparsity, steps=steps)
    else:
        masks = Masks(kernels, [magnitude_mask(layer.kernel, config.sparsity).numpy() for layer in layers])
    if not masks.last:
        masks.apply()
    if config.epochs:
        hooks = of_a_tuning(model, network, context.spec.aux_weight or 0.0, config.distill)
        notes |= loop.train(network, config, context, hooks=[*hooks, masks])
    else:
        notes["validation_accuracy"] = evaluation.evaluator(network)(evaluation.validation(config, context))[1]
    values = {layer.name: layer.kernel.numpy() for layer in layers}
    zeros = {name: round(float((kernel == 0).mean()), 6) for name, kernel in values.items()}
    total = sum(int((kernel == 0).sum()) for kernel in values.values())
    share = total / sum(kernel.size for kernel in values.values())
    context.log(f"{share:.1%} of the weights of {len(values)} layers are zero")
    return network, notes | {"sparsity": zeros, "zeros": total}


def _by_energy(model: Model, network: Model, layers: list[Any], config: Config, context: Context) -> Notes:
    """Puts zeros into the layers of `network` that take the most energy, and says which and what it takes now."""
    from tfcompact.compress.sparsity import energy
    from tfcompact.networks import rewrite

    images, _ = context.data.arrays("train", px=context.px, limit=config.fit_images)

    def batches() -> Iterator[Any]:
        for start in range(0, len(images), FIT_BATCH):
            yield normalize(images[start : start + FIT_BATCH], context.normalization)

    names = energy.to_prune(network, layers, config.sparsity, config.keep)
    refit = energy.Refit(model, network, names, batches, context.seed)
    found = {name: refit.prune(name, config.sparsity) for name in names}
    zeros = {name: one.zeros for name, one in found.items()}
    whole, now = (sum(energy.energies(rewrite.inference(model), shares).values()) for shares in (None, zeros))
    context.log(
        f"{len(found)} of {len(layers)} layers with zeros; where zeros are skipped, {now / whole:.1%} of the energy"
    )
    return {
        "energy_pj": [whole, now],
        "output_errors": {name: [round(one.cut_error, 6), round(one.error, 6)] for name, one in found.items()},
    }


def _summary(config: Config) -> str:
    tuned = training_text(config) if config.epochs else "not fine-tuned"
    if config.structure == "channels":
        return f"channels by {config.importance} to {config.keep:.0%} of the {config.cost}, {tuned}"
    if config.structure == "2:4":
        return f"two of every four weights zero, {tuned}"
    if config.structure == "energy":
        return f"zeros until {config.keep:.0%} of the energy is left, {tuned}"
    return f"{config.sparsity:.0%} of the weights zero, {tuned}"


STAGE = Stage(
    config=Config,
    run=run,
    version=1,
    takes=("float",),
    gives="float",
    prices=lambda config: config.structure == "channels" and config.cost == "table",
    summary=_summary,
)
