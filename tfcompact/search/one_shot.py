"""Candidates judged in shared weights, which are trained once for all of them (arXiv:1904.00420)."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfcompact.errors import UserError
from tfcompact.files import write_arrays
from tfcompact.frameworks import Variable
from tfcompact.models.architecture import Architecture
from tfcompact.models.space import Space
from tfcompact.supernet.learner import Learner
from tfcompact.supernet.masked_network import MaskedNetwork
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training

BELIEVED = 0.5
"""Kendall's tau with networks that were trained alone, below which shared weights say too little of the order."""


class OneShot:
    """A supernet of the space whose weights are in `file`: trained now unless they are there.

    Of several workers one trains, and the others wait for it. Raises `UserError` for a space that is not of one image
    size, width and outer nonlinearity, and for a file that is not of this space.
    """

    def __init__(self, space: Space, config: Training, context: Context, file: Path) -> None:
        self.space, self.network = space, MaskedNetwork(space)
        self.learner = Learner(self.network, config, context)
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(file.with_suffix(".lock")):
            if not file.exists():
                context.log(f"trains the shared weights: {config.epochs} epochs")
                self.learner.together(space.sample, context.seed)
                write_arrays(file, {f"{i:04d}": v.numpy() for i, v in enumerate(self._variables)})
        self._load(file)

    def accuracy(self, architecture: Architecture) -> float:
        """The accuracy of a member on the validation images, with the shared weights."""
        return self.learner.accuracy(architecture)

    @property
    def _variables(self) -> list[Variable]:
        return self.network.trainable_variables

    def _load(self, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as kept:
                values = [kept[name] for name in sorted(kept.files)]
            for variable, value in zip(self._variables, values, strict=True):
                variable.assign(value)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{file} holds no shared weights of this space ({error}); remove it") from None


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two judgements of the same candidates: 1 where both order alike; nan where one ties all."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
