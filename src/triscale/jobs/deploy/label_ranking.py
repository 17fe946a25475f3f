"""How much mean average precision a file of lower precision loses, for images with any number of labels."""

from __future__ import annotations

import numpy as np

from triscale.deploy.quantize.judge import Judge, Logits
from triscale.results.accuracy_gap import Z_95, AccuracyGap
from triscale.training.multi_label import marks_of, mean_average_precision

RESAMPLES = 100


class LabelRanking(Judge):
    """Judges by mean average precision.

    Example:
        >>> judge = LabelRanking(np.eye(2, dtype=np.float32), np.array([[0], [1]]))
        >>> judge.exact_score, judge.loss(-judge.exact)
        (1.0, 50.0)
    """

    metric = "mean_average_precision"

    def score(self, outputs: Logits) -> float:
        """Return the mean average precision."""
        return mean_average_precision(outputs.astype(np.float64), marks_of(self.labels, outputs.shape[1]))

    def gap(self, outputs: Logits, z: float = Z_95) -> AccuracyGap:
        """Return the loss with its interval, by bootstrap over the images."""
        generator = np.random.default_rng(0)
        losses = []
        for _ in range(RESAMPLES):
            drawn = generator.integers(0, self.images, self.images)
            losses.append(LabelRanking(self.exact[drawn], self.labels[drawn]).loss(outputs[drawn]))
        share, half = self.loss(outputs) / 100, z * float(np.std(losses)) / 100
        return AccuracyGap(share=share, low=share - half, high=share + half)
