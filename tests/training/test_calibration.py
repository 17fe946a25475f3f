"""Temperature, prediction sets and unknown images against other minimizers, scikit-learn and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp, softmax
from scipy.stats import betabinom, binom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from triscale.network.contract import Confidence, Decision
from triscale.training.calibration import (
    MIN_TEMPERATURE_IMAGES,
    auroc,
    check_confidence,
    conformal_threshold,
    fit_calibration,
    fit_temperature,
    lowest_of_labels,
)
from triscale.training.multi_label import marks_of

SOFTMAX, SIGMOID = Decision(), Decision(link="sigmoid")


def one_class(seed: int, count: int, temperature: float, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax after division by the temperature is the distribution that the labels have."""
    rng = np.random.default_rng(seed)
    right = rng.normal(0, 2, (count, classes))
    labels = (softmax(right, axis=1).cumsum(1) < rng.random((count, 1))).sum(1)
    return (right * temperature).astype(np.float32), labels.astype(np.int64)


def several_labels(seed: int, count: int, temperature: float, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The same for any number of labels; the labels are padded with -1."""
    rng = np.random.default_rng(seed)
    right = rng.normal(-0.5, 1.5, (count, classes))
    marks = rng.random((count, classes)) < expit(right)
    labels = np.where(marks, np.arange(classes), -1)
    return (right * temperature).astype(np.float32), labels


def calibrated(logits, labels, link=SOFTMAX, coverage=0.9, kept=0.95):
    return fit_calibration(logits, labels, link, coverage, kept)


@given(st.integers(0, 10_000), st.floats(0.2, 5))
@settings(max_examples=25, deadline=None)
def test_temperature_agrees_with_a_direct_minimization_of_the_loss(seed, temperature):
    logits, labels = one_class(seed, 200, temperature)

    def loss(logarithm: float) -> float:
        return log_loss(labels, softmax(logits.astype(float) / np.exp(logarithm), axis=1), labels=range(5))

    found = calibrated(logits, labels)
    direct = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9})
    assert np.log(found.confidence.temperature) == pytest.approx(direct.x, abs=1e-4)
    assert found.loss_after == pytest.approx(direct.fun)
    assert found.loss_before == pytest.approx(loss(0.0))


def test_temperature_of_two_classes_is_a_logistic_regression_without_intercept():
    logits, labels = one_class(3, 400, 1.7, classes=2)
    margin = (logits[:, 1] - logits[:, 0])[:, None]
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(margin, labels)
    assert 1 / calibrated(logits, labels).confidence.temperature == pytest.approx(regression.coef_[0, 0], rel=1e-4)


def test_temperature_of_labels_is_a_logistic_regression_over_all_pairs():
    logits, labels = several_labels(5, 300, 2.5)
    marks = marks_of(labels, 4)
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logits.reshape(-1, 1), marks.ravel())
    found = calibrated(logits, labels, SIGMOID)
    assert 1 / found.confidence.temperature == pytest.approx(regression.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize(("made", "link"), [(one_class, SOFTMAX), (several_labels, SIGMOID)])
def test_known_temperature_is_recovered_and_removes_the_calibration_error(made, link, temperature):
    logits, labels = made(0, 20_000, temperature)
    found = calibrated(logits, labels, link)
    assert found.confidence.temperature == pytest.approx(temperature, rel=0.03)
    assert found.calibration_error_after < 0.015
    if temperature != 1.0:
        assert found.calibration_error_before > 5 * found.calibration_error_after
    assert found.notes == ()


def test_temperature_stays_1_where_there_is_nothing_to_fit():
    sure = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    for labels, what in ((np.arange(60) % 3, "all validation images are classified correctly"),
                         ((np.arange(60) + 1) % 3, "no better than chance")):  # fmt: skip
        found = calibrated(sure, labels)
        assert found.confidence.temperature == 1.0
        assert what in found.notes[0]
    logits, labels = one_class(0, MIN_TEMPERATURE_IMAGES - 1, 2.0)
    found = calibrated(logits, labels)
    assert found.confidence.temperature == 1.0
    assert "19 validation images are too few" in found.notes[0]
    assert fit_temperature(np.zeros((40, 3)), np.eye(3, dtype=bool)[np.arange(40) % 3], "softmax")[0] == 1.0


@given(st.integers(1, 400), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]), st.integers(0, 1000))
@settings(deadline=None)
def test_threshold_is_the_order_statistic_of_split_conformal_prediction(count, share, seed):
    values = np.random.default_rng(seed).random(count)
    found = conformal_threshold(values, share)
    # In whole numbers: the least k with 100 k >= (N + 1) times the percentage.
    rank = -(-(count + 1) * round(100 * share) // 100)
    if rank > count:
        assert found is None
    else:
        assert found == sorted(values, reverse=True)[rank - 1]
        assert (values >= found).mean() >= share


def test_coverage_of_new_images_has_the_distribution_of_theory():
    """Of new images, the covered ones are beta-binomial (Angelopoulos and Bates 2021, section 3.2)."""
    rng, count, new, share, trials = np.random.default_rng(0), 99, 200, 0.9, 2000
    rank = 90
    covered = []
    for _ in range(trials):
        threshold = conformal_threshold(rng.normal(size=count), share)
        covered.append(int((rng.normal(size=new) >= threshold).sum()))
    theory = betabinom(new, rank, count + 1 - rank)
    assert np.mean(covered) == pytest.approx(theory.mean(), abs=4 * theory.std() / trials**0.5)
    assert np.std(covered) == pytest.approx(theory.std(), rel=0.1)
    assert theory.mean() / new == pytest.approx(share)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
@pytest.mark.parametrize(("made", "link"), [(one_class, SOFTMAX), (several_labels, SIGMOID)])
def test_sets_and_threshold_keep_their_promises_on_new_images(made, link, coverage):
    """Each of 200 calibrations is tried on one new image, so that the trials are independent."""
    hits = kept = 0
    for seed in range(200):
        logits, labels = made(seed, 120, 2.0)
        found = calibrated(logits[:-1], labels[:-1], link, coverage, coverage)
        check = check_confidence(logits[-1:], labels[-1:], link.calibrated(found.confidence))
        hits += check.covered == 1
        kept += check.called_unknown == 0
    low, high = binom(200, coverage).interval(0.999)
    assert low <= hits
    assert low <= kept <= high
    if link is SIGMOID:  # the most probable class is in no set by itself, so the coverage is not above what was asked
        assert hits <= high


def test_set_without_the_most_probable_class_is_exact_for_one_class():
    hits = 0
    for seed in range(300):
        logits, labels = one_class(seed, 120, 1.0)
        rows = softmax(logits.astype(float), axis=1)
        lowest = lowest_of_labels(rows, marks_of(labels[:, None], 5))
        assert lowest == pytest.approx(rows[np.arange(120), labels])
        hits += lowest[-1] >= conformal_threshold(lowest[:-1], 0.9)
    low, high = binom(300, 0.9).interval(0.999)
    assert low <= hits <= high


def test_too_few_images_give_no_sets_and_say_how_many_are_needed():
    logits, labels = one_class(0, 30, 1.0)
    for count, has_sets, keeps in ((8, False, False), (9, True, False), (18, True, False), (19, True, True)):
        found = calibrated(logits[:count], labels[:count])
        assert (found.confidence.set_threshold is not None) is has_sets
        assert (found.confidence.unknown_threshold is not None) is keeps
    notes = calibrated(logits[:8], labels[:8]).notes
    assert any(
        "no prediction sets: 0.9 of the images requires 9 validation images, and there are 8" in n for n in notes
    )
    assert any("no image is called unknown: 0.95 of the images requires 19" in n for n in notes)


@given(st.integers(2, 6), st.integers(0, 1000), st.floats(0.01, 0.99), st.floats(0.3, 4))
@settings(deadline=None)
def test_check_counts_what_the_decision_answers(classes, seed, threshold, temperature):
    logits, labels = one_class(seed, 30, 1.5, classes)
    confidence = Confidence(
        temperature=temperature, coverage=0.9, set_threshold=threshold, kept=0.95, unknown_threshold=5 * threshold
    )
    for link, answers in ((SOFTMAX, labels), (SIGMOID, labels[:, None])):
        decision = link.calibrated(confidence)
        check = check_confidence(logits, answers, decision)
        scaled = logits.astype(float) / temperature
        rows = (expit(scaled) if link is SIGMOID else softmax(scaled, axis=1)).tolist()
        sets = [decision.prediction_set(row) for row in rows]
        assert check.covered == pytest.approx(np.mean([label in one for label, one in zip(labels, sets, strict=True)]))
        assert check.mean_set_size == pytest.approx(np.mean([len(one) for one in sets]))
        assert check.single_share == pytest.approx(np.mean([len(one) == 1 for one in sets]))
        energies = np.logaddexp(0, logits.astype(float)).sum(1) if link is SIGMOID else logsumexp(logits, axis=1)
        assert check.called_unknown == pytest.approx(np.mean(energies < 5 * threshold))
        if link is SOFTMAX:
            assert all(one[0] == int(np.argmax(row)) for one, row in zip(sets, rows, strict=True))


@given(st.integers(0, 10_000), st.floats(0.2, 5))
@settings(max_examples=50, deadline=None)
def test_calibration_changes_no_label(seed, temperature):
    logits, _ = several_labels(seed, 40, 1.0)
    before = Decision(link="sigmoid", thresholds=(0.3, 0.5, 0.62, 0.9))
    after = before.calibrated(Confidence(temperature=temperature, coverage=0.9, kept=0.95))
    scaled = logits.astype(float) / temperature
    for row, row_after in zip(expit(logits.astype(float)), expit(scaled), strict=True):
        assert before.chosen(row.tolist()) == after.chosen(row_after.tolist())


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
@settings(deadline=None)
def test_auroc_matches_scikit_learn_also_with_ties(m, n, seed):
    rng = np.random.default_rng(seed)
    known, unknown = rng.integers(2, 12, m) / 12, rng.integers(0, 10, n) / 12
    area, low, high = auroc(known, unknown)
    expected = roc_auc_score([1] * m + [0] * n, np.concatenate([known, unknown]))
    assert area == pytest.approx(expected)
    assert 0 <= low <= area <= high <= 1
    assert high - low > 0


def test_interval_of_auroc_contains_the_truth_as_often_as_it_says():
    rng, shift, trials = np.random.default_rng(1), 1.2, 1000
    truth = 0.8019309  # the normal distribution function at 1.2 / sqrt(2)
    hits = 0
    for _ in range(trials):
        _, low, high = auroc(rng.normal(shift, 1, 60), rng.normal(0, 1, 40))
        hits += low <= truth <= high
    assert 0.93 <= hits / trials <= 0.985
