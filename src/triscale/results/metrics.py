"""Accuracy, per-class metrics and calibration of one evaluation."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from triscale.record import Record


class ClassMetrics(Record):
    """Precision, recall and F1 of one class; 0 where the denominator is 0."""

    name: str
    count: int
    precision: float
    recall: float
    f1: float


class Bin(Record):
    """Predictions whose confidence lies in (low, high]: mean confidence and accuracy."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


class Metrics(Record):
    """Metrics on one split. Accuracies are shares from 0 to 1.

    ``top1_low`` and ``top1_high`` are a 95% interval (Wilson 1927). ``top5`` is None for up to five classes. ``loss``
    is the mean cross-entropy in nats. ``calibration_error`` is the expected calibration error over 15 equal-width bins
    of confidence (Guo et al. 2017). In ``confusion``, rows are true classes and columns predicted classes.
    ``better_than_guessing`` is whether the interval lies above the accuracy of always predicting the most frequent
    class; None in files of earlier versions.
    """

    kind_name: ClassVar[str] = "metrics"
    schema_number: ClassVar[int] = 2

    split: str
    count: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float | None
    mean_class_accuracy: float
    loss: float
    calibration_error: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[Bin, ...]
    better_than_guessing: bool | None = None

    @model_validator(mode="after")
    def _check_confusion(self) -> Self:
        size = len(self.confusion)
        if size and (any(len(row) != size for row in self.confusion) or size != len(self.per_class)):
            raise ValueError(f"confusion must have {len(self.per_class)} rows and columns, one per entry of per_class")
        return self

    @property
    def majority_share(self) -> float | None:
        """The accuracy of always predicting the most frequent class; None without a confusion matrix."""
        return max(map(sum, self.confusion)) / self.count if self.confusion and self.count else None

    @property
    def is_guessing(self) -> bool:
        """Whether the interval contains the accuracy of always predicting the most frequent class, or lies below it."""
        chance = self.majority_share
        return chance is not None and self.top1_low <= chance


GUESSING = "not distinguishable from guessing"
"""The name of such a result, wherever it is shown."""


def guessing_note(metrics: object) -> str:
    """Return a sentence about a result that is not distinguishable from guessing; empty for any other result.

    Args:
        metrics: Metrics of any kind, or None.
    """
    if not isinstance(metrics, Metrics) or not metrics.is_guessing:
        return ""
    return (
        f"The result is {GUESSING}: always predicting the most frequent class gives {metrics.majority_share:.1%}, and "
        f"the 95% interval of the accuracy begins at {metrics.top1_low:.1%}."
    )
