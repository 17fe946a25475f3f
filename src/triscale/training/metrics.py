"""Evaluation metrics: accuracy with a confidence interval, per-class metrics, calibration."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from triscale.results.accuracy_gap import Z_95
from triscale.results.metrics import Bin, ClassMetrics, Metrics

CALIBRATION_BINS = 15


def measure_predictions(
    logits: NDArray[np.floating], labels: NDArray[np.int64], classes: tuple[str, ...], part: str
) -> Metrics:
    """Compute the metrics of predictions.

    Args:
        logits: Shape ``[N, classes]``, N at least 1.
        labels: Shape ``[N]``, indices of the right classes.
        classes: Names of the classes in order.
        part: Name of the split.

    Example:
        >>> measure_predictions(np.eye(2, dtype=np.float32), np.array([0, 1]), ("cat", "dog"), "val").top1
        1.0
    """
    count, num_classes = logits.shape
    log_probabilities = _log_softmax(logits.astype(np.float64))
    predicted = logits.argmax(1)
    correct = predicted == labels
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    per_class = _per_class(confusion, classes)
    low, high = wilson(int(correct.sum()), count)
    bins = reliability(np.exp(log_probabilities.max(1)), correct)
    present = [row.recall for row in per_class if row.recall is not None]
    return Metrics(
        split=part,
        count=count,
        top1=float(correct.mean()),
        top1_low=low,
        top1_high=high,
        top5=_top(logits, labels, 5) if num_classes > 5 else None,
        mean_class_accuracy=sum(present) / len(present),
        loss=float(-log_probabilities[np.arange(count), labels].mean()),
        calibration_error=calibration_error(bins),
        per_class=per_class,
        confusion=tuple(tuple(int(value) for value in row) for row in confusion),
        reliability=bins,
        better_than_guessing=bool(low > confusion.sum(1).max() / count),
    )


def wilson(successes: float, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927).

    Args:
        successes: Number of successes; a fraction if a trial can succeed in part.
        trials: Number of trials, at least 1.
        z: Quantile of the normal distribution; the default gives a 95% interval.

    Example:
        >>> low, high = wilson(90, 100)
        >>> f"{low:.3f}-{high:.3f}"
        '0.826-0.945'
    """
    # center = (p + z^2 / 2n) / (1 + z^2 / n), half = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)
    share, square = successes / trials, z * z
    center = (share + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    return max(0.0, center - half), min(1.0, center + half)


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # Subtracting the maximum keeps exp() from overflowing.
    shifted = logits - logits.max(1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def _top(logits: NDArray[np.floating], labels: NDArray[np.int64], number: int) -> float:
    """Return top-k accuracy for k = ``number``; tied logits rank in favor of the lower class index."""
    of_label = logits[np.arange(len(labels)), labels][:, None]
    lower_index = np.arange(logits.shape[1])[None, :] < labels[:, None]
    ahead = (logits > of_label) | ((logits == of_label) & lower_index)
    return float((ahead.sum(1) < number).mean())


def _per_class(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    rows = []
    for index, name in enumerate(classes):
        # Rows of the confusion matrix are true classes, columns are predictions.
        hits, count, predicted = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
        rows.append(
            ClassMetrics(
                name=name,
                count=int(count),
                precision=float(hits / predicted) if predicted else 0.0,
                recall=float(hits / count) if count else 0.0,
                f1=float(2 * hits / (count + predicted)) if count + predicted else 0.0,
            )
        )
    return tuple(rows)


def reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Return the accuracy of predictions by confidence, without empty bins (Guo et al. 2017, arXiv 1706.04599)."""
    # Bins are (low, high].
    bin_index = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    bins = []
    for index in range(CALIBRATION_BINS):
        in_bin = bin_index == index
        if in_bin.any():
            bins.append(
                Bin(
                    low=index / CALIBRATION_BINS,
                    high=(index + 1) / CALIBRATION_BINS,
                    confidence=float(confidence[in_bin].mean()),
                    accuracy=float(correct[in_bin].mean()),
                    count=int(in_bin.sum()),
                )
            )
    return tuple(bins)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy (Guo et al. 2017, eq. 3)."""
    return sum(item.count * abs(item.confidence - item.accuracy) for item in bins) / sum(item.count for item in bins)
