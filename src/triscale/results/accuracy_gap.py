"""The difference in accuracy of two sets of predictions for the same images, with its interval."""

from __future__ import annotations

import math

from triscale.record import Record

Z_95 = 1.959963984540054
"""Quantile of the normal distribution for a 95% interval."""


class AccuracyGap(Record):
    """The accuracy of a reference minus that of another on the same images, with a 95% interval over the images."""

    share: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0, so that the two are not tied."""
        return self.low > 0


def paired_gap(lost: int, gained: int, count: int, z: float = Z_95) -> AccuracyGap:
    """Return the difference in accuracy between a reference and another on the same images.

    The interval is that for matched pairs of Agresti & Min 2005 (Statistics in Medicine 24, 729-740), which adds half
    an image to each of the four cells of the contingency table. It covers the choice of images, not the variation
    between trainings of the same networks.

    Args:
        lost: Images that only the reference predicts correctly.
        gained: Images that only the other predicts correctly.
        count: All images, at least 1.
        z: Quantile of the normal distribution; the default gives a 95% interval.

    Example:
        >>> gap = paired_gap(1, 0, 240)
        >>> f"{gap.share:.2%} ({gap.low:.2%} to {gap.high:.2%})"
        '0.42% (-0.73% to 1.56%)'
    """
    difference = lost - gained
    center = difference / (count + 2)
    half = z * math.sqrt(lost + gained + 1 - difference * difference / (count + 2)) / (count + 2)
    return AccuracyGap(share=difference / count, low=center - half, high=center + half)
