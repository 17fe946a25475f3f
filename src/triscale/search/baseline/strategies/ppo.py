"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) of an RNN controller, as in MnasNet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from triscale.record import Record
from triscale.search.baseline.objective import Observation
from triscale.search.baseline.space import Sample, Space
from triscale.search.baseline.strategies.controller import Controller, ControllerWeights, Tokens
from triscale.search.shape import Array


class PpoSettings(Record):
    """Hyperparameters of the controller's training.

    Attributes:
        hidden: Size of the LSTM's state.
        embedding: Size of a token's embedding.
        learning_rate: Learning rate of Adam.
        epochs: Gradient steps per update.
        batch: Samples per update.
        clip: The clipping range of the probability ratio.
        entropy: Coefficient of the entropy bonus, per nat and token.
    """

    hidden: PositiveInt = 64
    embedding: PositiveInt = 16
    learning_rate: PositiveFloat = 0.01
    epochs: PositiveInt = 4
    batch: int = Field(default=10, ge=2)
    clip: float = Field(default=0.2, gt=0, lt=1)
    entropy: NonNegativeFloat = 0.03


class PPO:
    """Samples from a controller and reinforces samples that are better than others of their batch.

    The advantage of a sample is its standardized rank among the rewards of the batch. This needs no scale and no
    baseline, and is robust to the large negative rewards of violated constraints. All tokens of a sample share it.

    Args:
        space: The search space.
        seed: Seed of all random numbers.
        settings: Hyperparameters; None for the defaults.
    """

    def __init__(self, space: Space, seed: int, settings: PpoSettings | None = None) -> None:
        self._settings = settings or PpoSettings()
        self._random = np.random.default_rng(seed)
        counts = [len(choice.options) for choice in space.free_choices]
        self._controller = Controller(counts, self._settings.hidden, self._settings.embedding)
        self._weights = self._controller.make_weights(self._random)
        self._adam = Adam(self._weights, self._settings.learning_rate)
        self._tokens = np.zeros((0, len(counts)), dtype=np.int64)
        self._log_probs = np.zeros((0, len(counts)))
        self._rewards = np.zeros(0)

    def ask(self, count: int) -> list[Sample]:
        """Sample from the controller; a converged controller repeats samples."""
        tokens = self._controller.draw(self._weights, count, self._random)
        log_probs = self._controller.forward(self._weights, tokens).log_probs
        self._tokens = np.concatenate((self._tokens, tokens))
        self._log_probs = np.concatenate((self._log_probs, log_probs))
        return [tuple(sample) for sample in tokens.tolist()]

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Update the controller with every full batch; the remaining observations wait for the next call."""
        self._rewards = np.concatenate((self._rewards, [observed.reward for observed in outcomes]))
        size = self._settings.batch
        while len(self._rewards) >= size:
            self._learn(self._tokens[:size], self._log_probs[:size], _advantages(self._rewards[:size]))
            self._tokens, self._log_probs = self._tokens[size:], self._log_probs[size:]
            self._rewards = self._rewards[size:]

    def _learn(self, tokens: Tokens, log_probs: Array, advantages: Array) -> None:
        """Take gradient steps on the clipped surrogate objective (Schulman et al. 2017, equation 7)."""
        clip, count = self._settings.clip, len(tokens)
        weighed = advantages[:, None]
        to_entropies = np.full(tokens.shape, -self._settings.entropy / count)
        for _ in range(self._settings.epochs):
            forward = self._controller.forward(self._weights, tokens)
            ratios = np.exp(forward.log_probs - log_probs)
            # The gradient is 0 where the clipped term is the minimum.
            far = np.where(weighed > 0, ratios > 1 + clip, ratios < 1 - clip)
            # d(-A r) / d log p = -A r, with the ratio r = exp(log p - log p_old).
            to_log_probs = np.where(far, 0.0, -weighed * ratios / count)
            gradients = self._controller.backward(self._weights, forward, to_log_probs, to_entropies)
            self._weights = self._adam.step(self._weights, gradients)


class Adam:
    """Adam (Kingma & Ba 2015) with the paper's default betas and epsilon.

    Args:
        weights: Weights of the shapes to optimize.
        learning_rate: The learning rate.
    """

    def __init__(self, weights: ControllerWeights, learning_rate: float) -> None:
        self._rate, self._steps = learning_rate, 0
        self._means = self._squares = ControllerWeights(*(np.zeros_like(weight) for weight in weights))

    def step(self, weights: ControllerWeights, gradients: ControllerWeights) -> ControllerWeights:
        """Return the weights after one gradient step."""
        self._steps += 1
        self._means = _toward(self._means, gradients, 0.1)
        self._squares = _toward(self._squares, ControllerWeights(*(gradient**2 for gradient in gradients)), 0.001)
        # Bias correction, Kingma & Ba 2015, section 3.
        rate, sharpness = self._rate / (1 - 0.9**self._steps), 1 / (1 - 0.999**self._steps)
        return ControllerWeights(
            *(
                weight - rate * mean / (np.sqrt(square * sharpness) + 1e-8)
                for weight, mean, square in zip(weights, self._means, self._squares, strict=True)
            )
        )


def _toward(average: ControllerWeights, new: ControllerWeights, share: float) -> ControllerWeights:
    """Update an exponential moving average with a new value of weight ``share``."""
    return ControllerWeights(*(old + share * (value - old) for old, value in zip(average, new, strict=True)))


def _advantages(rewards: Array) -> Array:
    """Return standardized ranks of the rewards (mean 0, standard deviation 1), ties sharing their mean rank."""
    ranks = (rewards[:, None] > rewards).mean(axis=1) + (rewards[:, None] >= rewards).mean(axis=1)
    centered: Array = ranks - ranks.mean()
    deviation = centered.std()
    return centered / deviation if deviation > 0 else centered
