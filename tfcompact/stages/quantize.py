"""Quantization-aware training: a network that has learned to be int8. With no epochs, post-training quantization.

Order matters (docs/design.md says why): batch normalization folded and gates lowered
first, so that what is trained is what is shipped; then ranges set from observed activations; only then training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfcompact.options import opt, require
from tfcompact.training import Training
from tfcompact.types import Context

FROM = ("fit",)


@dataclass(frozen=True)
class Config(Training):
    """Options of `quantize`."""

    epochs: int = opt(3, "passes over the training images; 0 for post-training quantization")
    learning_rate: float = opt(1e-4, "peak learning rate: reached linearly from 0, then falling as a cosine to 0")
    warmup_epochs: float = opt(0.25, "epochs until the peak learning rate")
    label_smoothing: float = opt(0.1, "share of each label that is spread over all classes, in [0, 1)")
    distill: float = opt(0.7, "share of the loss that is agreement with the float parent's probabilities, in [0, 1]")
    calibration_images: int = opt(256, "training images from which the ranges are observed")
    percentile: float = opt(99.99, "share of observed values inside a range, in percent; 100 for minimum and maximum")
    sqnr_images: int = opt(
        64, "validation images for the signal-to-noise ratio of each layer in notes.json; 0 for none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.precision in ("auto", "float32"), "precision", self.precision, "auto or float32")
        require(0 <= self.distill <= 1, "distill", self.distill, "in [0, 1]")
        require(self.calibration_images >= 1, "calibration_images", self.calibration_images, "1 or more")
        require(50 < self.percentile <= 100, "percentile", self.percentile, "in (50, 100]")
        require(self.sqnr_images >= 0, "sqnr_images", self.sqnr_images, "0 or more")


def run(model: Any, config: Config, context: Context) -> tuple[Any, dict[str, Any]]:
    """A quantization-aware copy of `model`'s inference network, fine-tuned for `config.epochs`, and notes.

    The notes hold the ranges and, per layer, the signal-to-noise ratio in dB against the float parent. Raises
    `UserError` for a layer that has no rule.
    """
    from tfcompact import loop, quantization
    from tfcompact.data.images import normalize
    from tfcompact.graph import inference
    from tfcompact.lowering import lower

    parent = lower(inference(model))
    qat = quantization.quantized(parent)
    images, _ = context.data.arrays("train", px=context.px, limit=config.calibration_images)
    batches = (normalize(images[i : i + 32], context.normalization) for i in range(0, len(images), 32))
    ranges = quantization.calibrate(qat, parent, batches, context.normalization, config.percentile)
    context.log(f"{len(ranges)} ranges set from {len(images)} training images")

    notes: dict[str, Any] = loop.train(
        qat,
        config,
        context,
        teacher=loop.Teacher(parent, config.distill) if config.distill and config.epochs else None,
        from_start=config.epochs > 0,
    )
    if not config.epochs:
        validation = context.data.batches(
            "validation", px=context.px, batch=config.batch, normalization=context.normalization
        )
        notes["validation_accuracy"] = loop.evaluator(qat)(validation)[1]
    if config.sqnr_images:
        images, _ = context.data.arrays("validation", px=context.px, limit=config.sqnr_images)
        ratio = quantization.signal_to_noise_db(qat, parent, normalize(images, context.normalization))
        notes["sqnr_db"] = ratio
    notes["ranges"] = {name: list(ends) for name, ends in ranges.items()}
    return qat, notes
