"""Weight clustering: few distinct integers in every kernel of a quantized network, which makes its file zip well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfcompact.errors import UserError
from tfcompact.frameworks import Model
from tfcompact.options import opt, require
from tfcompact.stages.contract import Notes, Stage
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Tuning, training_text


@dataclass(frozen=True)
class Config(Tuning):
    """Options of `cluster`."""

    clusters: int = opt(16, "distinct values of a kernel at most, 4 to 255; -127, 0 and 127 are always among them")
    keep_zeros: bool = opt(True, "what is zero in a pruned network stays zero")
    epochs: int = opt(2, "passes over the training images to fine-tune; 0 for none")
    learning_rate: float = opt(1e-4, "peak learning rate: reached linearly from 0, then falling as a cosine to 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(4 <= self.clusters <= 255, "clusters", self.clusters, "from 4 to 255")


def run(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    """A copy of the quantized `model` whose kernels have `clusters` distinct integers at most, fine-tuned.

    The notes hold for each layer the distinct values and the entropy in bits a weight, before and after, and the
    bytes of all clustered kernels plain and deflated. Depthwise kernels and the first convolution are left alone.
    Raises `UserError` where there is no other kernel.
    """
    from tfcompact.compress.clustering import codebooks
    from tfcompact.compress.clustering.shared_weights import Clustered, clusterable, integers
    from tfcompact.compress.distillation.teachers import of_a_tuning
    from tfcompact.compress.quantization.rounded_layers import exact_weights
    from tfcompact.compress.sparsity.masks import kept_zeros
    from tfcompact.networks import rewrite
    from tfcompact.training import evaluation, loop

    network = rewrite.clone(model)
    layers = clusterable(network)
    if not layers:
        raise UserError(f"{model.name} has no kernel to cluster: only depthwise ones, and the first")
    before = {layer.name: integers(layer) for layer in layers}
    steps = config.epochs * context.data.steps_per_epoch(config.batch, config.epoch_images)
    if steps == 1:
        raise UserError("clustering needs two steps or more to let the codebooks settle; give more --epochs, or 0")
    clustered = Clustered(layers, config.clusters, steps)
    zeros = kept_zeros([exact_weights(layer)[0] for layer in layers]) if config.keep_zeros else []
    clustered.enter()
    notes: dict[str, Any] = {}
    if config.epochs:
        heads = context.spec.aux_weight or 0.0
        hooks = [*of_a_tuning(model, network, heads, config.distill), clustered, *zeros]
        notes = loop.train(network, config, context, hooks=hooks)
    clustered.leave()
    if not config.epochs:
        notes["validation_accuracy"] = evaluation.evaluator(network)(evaluation.validation(config, context))[1]
    after = {layer.name: integers(layer) for layer in layers}
    notes["clusters"] = {
        name: {
            "values": [len(set(old.flat)), len(set(after[name].flat))],
            "bits": [round(codebooks.entropy(codebooks.counted(each)), 4) for each in (old, after[name])],
        }
        for name, old in before.items()
    }
    tensors = (list(before.values()), list(after.values()))
    notes["weight_bytes"] = sum(kernel.size for kernel in tensors[0])
    notes["zipped_weight_bytes"] = [codebooks.zipped_bytes(kernels) for kernels in tensors]
    old_bytes, new_bytes = notes["zipped_weight_bytes"]
    context.log(
        f"{len(layers)} kernels of {config.clusters} values at most: deflated "
        f"{new_bytes / 1e3:,.1f} kB instead of {old_bytes / 1e3:,.1f}, plain {notes['weight_bytes'] / 1e3:,.1f}"
    )
    return network, notes


def _summary(config: Config) -> str:
    tuned = training_text(config) if config.epochs else "not fine-tuned"
    return f"{config.clusters} distinct values a kernel, {tuned}"


STAGE = Stage(
    config=Config,
    run=run,
    version=1,
    takes=("quantized",),
    gives="quantized",
    summary=_summary,
)
