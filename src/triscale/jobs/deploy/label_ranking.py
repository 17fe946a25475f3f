"""How much mean average precision an int8 file loses, for images with any number of labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.quantize.judge import Metric
from triscale.training.multi_label import marks_of, mean_average_precision

RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class LabelRanking:
    """Judges by mean average precision; see :class:`triscale.deploy.quantize.judge.Judge`.

    Attributes:
        exact: Logits of the float model ``[N, classes]``.
        labels: The labels ``[N, K]``, padded with -1.

    Example:
        >>> judge = LabelRanking(np.eye(2, dtype=np.float32), np.array([[0], [1]]))
        >>> judge.score(judge.exact), judge.loss(-judge.exact)
        (1.0, 50.0)
    """

    exact: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def metric(self) -> Metric:
        """Name of the score."""
        return "mean_average_precision"

    def score(self, outputs: NDArray[np.float32]) -> float:
        """Return the mean average precision."""
        return mean_average_precision(outputs.astype(np.float64), marks_of(self.labels, outputs.shape[1]))

    def loss(self, outputs: NDArray[np.float32]) -> float:
        """Return the loss of mean average precision in percentage points."""
        return 100 * (self.score(self.exact) - self.score(outputs))

    def half_width(self, outputs: NDArray[np.float32]) -> float:
        """Return the half-width of a 95% interval of the loss, by bootstrap over the images."""
        marks, generator = marks_of(self.labels, outputs.shape[1]), np.random.default_rng(0)
        losses = []
        for _ in range(RESAMPLES):
            drawn = generator.integers(0, self.images, self.images)
            before, after = (
                mean_average_precision(logits[drawn].astype(np.float64), marks[drawn])
                for logits in (self.exact, outputs)
            )
            losses.append(100 * (before - after))
        return float(1.96 * np.std(losses))
