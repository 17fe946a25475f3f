"""Accuracy, per-class metrics and calibration of one evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator

from triscale.record import KIND_KEY, Record
from triscale.results.confidence import ConfidenceCheck

IMBALANCED = 2.0
"""Ratio of the most frequent to the rarest class beyond which accuracy alone misleads."""


class ClassMetrics(Record):
    """Precision, recall and F1 of one class.

    They are 0 where the denominator is 0, but None for a class without images, which has no such figures; files of
    earlier versions state 0 there and are read as None.
    """

    name: str
    count: int
    precision: float | None
    recall: float | None
    f1: float | None

    @model_validator(mode="before")
    @classmethod
    def _measure_nothing_without_images(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("count") == 0:
            return data | {"precision": None, "recall": None, "f1": None}
        return data


class LabelMetrics(ClassMetrics):
    """One class of images with any number of labels.

    ``count`` images have the label. ``average_precision`` is None without any. An image is given the label if its
    probability is at least ``threshold``.
    """

    average_precision: float | None
    threshold: float

    @property
    def weakness(self) -> float:
        """Order of a table with the weakest class first; classes without images come last."""
        return 2.0 if self.average_precision is None else self.average_precision


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
    class; None in files of earlier versions. Probabilities are calibrated if there is ``confidence``, which is None
    before a calibration.
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
    confidence: ConfidenceCheck | None = None

    @model_validator(mode="after")
    def _check_confusion(self) -> Self:
        size = len(self.confusion)
        if size and (any(len(row) != size for row in self.confusion) or size != len(self.per_class)):
            raise ValueError(f"confusion must have {len(self.per_class)} rows and columns, one per entry of per_class")
        return self

    @property
    def score(self) -> float:
        """The metric that is compared: top-1 accuracy."""
        return self.top1

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the score."""
        return self.top1_low, self.top1_high

    @property
    def summary(self) -> str:
        """The score in words; with imbalanced classes, also the balanced accuracy."""
        balanced = f", balanced accuracy {self.mean_class_accuracy:.1%}" if self.is_imbalanced else ""
        return f"top-1 {self.top1:.1%} of {self.count} {self.split} images{balanced}"

    @property
    def is_imbalanced(self) -> bool:
        """Whether the most frequent class has more than twice as many images as the rarest."""
        counts = [row.count for row in self.per_class if row.count]
        return len(counts) > 1 and max(counts) > IMBALANCED * min(counts)

    @property
    def majority_share(self) -> float | None:
        """The accuracy of always predicting the most frequent class; None without a confusion matrix."""
        return max(map(sum, self.confusion)) / self.count if self.confusion and self.count else None

    @property
    def is_guessing(self) -> bool:
        """Whether the interval contains the accuracy of always predicting the most frequent class, or lies below it."""
        chance = self.majority_share
        return chance is not None and self.top1_low <= chance


class MultiLabelMetrics(Record):
    """Metrics on one split of images with any number of labels. All but ``loss`` are shares from 0 to 1.

    ``mean_average_precision`` is the mean over the classes that occur of the area under precision against recall,
    without interpolation; ``map_low`` and ``map_high`` are a 95% interval, percentiles of bootstrap resamples of the
    images. ``micro_f1`` counts the labels of all classes together, ``macro_f1`` is the mean of the classes that occur.
    ``exact_match`` is the share of images with exactly the right labels, with a 95% Wilson interval. ``label_share`` is
    the share of all image-class pairs that are labels. ``loss``
    is the binary cross-entropy in nats, summed over the classes of an image. ``calibration_error`` is the expected
    calibration error of all probabilities over 15 equal-width bins. Probabilities are calibrated if there is
    ``confidence``, which is None before a calibration.
    """

    kind_name: ClassVar[str] = "multi_label_metrics"

    split: str
    count: int
    mean_average_precision: float
    map_low: float
    map_high: float
    micro_f1: float
    macro_f1: float
    exact_match: float
    exact_match_low: float
    exact_match_high: float
    label_share: float
    loss: float
    calibration_error: float
    per_class: tuple[LabelMetrics, ...]
    reliability: tuple[Bin, ...]
    confidence: ConfidenceCheck | None = None

    @property
    def score(self) -> float:
        """The metric that is compared: mean average precision."""
        return self.mean_average_precision

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the score."""
        return self.map_low, self.map_high

    @property
    def summary(self) -> str:
        """The score in words."""
        return f"mean average precision {self.mean_average_precision:.1%} on {self.count} {self.split} images"

    @property
    def chance(self) -> float:
        """The mean average precision of guessing: the mean share of images with a label, over the labels that occur.

        A label that is on every image gives 100%, whatever the order of the images.
        """
        shares = [row.count / self.count for row in self.per_class if row.count]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def is_guessing(self) -> bool:
        """Whether the interval contains the mean average precision of guessing, or lies below it."""
        return self.map_low <= self.chance

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability of each class from which an image is given the label."""
        return tuple(row.threshold for row in self.per_class)


AnyMetrics = Metrics | MultiLabelMetrics


def percent_or_dash(share: float | None) -> str:
    """Return a figure of a class as a percentage; a dash where there is none.

    Example:
        >>> percent_or_dash(0.5), percent_or_dash(None)
        ('50.0%', '-')
    """
    return "-" if share is None else f"{share:.1%}"


def missed_classes(metrics: AnyMetrics) -> tuple[str, ...]:
    """Return the classes with images of which none is recognized."""
    return tuple(row.name for row in metrics.per_class if row.count and row.recall == 0)


def load_metrics(file: Path) -> AnyMetrics:
    """Load the metrics of images with one class, or with any number of labels.

    Raises:
        RecordError: The file does not exist or is damaged.
    """
    try:
        kind = json.loads(file.read_bytes()).get(KIND_KEY)
    except (OSError, ValueError, AttributeError):
        kind = None
    return MultiLabelMetrics.load(file) if kind == MultiLabelMetrics.kind_name else Metrics.load(file)


GUESSING = "not distinguishable from guessing"
"""The name of such a result, wherever it is shown."""


def guessing_note(metrics: AnyMetrics | None) -> str:
    """Return a sentence about a result that is not distinguishable from guessing; empty for any other result.

    Args:
        metrics: The metrics; None before an evaluation.
    """
    if metrics is None or not metrics.is_guessing:
        return ""
    if isinstance(metrics, MultiLabelMetrics):
        return (
            f"The result is {GUESSING}: a random order of the images gives {metrics.chance:.1%}, and the 95% "
            f"interval of the mean average precision begins at {metrics.map_low:.1%}."
        )
    return (
        f"The result is {GUESSING}: always predicting the most frequent class gives {metrics.majority_share:.1%}, and "
        f"the 95% interval of the accuracy begins at {metrics.top1_low:.1%}."
    )
