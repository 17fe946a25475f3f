"""The result of a cross-validation: the accuracy on each fold, and over all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import ClassVar

from scipy.special import stdtrit

from triscale.record import Record
from triscale.results.metrics import Metrics

CAUTION = (
    "the networks of the folds share most of their training images, so that both intervals are too narrow; do not "
    "judge small differences between recipes by them"
)
GROUPS_CAUTION = (
    "images of one group resemble each other, which the Wilson interval ignores; go by the interval over the folds"
)


class FoldResult(Record):
    """The test result of one fold.

    Attributes:
        number: From 1 to the number of folds.
        folder: The run, relative to the folder of the cross-validation.
        count: Number of test images.
        top1: Accuracy on them, from 0 to 1.
        mean_class_accuracy: Mean of the accuracies of the classes.
        loss: Mean cross-entropy in nats.
    """

    number: int
    folder: str
    count: int
    top1: float
    mean_class_accuracy: float
    loss: float


class FoldsSummary(Record):
    """The result of a cross-validation.

    Attributes:
        images: The data set.
        network: The name of the network.
        num_folds: The number of folds.
        folds: The result of each.
        count: Number of tested images, each in one fold.
        top1: Share of them that is classified correctly.
        top1_low: Lower end of the 95% interval of ``top1`` (Wilson 1927), as for independent images.
        top1_high: Its upper end.
        mean: Mean of the accuracies of the folds, each with the same weight.
        deviation: Standard deviation of the accuracies of the folds (divided by the number of folds less one).
        mean_low: Lower end of the 95% interval of ``mean``, by Student's t distribution over the folds; None if all
            folds have the same accuracy, which says nothing about its spread.
        mean_high: Its upper end.
        mean_class_accuracy: Mean over the folds of the mean accuracy of the classes.
        how: How the images were divided.
        caution: What the intervals do not cover.
    """

    kind_name: ClassVar[str] = "folds"

    images: str
    network: str
    num_folds: int
    folds: tuple[FoldResult, ...]
    count: int
    top1: float
    top1_low: float
    top1_high: float
    mean: float
    deviation: float
    mean_low: float | None
    mean_high: float | None
    mean_class_accuracy: float
    how: str
    caution: str


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% interval of a mean by Student's t distribution, within 0 and 1; None if all values are equal.

    Args:
        values: At least two accuracies.

    Example:
        >>> low, high = t_interval([0.8, 0.9, 0.85])
        >>> f"{low:.3f}-{high:.3f}"
        '0.726-0.974'
    """
    if len(set(values)) == 1:
        return None
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))
    return max(0.0, statistics.mean(values) - half), min(1.0, statistics.mean(values) + half)


def fold_result(number: int, folder: str, metrics: Metrics) -> FoldResult:
    """Return the result of a fold from its metrics.

    Args:
        number: The number of the fold.
        folder: Its run.
        metrics: The metrics on its test images.
    """
    return FoldResult(
        number=number,
        folder=folder,
        count=metrics.count,
        top1=metrics.top1,
        mean_class_accuracy=metrics.mean_class_accuracy,
        loss=metrics.loss,
    )
