"""MnasNet's controller (arXiv:1807.11626, 4.3): an LSTM that says one decision after another, trained by PPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfcompact.search.controller import Choices, generator
from tfcompact.search.policy_gradient import PolicyGradient, softmax

TEMPER = 1.5
"""Logits are this times a tanh: no option becomes impossible (ENAS, arXiv:1802.03268)."""


class _Memory(NamedTuple):
    """What one step of the LSTM must remember for the way back."""

    x: np.ndarray
    h: np.ndarray
    c: np.ndarray
    gates: tuple[np.ndarray, ...]
    now: np.ndarray
    raw: np.ndarray
    p: np.ndarray


class RecurrentPolicy(PolicyGradient):
    """An LSTM of `hidden` units; each decision sees the embedding of the option that was taken before.

    Learns after every `batch` networks that were told, `epochs` times from each batch.
    """

    def __init__(
        self,
        counts: Sequence[int],
        seed: int = 0,
        *,
        hidden: int = 64,
        batch: int = 10,
        epochs: int = 4,
        rate: float = 3e-3,
        clip: float = 0.2,
        entropy: float = 1e-4,
    ) -> None:
        self.counts, self.seed, self.hidden = tuple(counts), seed, hidden
        self.entropy = entropy / batch  # of one sample
        rng = np.random.default_rng((seed, 1 << 32))
        starts = np.cumsum([1, *self.counts])  # the first embedding is that of the beginning
        self.starts = [int(start) for start in starts[:-1]]

        def array(*shape: int) -> np.ndarray:
            return rng.uniform(-0.1, 0.1, shape)

        self.embedding = array(int(starts[-1]), hidden)
        self.kernel, self.bias = array(2 * hidden, 4 * hidden), np.zeros(4 * hidden)
        self.heads = [array(hidden, count) for count in self.counts]
        self.parameters = [self.embedding, self.kernel, self.bias, *self.heads]
        super().__init__(self.parameters, batch=batch, epochs=epochs, rate=rate, clip=clip)

    def ask(self, number: int) -> Choices:
        """A sample of the policy."""
        rng = generator(self.seed, number)
        row = np.zeros((1, len(self.counts)), int)
        h = c = np.zeros((1, self.hidden))
        for place in range(len(self.counts)):
            memory, h, c = self._step(place, self._seen(row, place), h, c)
            row[0, place] = rng.choice(self.counts[place], p=memory.p[0])
        return tuple(int(option) for option in row[0])

    def log_probability(self, choices: np.ndarray) -> np.ndarray:
        """The log-probability of each row of options, `[n]`."""
        return self._run(choices)[1]

    def gradient(self, choices: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
        """The gradient of the weighted sum of log-probabilities, and of `entropy` times each decision's entropy.

        One array for each of `parameters`.
        """
        memories, _ = self._run(choices)
        found = [np.zeros_like(p) for p in self.parameters]
        embedding, kernel, bias, *heads = found
        dh = dc = np.zeros((len(choices), self.hidden))
        rows = np.arange(len(choices))
        for place in reversed(range(len(self.counts))):
            m = memories[place]
            dlogits = -weights[:, None] * m.p
            dlogits[rows, choices[:, place]] += weights
            if self.entropy:
                logs = np.log(np.maximum(m.p, 1e-30))
                dlogits -= self.entropy * m.p * (logs - (m.p * logs).sum(1, keepdims=True))
            draw = dlogits * TEMPER * (1 - np.tanh(m.raw) ** 2)
            heads[place] += self._hidden(m).T @ draw
            dh = dh + draw @ self.heads[place].T
            i, f, g, o = m.gates
            tanh = np.tanh(m.now)
            dc = dc + dh * o * (1 - tanh**2)
            dz = np.concatenate(
                [dc * g * i * (1 - i), dc * m.c * f * (1 - f), dc * i * (1 - g**2), dh * tanh * o * (1 - o)], axis=1
            )
            kernel += np.concatenate([m.x, m.h], axis=1).T @ dz
            bias += dz.sum(0)
            dxh = dz @ self.kernel.T
            np.add.at(embedding, self._places(choices, place), dxh[:, : self.hidden])
            dh, dc = dxh[:, self.hidden :], dc * f
        return found

    def _run(self, choices: np.ndarray) -> tuple[list[_Memory], np.ndarray]:
        """The steps of all decisions, and the log-probability of each row."""
        h = c = np.zeros((len(choices), self.hidden))
        memories, found = [], np.zeros(len(choices))
        for place in range(len(self.counts)):
            memory, h, c = self._step(place, self._seen(choices, place), h, c)
            found += np.log(memory.p[np.arange(len(choices)), choices[:, place]])
            memories.append(memory)
        return memories, found

    def _step(
        self, place: int, x: np.ndarray, h: np.ndarray, c: np.ndarray
    ) -> tuple[_Memory, np.ndarray, np.ndarray]:
        """One decision: what is remembered, and the new state."""
        z = np.concatenate([x, h], axis=1) @ self.kernel + self.bias
        i, f, g, o = np.split(z, 4, axis=1)
        i, f, g, o = _sigmoid(i), _sigmoid(f + 1), np.tanh(g), _sigmoid(o)
        now = f * c + i * g
        hidden = o * np.tanh(now)
        raw = hidden @ self.heads[place]
        return _Memory(x, h, c, (i, f, g, o), now, raw, softmax(TEMPER * np.tanh(raw))), hidden, now

    @staticmethod
    def _hidden(memory: _Memory) -> np.ndarray:
        found: np.ndarray = memory.gates[3] * np.tanh(memory.now)
        return found

    def _seen(self, choices: np.ndarray, place: int) -> np.ndarray:
        """The embeddings of what was taken before."""
        found: np.ndarray = self.embedding[self._places(choices, place)]
        return found

    def _places(self, choices: np.ndarray, place: int) -> np.ndarray:
        if place == 0:
            return np.zeros(len(choices), int)
        found: np.ndarray = self.starts[place - 1] + choices[:, place - 1]
        return found


def _sigmoid(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-x))
    return found
