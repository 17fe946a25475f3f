"""What a study evaluates: jobs, their scores, and how candidates are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from triscale.network.custom import AnyNetwork
from triscale.record import Record

PASSES = 3
"""A training step costs about three forward passes: forward, gradient of the inputs, gradient of the weights."""


@dataclass(frozen=True, slots=True)
class Job:
    """Train ``network`` with ``seed`` from ``start`` epochs, where a checkpoint of it lies, up to ``stop`` epochs.

    All jobs of a search use one recipe and one order of the data for a seed; the learning rate is planned for the
    epochs of the :class:`Proxy`, also where a job ends before.
    """

    network: AnyNetwork
    seed: int
    start: int
    stop: int

    @property
    def key(self) -> str:
        """Name of the training that this job begins or continues with: the network's structure and the seed."""
        return f"{self.network.structure[:16]}-{self.seed}"


class Score(NamedTuple):
    """Accuracy on held-out images, from 0 to 1, and its standard error from their number alone."""

    accuracy: float
    error: float = 0.0


Evaluation = Callable[[Sequence[Job]], Sequence[Score]]
"""Carries out jobs that do not depend on each other, at once or one by one; scores come in the order of the jobs."""


class Proxy(Record):
    """How each candidate is trained: a short stand-in for the full training.

    ``images`` are the training images seen in one epoch. Every candidate is trained with every seed.
    """

    epochs: int = Field(ge=1)
    images: int = Field(ge=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
