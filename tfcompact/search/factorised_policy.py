"""A policy of independent decisions (TuNAS, arXiv:2008.06120, section 3): a logit for each option, trained by PPO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcompact.search.controller import Choices, generator
from tfcompact.search.policy_gradient import PolicyGradient, softmax


class FactorisedPolicy(PolicyGradient):
    """Learns after every `batch` networks that were told, `epochs` times from each batch, with steps of `rate`."""

    def __init__(
        self,
        counts: Sequence[int],
        seed: int = 0,
        *,
        batch: int = 10,
        epochs: int = 4,
        rate: float = 0.1,
        clip: float = 0.2,
    ) -> None:
        self.counts, self.seed = tuple(counts), seed
        self.logits = [np.zeros(count) for count in counts]
        super().__init__(self.logits, batch=batch, epochs=epochs, rate=rate, clip=clip)

    def ask(self, number: int) -> Choices:
        """A sample of the policy."""
        rng = generator(self.seed, number)
        return tuple(int(rng.choice(len(logits), p=softmax(logits))) for logits in self.logits)

    def log_probability(self, choices: np.ndarray) -> np.ndarray:
        """The log-probability of each row of options, `[n]`."""
        found = np.zeros(len(choices))
        for column, logits in zip(choices.T, self.logits, strict=True):
            found += np.log(softmax(logits))[column]
        return found

    def gradient(self, choices: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
        """The gradient of the weighted sum of log-probabilities, for each decision's logits."""
        found = []
        for column, logits in zip(choices.T, self.logits, strict=True):
            gradient = -weights.sum() * softmax(logits)
            np.add.at(gradient, column, weights)
            found.append(gradient)
        return found
