"""What stages add to the training loop: teachers, auxiliary heads, masks. The loop itself knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tfcompact.frameworks import tf


class Step(NamedTuple):
    """The tensors of one training step, as a hook's losses see them.

    `images` `[n, px, px, 3]` are normalized and augmented; `labels` `[n, classes]` are one-hot or mixed, `weights`
    `[n]` those of the images' classes. `outputs` are the student's logits `[n, classes]` in float32, auxiliary ones
    after the first; `layers` the outputs of the student's layers that the hook named. `cross_entropy(labels, logits)`
    is the loop's own, with its label smoothing: `[n]`. `prepared` is what the hook's `prepare` gave.
    """

    images: Any
    labels: Any
    weights: Any
    outputs: Sequence[Any]
    layers: Mapping[str, Any]
    cross_entropy: Callable[[Any, Any], Any]
    prepared: Any


class Hook:
    """A part of a training. Every method does nothing until it is overridden, and costs nothing then.

    `layers` are the student's layers whose outputs the losses read.
    """

    layers: Sequence[str] = ()

    def variables(self) -> Sequence[Any]:
        """The variables that the checkpoint must hold besides the network's, always in this order."""
        return ()

    def trainable_variables(self) -> Sequence[Any]:
        """Those of `variables` that are trained with the network."""
        return ()

    def prepare(self, images: Any, labels: Any) -> Any:
        """What the losses need and no gradient runs through, a teacher's answers for example."""
        return None

    def example_losses(self, step: Step, losses: Any) -> Any:
        """The losses `[n]` of the images, made from those of the loop and of the hooks before this one."""
        return losses

    def loss(self, step: Step) -> Any:
        """A scalar that is added to the mean loss of the batch, or None."""
        return None

    def gradient(self, variable: Any, gradient: Any) -> Any:
        """The gradient that counts for `variable` instead of the loss's own, or None where that does."""
        return None

    def project(self, variable: Any, value: Any) -> Any:
        """The value that `variable` may have instead of `value`, or None where it may have any.

        It is asked after each step for every trained variable, and for the moving average of it: so a mask holds in
        both, and an average of a masked weight stays masked.
        """
        return None

    def after_step(self, iterations: Any) -> None:
        """What is to be done after the optimizer's step; `iterations` is how many it has taken."""

    def settled(self, iterations: int) -> bool:
        """Whether the weights after so many steps may be what a training gives: masks that still grow say no."""
        return True


class AuxiliaryHead(Hook):
    """One of a network's outputs after its first, whose loss counts `weight` (GoogLeNet, arXiv:1409.4842, section 5,
    has two that count 0.3 each)."""

    def __init__(self, index: int, weight: float) -> None:
        self.index, self.weight = index, weight

    def loss(self, step: Step) -> Any:
        """The weighted mean loss of this head."""
        logits = step.outputs[self.index]
        return self.weight * tf.reduce_mean(step.weights * step.cross_entropy(step.labels, logits))
