"""The calibration of a run by its validation images, and what it is worth on other images."""

from __future__ import annotations

from typing import ClassVar

from triscale.network.contract import Confidence
from triscale.record import Record


class ConfidenceCheck(Record):
    """What the calibration of a network is worth on the images of one split.

    Attributes:
        temperature: The temperature.
        loss_before: The loss without it; that with it is the loss of the metrics.
        calibration_error_before: The expected calibration error without it; that with it is that of the metrics.
        coverage: Share of images whose prediction set was to contain the class, or all labels; None without sets.
        covered: Share of images whose prediction set does, with a 95% Wilson interval.
        mean_set_size: Mean number of classes of a prediction set.
        single_share: Share of images with exactly one class in their set.
        kept: Share of images that were not to be called unknown; None without a threshold.
        called_unknown: Share of images that are called unknown, with a 95% Wilson interval.
    """

    temperature: float
    loss_before: float
    calibration_error_before: float
    coverage: float | None = None
    covered: float | None = None
    covered_low: float | None = None
    covered_high: float | None = None
    mean_set_size: float | None = None
    single_share: float | None = None
    kept: float | None = None
    called_unknown: float | None = None
    called_unknown_low: float | None = None
    called_unknown_high: float | None = None


class UnknownImages(Record):
    """How well the negative energy separates validation images from images of other things.

    Attributes:
        folder: Name of the folder of the other images.
        images: Number of them.
        unreadable: Number of files that could not be read.
        auroc: Area under the ROC curve: the probability that a validation image has a higher value than one of the
            other images; ties count half. 0.5 is chance.
        auroc_low: Lower end of its 95% interval (Newcombe 2006, method 5).
        auroc_high: Upper end.
        called_unknown: Share of the other images that are called unknown, with a 95% Wilson interval; None without a
            threshold.
    """

    folder: str
    images: int
    unreadable: int
    auroc: float
    auroc_low: float
    auroc_high: float
    called_unknown: float | None = None
    called_unknown_low: float | None = None
    called_unknown_high: float | None = None


class Calibration(Record):
    """The calibration of a run: what was fitted to its validation images, and how.

    Attributes:
        confidence: What was fitted; predictions use it.
        images: Number of validation images.
        loss_before: Their loss without the temperature.
        loss_after: Their loss with it.
        calibration_error_before: Their expected calibration error without it.
        calibration_error_after: Their expected calibration error with it.
        notes: Why there is no temperature, no prediction sets or no threshold.
        unknown: The measurement on images of other things; None without any.
    """

    kind_name: ClassVar[str] = "calibration"

    confidence: Confidence
    images: int
    loss_before: float
    loss_after: float
    calibration_error_before: float
    calibration_error_after: float
    notes: tuple[str, ...] = ()
    unknown: UnknownImages | None = None
