"""Fit a temperature, prediction sets and a threshold for unknown images to the logits of validation images.

Three numbers say how far a probability can be trusted; all are fitted to images that were not trained on:

- The temperature T divides the logits, so that probabilities agree with frequencies (Guo et al. 2017, arXiv
  1706.04599). The negative log-likelihood is convex in 1 / T, so it has one minimum.
- A prediction set holds every class with at least a threshold probability. The threshold is a quantile of the
  probabilities of the right classes (split conformal prediction with the score 1 - p; Sadinle, Lei and Wasserman 2019,
  arXiv 1609.00451). Of all scores, this one has the smallest sets on average at a given coverage; adaptive sets
  (Romano et al. 2020) are larger, and either random or too wide. One number for all classes can be applied by any
  program that reads an exported file. What it does not promise is the coverage of each class.
- An image is called unknown if its negative energy is below a threshold (Liu et al. 2020, arXiv 2010.03759), again a
  quantile. The highest probability (Hendrycks and Gimpel 2017) only says which class is likelier than others, not
  whether any is likely; ``benchmarks/confidence.py`` compares the two.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax
from scipy.stats import rankdata

from triscale.network.contract import Confidence, Decision, Link
from triscale.nn.probabilities import negative_energy, probabilities
from triscale.results.accuracy_gap import Z_95
from triscale.results.confidence import Calibration, ConfidenceCheck
from triscale.training.metrics import calibration_error, reliability, wilson
from triscale.training.multi_label import Floats, Marks, marks_of

MIN_TEMPERATURE_IMAGES = 20
"""With fewer validation images the temperature stays 1."""
_EDGE = 1e-9
_MAX_DOUBLINGS = 60
"""The search for a bracket ends at 1 / T = 2^60, where probabilities are 0 or 1."""


def fit_calibration(
    logits: NDArray[np.float32], labels: NDArray[np.int64], decision: Decision, coverage: float, kept: float
) -> Calibration:
    """Fit all that a calibration is made of to validation images.

    Args:
        logits: ``[N, classes]``, N at least 1.
        labels: Their classes ``[N]``, or labels ``[N, K]`` padded with -1.
        decision: How logits become probabilities.
        coverage: Share of images whose prediction set is to contain the class, or all labels.
        kept: Share of images that are not to be called unknown.

    Example:
        >>> logits = np.array([[2.0, 0.0]] * 90 + [[0.0, 2.0]] * 10, np.float32)
        >>> found = fit_calibration(logits, np.zeros(100, np.int64), Decision(), 0.9, 0.95)
        >>> round(found.confidence.temperature, 3)  # logits that differ by log(9) give 90%
        0.91
    """
    scores, marks = logits.astype(np.float64), _marks(labels, logits.shape[1])
    notes = []
    temperature, note = fit_temperature(scores, marks, decision.link)
    if note:
        notes.append(note)
    likely = _probabilities(scores, decision.link, temperature)
    set_threshold = conformal_threshold(lowest_of_labels(likely, marks), coverage)
    unknown_threshold = conformal_threshold(negative_energies(logits, decision.link), kept)
    if set_threshold is None:
        notes.append(f"there are no prediction sets: {_too_few(len(scores), coverage)}")
    if unknown_threshold is None:
        notes.append(f"no image is called unknown: {_too_few(len(scores), kept)}")
    confidence = Confidence(
        temperature=temperature,
        coverage=coverage,
        set_threshold=set_threshold,
        kept=kept,
        unknown_threshold=unknown_threshold,
    )
    raw = _probabilities(scores, decision.link)
    return Calibration(
        confidence=confidence,
        images=len(scores),
        loss_before=_loss(scores, marks, decision.link),
        loss_after=_loss(scores / temperature, marks, decision.link),
        calibration_error_before=_error(raw, marks, decision.link),
        calibration_error_after=_error(likely, marks, decision.link),
        notes=tuple(notes),
    )


def check_confidence(
    logits: NDArray[np.float32], labels: NDArray[np.int64], decision: Decision
) -> ConfidenceCheck | None:
    """Return what a calibration is worth on the images of a split; None if the decision has none.

    Args:
        logits: Of the network, not divided by the temperature, ``[N, classes]``.
        labels: Their classes ``[N]``, or labels ``[N, K]`` padded with -1.
        decision: The decision with its calibration.
    """
    confidence = decision.confidence
    if confidence is None:
        return None
    scores, marks = logits.astype(np.float64), _marks(labels, logits.shape[1])
    rows = _probabilities(scores, decision.link, confidence.temperature)
    fields: dict[str, float] = {}
    if confidence.set_threshold is not None:
        members = rows >= confidence.set_threshold
        if decision.link == "softmax":
            members[np.arange(len(rows)), rows.argmax(1)] = True
        sizes, hits = members.sum(1), int((members | ~marks).all(1).sum())
        low, high = wilson(hits, len(rows))
        fields |= {
            "coverage": confidence.coverage,
            "covered": hits / len(rows),
            "covered_low": low,
            "covered_high": high,
            "mean_set_size": float(sizes.mean()),
            "single_share": float((sizes == 1).mean()),
        }
    if confidence.unknown_threshold is not None:
        values = negative_energies(logits, decision.link)
        fields |= {"kept": confidence.kept, **called_unknown(values, confidence.unknown_threshold)}
    return ConfidenceCheck(
        temperature=confidence.temperature,
        loss_before=_loss(scores, marks, decision.link),
        calibration_error_before=_error(_probabilities(scores, decision.link), marks, decision.link),
        **fields,
    )


def fit_temperature(scores: Floats, marks: Marks, link: Link) -> tuple[float, str]:
    """Return the temperature that maximizes the likelihood of the labels; or 1, and why there is no such temperature.

    Args:
        scores: Logits ``[N, classes]``.
        marks: Which labels each image has, ``[N, classes]``.
        link: How logits become probabilities.
    """
    if len(scores) < MIN_TEMPERATURE_IMAGES:
        return 1.0, (
            f"the temperature stays 1: {len(scores)} validation images are too few to fit it, which needs "
            f"{MIN_TEMPERATURE_IMAGES}"
        )

    def slope(inverse: float) -> float:
        # The derivative of the negative log-likelihood by 1 / T. It rises, since the likelihood is log-concave.
        # It is the same for both links: they are the derivatives of logsumexp and of log(1 + exp(x)).
        return float(((_probabilities(inverse * scores, link) - marks) * scores).sum())

    if slope(0.0) >= 0:
        return 1.0, "the temperature stays 1: the network is no better than chance on the validation images"
    # With every label right there is no minimum: a lower temperature always makes the labels more likely.
    high = 1.0
    for _ in range(_MAX_DOUBLINGS):
        if slope(high) > 0:
            return 1.0 / float(brentq(slope, 0.0, high, xtol=1e-12, rtol=1e-12)), ""
        high *= 2
    return 1.0, "the temperature stays 1: all validation images are classified correctly, and it is fitted to errors"


def conformal_threshold(values: Floats, share: float) -> float | None:
    """Return the threshold that a new value reaches with at least a given probability; None for too few values.

    It is the k-th largest of N values with k = ceil((N + 1) share): a new value of the same distribution is equally
    likely to have each of the N + 1 ranks, so the probability is at least k / (N + 1) (Vovk et al. 2005; Angelopoulos
    and Bates 2021, arXiv 2107.07511).

    Example:
        >>> conformal_threshold(np.arange(1.0, 20.0), 0.9), conformal_threshold(np.arange(8.0), 0.9)
        (2.0, None)
    """
    rank = math.ceil((len(values) + 1) * Fraction(repr(float(share))))
    return None if rank > len(values) else float(np.sort(values)[len(values) - rank])


def lowest_of_labels(rows: Floats, marks: Marks) -> Floats:
    """Return the lowest probability among the labels of each image ``[N]``; 1 for an image without a label.

    The set of all classes with at least a threshold probability contains every label of an image if this reaches it.
    """
    lowest: Floats = np.where(marks, rows, 1.0).min(1)
    return lowest


def auroc(known: Floats, unknown: Floats) -> tuple[float, float, float]:
    """Return the area under the ROC curve of values that are to be higher for known images, with its 95% interval.

    The interval is method 5 of Newcombe (2006, doi 10.1002/sim.2324). It stays within 0 and 1, and has a width also if
    all values are separated.

    Example:
        >>> [round(value, 3) for value in auroc(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))]
        [0.944, 0.448, 0.997]
    """
    m, n = len(known), len(unknown)
    # Mann and Whitney's U: the sum of the ranks, less what the known values take among themselves.
    area = float((rankdata(np.concatenate([known, unknown]))[:m].sum() - m * (m + 1) / 2) / (m * n))
    extra = (m + n) / 2 - 1

    def excess(theta: float, sign: int) -> float:
        variance = theta * (1 - theta) * (1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (m * n)
        return sign * (theta - area) - Z_95 * math.sqrt(variance)

    # Beyond the estimate, the distance grows faster than the deviation: each end is the only root on its side.
    # At 0 and 1 the deviation is 0 too, which would be a second root.
    low = 0.0 if area == 0 else float(brentq(excess, 0.0, min(area, 1 - _EDGE), args=(-1,)))
    high = 1.0 if area == 1 else float(brentq(excess, max(area, _EDGE), 1.0, args=(1,)))
    return area, low, high


def negative_energies(logits: NDArray[np.float32], link: Link) -> Floats:
    """Return the negative energy of each image ``[N]``; see :func:`triscale.nn.probabilities.negative_energy`."""
    values: Floats = negative_energy(torch.from_numpy(logits), link).numpy()
    return values


def called_unknown(values: Floats, threshold: float) -> dict[str, float]:
    """Return the share of images whose negative energy is below a threshold, with its interval, as fields."""
    number = int((values < threshold).sum())
    low, high = wilson(number, len(values))
    return {"called_unknown": number / len(values), "called_unknown_low": low, "called_unknown_high": high}


def _probabilities(scores: Floats, link: Link, temperature: float = 1.0) -> Floats:
    rows: Floats = probabilities(torch.from_numpy(scores), link, temperature).numpy()
    return rows


def _marks(labels: NDArray[np.int64], classes: int) -> Marks:
    return marks_of(labels[:, None] if labels.ndim == 1 else labels, classes)


def _loss(scores: Floats, marks: Marks, link: Link) -> float:
    """Return the cross-entropy in nats; with several labels, summed over the classes of an image."""
    if link == "sigmoid":
        return float((np.logaddexp(0, scores) - scores * marks).sum(1).mean())
    return float(-log_softmax(scores, axis=1)[marks].mean())


def _error(rows: Floats, marks: Marks, link: Link) -> float:
    if link == "sigmoid":
        return calibration_error(reliability(rows.ravel(), marks.ravel()))
    best = rows.argmax(1)
    return calibration_error(reliability(rows.max(1), marks[np.arange(len(rows)), best]))


def _too_few(images: int, share: float) -> str:
    """Return why a share cannot be had from so few images: ceil((N + 1) s) is at most N from N = s / (1 - s)."""
    exact = Fraction(repr(float(share)))
    return (
        f"{share:.4g} of the images requires {math.ceil(exact / (1 - exact))} validation images, and there are {images}"
    )
