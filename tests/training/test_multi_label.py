"""Metrics of images with any number of labels against scikit-learn, thresholds against a full search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn import metrics as reference

from triscale.results.metrics import guessing_note
from triscale.training.evaluate import EvalOutput
from triscale.training.multi_label import (
    average_precision,
    choose_thresholds,
    marks_of,
    mean_average_precision,
    measure_labels,
)


def case(seed: int, count: int = 80, classes: int = 4, ties: bool = False):
    generator = np.random.default_rng(seed)
    marks = generator.random((count, classes)) < generator.uniform(0.05, 0.6, classes)
    logits = generator.normal(0, 2, (count, classes)) + 2 * marks
    logits = (np.round(logits) if ties else logits).astype(np.float32)
    labels = np.full((count, classes), -1, dtype=np.int64)
    for row, has in zip(labels, marks, strict=True):
        row[: has.sum()] = np.flatnonzero(has)
    return logits, marks, labels


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.booleans())
def test_average_precision_is_that_of_scikit_learn(seed, ties):
    logits, marks, labels = case(seed, ties=ties)
    assert (marks_of(labels, 4) == marks).all()
    values = average_precision(logits.astype(float), marks)
    for column in range(4):
        if marks[:, column].any():
            expected = reference.average_precision_score(marks[:, column], logits[:, column])
            assert values[column] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(values[column])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_metrics_are_those_of_scikit_learn(seed):
    logits, marks, labels = case(seed)
    thresholds = (0.2, 0.5, 0.7, 0.9)
    measured = measure_labels(logits, labels, tuple("abcd"), thresholds, "test")
    predicted = expit(logits.astype(float)) >= np.array(thresholds)
    precision, recall, f1, support = reference.precision_recall_fscore_support(marks, predicted, zero_division=0)
    for column, row in enumerate(measured.per_class):
        assert row.count == support[column]
        expected = pytest.approx((precision[column], recall[column], f1[column])) if row.count else (None, None, None)
        assert (row.precision, row.recall, row.f1) == expected
    assert measured.micro_f1 == pytest.approx(reference.f1_score(marks, predicted, average="micro"))
    assert measured.exact_match == pytest.approx(reference.accuracy_score(marks, predicted))
    expected_loss = -np.mean(
        np.sum(np.where(marks, np.log(expit(logits.astype(float))), np.log(expit(-logits.astype(float)))), 1)
    )
    assert measured.loss == pytest.approx(expected_loss)
    assert measured.map_low <= measured.map_high
    outcome = EvalOutput(logits, labels)
    assert outcome.score == measured.mean_average_precision == mean_average_precision(logits.astype(float), marks)
    assert outcome.loss == pytest.approx(measured.loss)


def test_labels_that_are_on_every_image_are_like_guessing():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(30, 3)).astype(np.float32)
    labels = np.tile([[0, 1]], (30, 1))
    measured = measure_labels(logits, labels, ("sea", "sky", "cow"), (0.5, 0.5, 0.5), "test")
    assert measured.mean_average_precision == 1
    assert measured.label_share == pytest.approx(2 / 3)
    assert (measured.chance, measured.is_guessing) == (1, True)
    assert "a random order of the images gives 100.0%" in guessing_note(measured)
    assert measured.per_class[2].recall is None


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.booleans())
def test_no_other_threshold_has_a_higher_f1(seed, ties):
    logits, marks, labels = case(seed, ties=ties)
    probabilities = expit(logits.astype(float))
    for column, threshold in enumerate(choose_thresholds(logits, labels)):
        if marks[:, column].sum() < 5:
            continue
        has, values = marks[:, column], probabilities[:, column]
        guesses = values >= np.append(np.unique(values), threshold)[:, None]
        f1 = 2 * (guesses & has).sum(1) / (guesses.sum(1) + has.sum())
        assert f1[-1] == pytest.approx(f1.max())


def test_interval_covers_the_value_of_many_images():
    logits, marks, _ = case(0, count=20_000)
    truth = mean_average_precision(logits.astype(float), marks)
    covered = 0
    for number in range(40):
        rows = np.random.default_rng(number).integers(0, 20_000, 300)
        labels = np.where(marks[rows], np.arange(4), -1)
        measured = measure_labels(logits[rows], labels, tuple("abcd"), (0.5,) * 4, "test")
        covered += measured.map_low <= truth <= measured.map_high
    assert covered >= 33


def test_images_without_labels_and_classes_without_images():
    logits = np.array([[2.0, -2.0], [-2.0, -2.0]], np.float32)
    measured = measure_labels(logits, np.array([[0], [-1]]), ("a", "b"), (0.5, 0.5), "test")
    assert measured.per_class[1].average_precision is None
    assert (measured.mean_average_precision, measured.exact_match, measured.macro_f1) == (1, 1, 1)
    nothing = measure_labels(logits, np.array([[-1], [-1]]), ("a", "b"), (0.5, 0.5), "test")
    assert (nothing.mean_average_precision, nothing.map_low, nothing.map_high) == (0, 0, 0)
