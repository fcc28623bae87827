"""How a network is trained: the options that `fit`, `quantize` and every stage that fine-tunes have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfcompact.data.augment import Augment
from tfcompact.options import opt, require, require_choice

OPTIMIZERS = ("adamw", "sgd", "rmsprop")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class Training:
    """Options of the training loop. Stages inherit them with defaults of their own."""

    epochs: int = opt(10, "passes over the training images")
    epoch_images: int = opt(0, "training images an epoch, others in every epoch; 0 for all of them")
    validation_images: int = opt(0, "validation images that judge an epoch, balanced over classes; 0 for all of them")
    batch: int = opt(32, "images a step")
    optimizer: str = opt("adamw", "adamw, sgd (Nesterov momentum 0.9) or rmsprop (momentum 0.9)")
    learning_rate: float = opt(2e-3, "peak learning rate: reached linearly from 0, then falling as a cosine to 0")
    warmup_epochs: float = opt(1.0, "epochs until the peak learning rate")
    weight_decay: float = opt(5e-2, "decoupled weight decay, times the learning rate, a step; spares biases and BN")
    label_smoothing: float = opt(0.1, "share of each label that is spread over all classes, in [0, 1)")
    clip_norm: float = opt(1.0, "largest norm of the whole gradient; 0 for no limit")
    ema: float = opt(0.998, "decay of the weights' moving average, which is what is kept; 0 for none")
    early_stopping: int = opt(0, "epochs without a better validation accuracy before it stops; 0 for never")
    class_weights: bool = opt(False, "weigh images by the inverse frequency of their class")
    precision: str = opt("auto", "auto, float32, mixed_bfloat16 or mixed_float16; auto is mixed where the GPU has it")
    norm_batches: int = opt(16, "training batches from which BN statistics are taken anew at the end; 0 for none")
    augment: Augment = field(default_factory=Augment, metadata={"help": "augmentation of training images"})

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "epoch_images",
            "validation_images",
            "warmup_epochs",
            "weight_decay",
            "clip_norm",
            "early_stopping",
            "norm_batches",
        ):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("label_smoothing", "ema"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        require(self.batch >= 1, "batch", self.batch, "1 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_choice("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class Tuning(Training):
    """Options of a stage that changes a trained network and trains it on, with its parent as a teacher."""

    distill: float = opt(0.5, "share of the loss that is agreement with the parent's probabilities, in [0, 1]")
    epochs: int = opt(5, "passes over the training images to fine-tune; 0 for none")
    learning_rate: float = opt(1e-3, "peak learning rate: reached linearly from 0, then falling as a cosine to 0")
    warmup_epochs: float = opt(0.25, "epochs until the peak learning rate")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.distill <= 1, "distill", self.distill, "in [0, 1]")
        require_full_precision(self)


def require_full_precision(config: Training) -> None:
    """Raises `UserError` where a training is asked for in 16 bits, for stages that have 32 alone."""
    require(config.precision in ("auto", "float32"), "precision", config.precision, "auto or float32")


def training_text(config: Training) -> str:
    """The training in one line, `12 epochs, batch 32, adamw at 0.002`."""
    return f"{config.epochs} epochs, batch {config.batch}, {config.optimizer} at {config.learning_rate:g}"
