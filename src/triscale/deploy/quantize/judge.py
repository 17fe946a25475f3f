"""How much accuracy an int8 file loses, by the outputs of the float model and the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Metric = Literal["top1", "mean_average_precision"]
Logits = NDArray[np.float32]


class Judge(Protocol):
    """Judges the outputs of a file for the same images as those of the float model."""

    @property
    def images(self) -> int:
        """Number of images."""

    @property
    def metric(self) -> Metric:
        """Name of the score."""

    def score(self, outputs: Logits) -> float:
        """Return the score of logits ``[N, classes]``, from 0 to 1."""

    def loss(self, outputs: Logits) -> float:
        """Return how much lower the score is than that of the float model, in percentage points."""

    def half_width(self, outputs: Logits) -> float:
        """Return the half-width of a 95% interval of the loss, in percentage points."""


@dataclass(frozen=True, slots=True)
class TopOne:
    """Judges by top-1 accuracy.

    Attributes:
        exact: Logits of the float model ``[N, classes]``.
        labels: The right classes ``[N]``.

    Example:
        >>> judge = TopOne(np.eye(2, dtype=np.float32), np.array([0, 1]))
        >>> judge.score(judge.exact), judge.loss(np.zeros((2, 2), np.float32))
        (1.0, 50.0)
    """

    exact: Logits
    labels: NDArray[np.int64]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def metric(self) -> Metric:
        """Name of the score."""
        return "top1"

    def score(self, outputs: Logits) -> float:
        """Return the top-1 accuracy."""
        return float(self._right(outputs).mean())

    def loss(self, outputs: Logits) -> float:
        """Return the loss of accuracy in percentage points."""
        return 100 * (int(self._right(self.exact).sum()) - int(self._right(outputs).sum())) / self.images

    def half_width(self, outputs: Logits) -> float:
        """Return the half-width of a 95% interval of the loss for paired predictions (McNemar)."""
        before, after = self._right(self.exact), self._right(outputs)
        lost, won = int((before & ~after).sum()), int((~before & after).sum())
        return 196 * math.sqrt(max(0.0, lost + won - (lost - won) ** 2 / self.images)) / self.images

    def _right(self, outputs: Logits) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = outputs.argmax(1) == self.labels
        return right
