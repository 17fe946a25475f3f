"""Metrics of images with any number of labels: average precision, F1 by class, thresholds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from triscale.results.metrics import LabelMetrics, MultiLabelMetrics
from triscale.training.metrics import calibration_error, reliability, wilson

RESAMPLES = 200
"""Number of bootstrap resamples of the images for the interval of mean average precision."""
MIN_OWN_THRESHOLD = 5
"""Images with a label from which the class has a threshold of its own; others share one."""

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]


def marks_of(labels: NDArray[np.int64], classes: int) -> Marks:
    """Return which labels each image has, ``[N, classes]``, from their indices ``[N, K]``, padded with -1.

    Example:
        >>> marks_of(np.array([[0, 2], [1, -1]]), 3).astype(int).tolist()
        [[1, 0, 1], [0, 1, 0]]
    """
    marks = np.zeros((len(labels), classes + 1), dtype=bool)
    np.put_along_axis(marks, np.where(labels < 0, classes, labels), True, axis=1)
    return marks[:, :classes]


def average_precision(scores: Floats, marks: Marks, weights: Floats | None = None) -> Floats:
    """Return the average precision of each class; NaN for a class without a label.

    It is the sum over ranks of precision times the increase of recall, without interpolation; images with equal scores
    share a rank.

    Args:
        scores: ``[N, classes]``.
        marks: Which labels each image has, ``[N, classes]``.
        weights: How often each image counts, ``[N]``; by default once.

    Example:
        >>> average_precision(np.array([[0.9], [0.8], [0.7]]), np.array([[True], [False], [True]])).round(4).tolist()
        [0.8333]
    """
    weights = np.ones(len(scores)) if weights is None else weights
    return np.array([_ranked(*_rank(scores[:, c], marks[:, c]), weights) for c in range(scores.shape[1])])


def mean_average_precision(scores: Floats, marks: Marks) -> float:
    """Return the mean of the average precisions of all classes with at least one label; 0 without any."""
    values = average_precision(scores, marks)
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 0.0


def choose_thresholds(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, ...]:
    """Return for each class the probability from which an image gets the label: that with the highest F1.

    The threshold lies halfway between two neighboring probabilities. A class with fewer than
    :data:`MIN_OWN_THRESHOLD` labels has the threshold with the highest F1 over all classes together.

    Args:
        logits: Of the validation images, ``[N, classes]``.
        labels: Their labels ``[N, K]``, padded with -1.

    Example:
        >>> logits = np.array([[2.0]] * 5 + [[0.0]] * 5, np.float32)
        >>> [round(value, 3) for value in choose_thresholds(logits, np.array([[0]] * 5 + [[-1]] * 5))]
        [0.69]
    """
    probabilities = expit(logits.astype(np.float64))
    marks = marks_of(labels, logits.shape[1])
    shared = _best_threshold(probabilities.ravel(), marks.ravel())
    return tuple(
        _best_threshold(probabilities[:, c], marks[:, c]) if marks[:, c].sum() >= MIN_OWN_THRESHOLD else shared
        for c in range(marks.shape[1])
    )


def measure_labels(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    thresholds: tuple[float, ...],
    split: str,
) -> MultiLabelMetrics:
    """Compute the metrics of predictions for images with any number of labels.

    Args:
        logits: ``[N, classes]``, N at least 1.
        labels: Indices of the labels ``[N, K]``, padded with -1.
        classes: Names of the classes in order.
        thresholds: Probability of each class from which an image gets the label.
        split: Name of the split.

    Example:
        >>> logits = np.array([[3.0, -3.0], [3.0, 3.0]], np.float32)
        >>> measure_labels(logits, np.array([[0, -1], [0, 1]]), ("cat", "dog"), (0.5, 0.5), "test").exact_match
        1.0
    """
    marks, scores = marks_of(labels, len(classes)), logits.astype(np.float64)
    probabilities = expit(scores)
    predicted = probabilities >= np.array(thresholds)
    precisions = average_precision(scores, marks)
    hits, counts, guessed = (marks & predicted).sum(0), marks.sum(0), predicted.sum(0)
    per_class = tuple(
        LabelMetrics(
            name=name,
            count=int(counts[c]),
            average_precision=None if np.isnan(precisions[c]) else float(precisions[c]),
            threshold=thresholds[c],
            precision=float(hits[c] / guessed[c]) if guessed[c] else 0.0,
            recall=float(hits[c] / counts[c]) if counts[c] else 0.0,
            f1=float(2 * hits[c] / (counts[c] + guessed[c])) if counts[c] + guessed[c] else 0.0,
        )
        for c, name in enumerate(classes)
    )
    present = [row.f1 for row in per_class if row.f1 is not None]
    exact = int((predicted == marks).all(1).sum())
    low, high = _interval(scores, marks)
    exact_low, exact_high = wilson(exact, len(marks))
    total = int(counts.sum() + guessed.sum())
    # log(1 + exp(x)) - x y, summed over the classes of each image
    losses = np.logaddexp(0, scores) - scores * marks
    bins = reliability(probabilities.ravel(), marks.ravel())
    return MultiLabelMetrics(
        split=split,
        count=len(marks),
        mean_average_precision=mean_average_precision(scores, marks),
        map_low=low,
        map_high=high,
        micro_f1=2 * int(hits.sum()) / total if total else 0.0,
        macro_f1=sum(present) / max(1, len(present)),
        exact_match=exact / len(marks),
        exact_match_low=exact_low,
        exact_match_high=exact_high,
        label_share=float(marks.mean()),
        loss=float(losses.sum(1).mean()),
        calibration_error=calibration_error(bins),
        per_class=per_class,
        reliability=bins,
    )


def _rank(scores: Floats, marks: Marks) -> tuple[NDArray[np.int64], Marks, NDArray[np.int64]]:
    """Return the order of descending scores, the marks in it, and the last position of each group of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    return order, marks[order], np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)


def _ranked(order: NDArray[np.int64], marks: Marks, ends: NDArray[np.int64], weights: Floats) -> float:
    ordered = weights[order]
    hits, seen = np.cumsum(ordered * marks)[ends], np.cumsum(ordered)[ends]
    if not len(hits) or hits[-1] == 0:
        return float("nan")
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])


def _interval(scores: Floats, marks: Marks) -> tuple[float, float]:
    """Return a 95% interval of mean average precision: percentiles of bootstrap resamples of the images."""
    ranked = [_rank(scores[:, c], marks[:, c]) for c in range(scores.shape[1]) if marks[:, c].any()]
    if not ranked:
        return 0.0, 0.0
    generator = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        weights = np.bincount(generator.integers(0, len(scores), len(scores)), minlength=len(scores)).astype(float)
        values = np.array([_ranked(*one, weights) for one in ranked])
        if not np.isnan(values).all():
            means.append(float(np.nanmean(values)))
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _best_threshold(probabilities: Floats, marks: Marks) -> float:
    """Return the threshold with the highest F1; 0.5 without a label."""
    if not marks.any():
        return 0.5
    order, ordered, ends = _rank(probabilities, marks)
    hits = np.cumsum(ordered)[ends]
    f1 = 2 * hits / (ends + 1 + marks.sum())
    best = int(np.argmax(f1))
    lowest = float(probabilities[order[ends[best]]])
    below = float(probabilities[order[ends[best + 1]]]) if best + 1 < len(ends) else 0.0
    return (lowest + below) / 2
