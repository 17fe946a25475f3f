"""The units of a study: jobs, scores, and the proxy training of candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from triscale.network.custom import AnyNetwork
from triscale.record import Record

PASSES = 3
"""Cost of a training step in forward passes: forward, gradient of the inputs, gradient of the weights."""


@dataclass(frozen=True, slots=True)
class Job:
    """Train ``network`` with ``seed`` from a checkpoint after ``start`` epochs up to ``stop`` epochs.

    All jobs of a search use the same recipe, and for a seed the same order of the data. The learning rate schedule
    spans the epochs of the :class:`Proxy`, even if a job ends earlier.

    Example:
        >>> from triscale.families import get
        >>> Job(get("efficientnet_b0"), seed=0, start=0, stop=3).key.endswith("-0")
        True
    """

    network: AnyNetwork
    seed: int
    start: int
    stop: int

    @property
    def key(self) -> str:
        """Name of the training that this job starts or resumes: the network's structure and the seed."""
        return f"{self.network.structure[:16]}-{self.seed}"


class Score(NamedTuple):
    """Validation accuracy, from 0 to 1, and its binomial standard error for the number of images."""

    accuracy: float
    error: float = 0.0


Evaluation = Callable[[Sequence[Job]], Sequence[Score]]
"""Runs independent jobs, in parallel or one by one, and returns scores in the order of the jobs."""


class Proxy(Record):
    """How each candidate is trained: a short stand-in for the full training.

    ``images`` are the training images seen in one epoch. Every candidate is trained with every seed.
    """

    epochs: int = Field(ge=1)
    images: int = Field(ge=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
