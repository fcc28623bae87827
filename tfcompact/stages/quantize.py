"""Quantization-aware training: a network that has learned to be int8. With no epochs, post-training quantization.

Order matters (docs/design.md says why): batch normalization folded and gates lowered
first, so that what is trained is what is shipped; then ranges set from observed activations; only then training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfcompact.compress.quantization.pixel_grid import on_grid
from tfcompact.compress.quantization.ranges import RANGES
from tfcompact.data.images import normalize
from tfcompact.frameworks import Model
from tfcompact.options import opt, require, require_choice
from tfcompact.stages.contract import Notes, Stage
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training, require_full_precision, training_text

CORRECTION_IMAGES = 128  # all their activations between two layers are held in memory


@dataclass(frozen=True)
class Config(Training):
    """Options of `quantize`."""

    epochs: int = opt(3, "passes over the training images; 0 for post-training quantization")
    learning_rate: float = opt(1e-4, "peak learning rate: reached linearly from 0, then falling as a cosine to 0")
    warmup_epochs: float = opt(0.25, "epochs until the peak learning rate")
    label_smoothing: float = opt(0.1, "share of each label that is spread over all classes, in [0, 1)")
    distill: float = opt(0.7, "share of the loss that is agreement with the float parent's probabilities, in [0, 1]")
    calibration_images: int = opt(256, "training images from which the ranges are observed")
    ranges: str = opt("percentile", "how a range is found: percentile, minmax, average (of minima and maxima) or mse")
    percentile: float = opt(99.99, "share of observed values inside a range, in percent; 100 for minimum and maximum")
    learn_ranges: bool = opt(False, "train the ranges too")
    equalize: bool = opt(False, "first make the channels between convolutions and ReLUs more equal in size")
    correct_bias: bool = opt(False, "before training, undo the shift of each channel's mean that rounding makes")
    sqnr_images: int = opt(
        64, "validation images for the signal-to-noise ratio of each layer in notes.json; 0 for none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_full_precision(self)
        require(0 <= self.distill <= 1, "distill", self.distill, "in [0, 1]")
        require(self.calibration_images >= 1, "calibration_images", self.calibration_images, "1 or more")
        require_choice("method for ranges", self.ranges, RANGES)
        require(50 < self.percentile <= 100, "percentile", self.percentile, "in (50, 100]")
        require(self.sqnr_images >= 0, "sqnr_images", self.sqnr_images, "0 or more")


def run(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    """A quantization-aware copy of `model`'s inference network, fine-tuned for `config.epochs`, and notes.

    What is zero in a pruned network stays zero. The notes hold the ranges and, per layer, the signal-to-noise ratio
    in dB against the float parent; with `equalize` and `correct_bias` also what those changed. Raises `UserError` for
    a layer that has no rule.
    """
    from tfcompact.compress.distillation.teachers import SoftLabels
    from tfcompact.compress.quantization import calibration, equalization, wrapping
    from tfcompact.compress.quantization.prepare import prepare
    from tfcompact.compress.quantization.rounded_layers import exact_weights, rounded_layers
    from tfcompact.compress.sparsity.masks import kept_zeros
    from tfcompact.training import evaluation, loop

    found: dict[str, Any] = {}
    images, _ = context.data.arrays("train", px=context.px, limit=config.calibration_images)

    def batches(limit: int) -> Iterator[Any]:
        for start in range(0, min(limit, len(images)), 32):
            yield normalize(images[start : min(start + 32, limit)], context.normalization)

    parent, qat, equalized = prepare(
        model, batches(len(images)), equalize=config.equalize, learn_ranges=config.learn_ranges
    )
    if config.equalize:
        found["equalized"] = equalized
        context.log(f"channels of {len(equalized)} layers equalized")
    ranges = calibration.calibrate(
        qat, parent, batches(len(images)), context.normalization, config.percentile, config.ranges
    )
    context.log(f"{len(ranges)} ranges set from {len(images)} training images")
    if config.correct_bias:
        found["bias_corrections"] = equalization.correct_bias(qat, parent, list(batches(CORRECTION_IMAGES)))

    teachers = [SoftLabels(parent, config.distill)] if config.distill and config.epochs else []
    notes: dict[str, Any] = loop.train(
        qat,
        config,
        context,
        hooks=[
            *teachers,
            *kept_zeros([exact_weights(layer)[0] for layer in rounded_layers(qat) if exact_weights(layer)]),
        ],
        from_start=config.epochs > 0,
    )
    if config.learn_ranges:
        qat = wrapping.settled(qat, parent)
        ranges = wrapping.ranges_of(qat)
    if not config.epochs:
        notes["validation_accuracy"] = evaluation.evaluator(qat)(evaluation.validation(config, context))[1]
    if config.sqnr_images:
        images, _ = context.data.arrays("validation", px=context.px, limit=config.sqnr_images)
        ratio = calibration.signal_to_noise_db(qat, parent, normalize(images, context.normalization))
        notes["sqnr_db"] = ratio
    notes["ranges"] = {name: list(ends) for name, ends in ranges.items()}
    return qat, notes | found


def _summary(config: Config) -> str:
    if not config.epochs:
        return f"after training, ranges by {config.ranges} of {config.calibration_images} images"
    return f"{training_text(config)}, ranges by {config.ranges} of {config.calibration_images} images"


STAGE = Stage(
    config=Config,
    run=run,
    version=1,
    takes=("float",),
    gives="quantized",
    normalization=on_grid,
    summary=_summary,
)
