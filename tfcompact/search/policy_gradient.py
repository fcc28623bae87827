"""What policies have in common: Adam, advantages, and the clipped objective of PPO (arXiv:1707.06347)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcompact.search.controller import Told

Arrays = list[np.ndarray]


class Adam:
    """Adam (arXiv:1412.6980) that climbs."""

    def __init__(self, parameters: Arrays, rate: float, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.parameters, self.rate, self.betas, self.steps = parameters, rate, (beta1, beta2), 0
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Moves the parameters up the gradients, in place."""
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in self.betas)
        for parameter, (m, v), gradient in zip(self.parameters, self.moments, gradients, strict=True):
            m += (1 - self.betas[0]) * (gradient - m)
            v += (1 - self.betas[1]) * (gradient**2 - v)
            parameter += self.rate * (m / first) / (np.sqrt(v / second) + 1e-8)


def advantages(rewards: np.ndarray) -> np.ndarray:
    """The rewards of a batch less their mean, by their deviation; zeros where all are alike."""
    spread = rewards.std()
    return (rewards - rewards.mean()) / spread if spread > 1e-12 else np.zeros_like(rewards)


def clipped_weights(now: np.ndarray, before: np.ndarray, advantage: np.ndarray, clip: float) -> np.ndarray:
    """What the gradient of each sample's log-probability counts in that of PPO's objective, `[n]`.

    `now` and `before` are log-probabilities. The objective is the mean of the lesser of `r A` and `clip(r) A`, r
    being the ratio of probabilities: a sample that has gone too far in its direction counts nothing. At a ratio of 1
    it is the policy gradient (REINFORCE).
    """
    ratio = np.exp(now - before)
    far = np.where(advantage > 0, ratio > 1 + clip, ratio < 1 - clip)
    return np.where(far, 0.0, ratio * advantage) / len(advantage)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    found: np.ndarray = e / e.sum(-1, keepdims=True)
    return found


class PolicyGradient:
    """A policy that learns after every `batch` networks that were told, `epochs` times from each batch, by PPO.

    `parameters` move by steps of `rate`; whoever inherits says how probable choices are, and what moves that.
    """

    def __init__(self, parameters: Arrays, *, batch: int, epochs: int, rate: float, clip: float) -> None:
        self.batch, self.epochs, self.clip = batch, epochs, clip
        self.adam = Adam(parameters, rate)
        self.waiting: list[Told] = []

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
        raise NotImplementedError

    def gradient(self, choices: np.ndarray, weights: np.ndarray) -> Arrays:
        """The gradient of the weighted sum of log-probabilities, one array for each of the parameters."""
        raise NotImplementedError
