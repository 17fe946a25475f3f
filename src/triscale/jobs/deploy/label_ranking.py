"""How much mean average precision an int8 file loses, for images with any number of labels."""

from __future__ import annotations

import numpy as np

from triscale.deploy.quantize.judge import Judge, Logits
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

    def half_width(self, outputs: Logits) -> float:
        """Return the half-width of a 95% interval of the loss, by bootstrap over the images."""
        generator = np.random.default_rng(0)
        losses = []
        for _ in range(RESAMPLES):
            drawn = generator.integers(0, self.images, self.images)
            losses.append(LabelRanking(self.exact[drawn], self.labels[drawn]).loss(outputs[drawn]))
        return float(1.96 * np.std(losses))
