"""How much accuracy a file of lower precision loses, by the outputs of the float model and the labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from triscale.results.accuracy_gap import Z_95, AccuracyGap, paired_gap

Metric = Literal["top1", "mean_average_precision"]
Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judge(ABC):
    """Judges the outputs of a file for the same images as those of the float model.

    Attributes:
        exact: Logits of the float model ``[N, classes]``.
        labels: The right classes ``[N]``, or the labels ``[N, K]``, padded with -1.
        metric: Name of the score.
    """

    exact: Logits
    labels: NDArray[np.int64]

    metric: ClassVar[Metric]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.labels)

    @cached_property
    def exact_score(self) -> float:
        """The score of the float model, from 0 to 1."""
        return self.score(self.exact)

    @abstractmethod
    def score(self, outputs: Logits) -> float:
        """Return the score of logits ``[N, classes]``, from 0 to 1."""

    def loss(self, outputs: Logits) -> float:
        """Return how much lower the score is than that of the float model, in percentage points."""
        return 100 * (self.exact_score - self.score(outputs))

    @abstractmethod
    def gap(self, outputs: Logits, z: float = Z_95) -> AccuracyGap:
        """Return the loss of the score as a share, with its paired interval; by default of 95%."""

    def first(self, images: int) -> Self:
        """Return a judge of the first images only."""
        return replace(self, exact=self.exact[:images], labels=self.labels[:images])


class TopOne(Judge):
    """Judges by top-1 accuracy.

    Example:
        >>> judge = TopOne(np.eye(2, dtype=np.float32), np.array([0, 1]))
        >>> judge.exact_score, judge.loss(np.zeros((2, 2), np.float32))
        (1.0, 50.0)
    """

    metric = "top1"

    def score(self, outputs: Logits) -> float:
        """Return the top-1 accuracy."""
        return float(self._right(outputs).mean())

    def loss(self, outputs: Logits) -> float:
        """Return the loss of accuracy in percentage points, from whole numbers: a bound may equal it."""
        return 100 * (int(self._right(self.exact).sum()) - int(self._right(outputs).sum())) / self.images

    def gap(self, outputs: Logits, z: float = Z_95) -> AccuracyGap:
        """Return the loss of accuracy with its interval for paired predictions."""
        before, after = self._right(self.exact), self._right(outputs)
        return paired_gap(int((before & ~after).sum()), int((~before & after).sum()), self.images, z)

    def _right(self, outputs: Logits) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = outputs.argmax(1) == self.labels
        return right
