"""A policy of independent decisions (TuNAS, arXiv:2008.06120, section 3): a logit for each option, trained by PPO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcompact.search.controller import Choices, Told, generator
from tfcompact.search.policy_gradient import Adam, advantages, clipped_weights, softmax


class FactorisedPolicy:
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
        self.batch, self.epochs, self.clip = batch, epochs, clip
        self.logits = [np.zeros(count) for count in counts]
        self.adam = Adam(self.logits, rate)
        self.waiting: list[Told] = []

    def ask(self, number: int) -> Choices:
        """A sample of the policy."""
        rng = generator(self.seed, number)
        return tuple(int(rng.choice(len(logits), p=softmax(logits))) for logits in self.logits)

    def tell(self, told: Told) -> None:
        """Waits for a batch, and learns from it."""
        self.waiting.append(told)
        if len(self.waiting) < self.batch:
            return
        choices = np.array([one.choices for one in self.waiting])
        advantage = advantages(np.array([one.reward for one in self.waiting]))
        before = self.log_probability(choices)
        for _ in range(self.epochs):
            weights = clipped_weights(self.log_probability(choices), before, advantage, self.clip)
            self.adam.step(self.gradient(choices, weights))
        self.waiting = []

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
