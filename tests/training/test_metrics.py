"""Metrics against closed forms and scikit-learn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from triscale.results.metrics import Metrics
from triscale.training.metrics import measure_predictions, wilson

CLASSES = tuple("abcdefg")


def made(seed: int, count: int = 200, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 1.0
    return logits, labels


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_metrics_match_scikit_learn(seed):
    logits, labels = made(seed)
    result = measure_predictions(logits, labels, CLASSES, "test")
    predicted = logits.argmax(1)
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
    order = list(range(7))
    assert result.top1 == pytest.approx(reference.accuracy_score(labels, predicted))
    assert result.top5 == pytest.approx(reference.top_k_accuracy_score(labels, probabilities, k=5, labels=order))
    assert result.loss == pytest.approx(reference.log_loss(labels, probabilities, labels=order))
    assert np.array_equal(result.confusion, reference.confusion_matrix(labels, predicted, labels=order))
    precision, recall, f1, count = reference.precision_recall_fscore_support(
        labels, predicted, labels=order, zero_division=0
    )
    for row, *expected in zip(result.per_class, precision, recall, f1, strict=True):
        # scikit-learn gives 0 for a class without images too
        wanted = pytest.approx(expected) if row.count else [None, None, None]
        assert [row.precision, row.recall, row.f1] == wanted
    assert [row.count for row in result.per_class] == list(count)
    assert result.mean_class_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, predicted))


def test_class_without_images_has_no_figures_however_old_the_file_is():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]] * 5
    result = measure_predictions(logits, np.array([0, 1, 1, 1]), ("cat", "dog", "cow"), "test")
    cow = result.per_class[2]
    assert (cow.count, cow.precision, cow.recall, cow.f1) == (0, None, None, None)
    assert result.mean_class_accuracy == pytest.approx((1 + 2 / 3) / 2)
    stored = json.loads(result.to_json())
    assert stored["per_class"][2] == {"name": "cow", "count": 0, "precision": None, "recall": None, "f1": None}
    stored["per_class"][2] |= {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert Metrics.from_json(json.dumps(stored)) == result


def test_wilson_interval_matches_published_values():
    # Wilson's interval for 81 of 263, a worked example of Newcombe (1998), table I.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 500), st.data())
@settings(deadline=None)
def test_wilson_interval_contains_share_within_0_and_1(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1


def test_calibrated_predictor_has_no_calibration_error():
    # Of 100 predictions with probability 0.75, 75 are right.
    logits = np.tile(np.array([math.log(0.75), math.log(0.25)], dtype=np.float32), (100, 1))
    labels = np.array([0] * 75 + [1] * 25)
    result = measure_predictions(logits, labels, ("a", "b"), "test")
    assert result.calibration_error == pytest.approx(0, abs=1e-6)
    assert result.top5 is None


def test_overconfident_predictor_has_calibration_error():
    logits = np.tile(np.array([math.log(0.95), math.log(0.05)], dtype=np.float32), (100, 1))
    result = measure_predictions(logits, np.array([0] * 60 + [1] * 40), ("a", "b"), "test")
    assert result.calibration_error == pytest.approx(0.35, abs=1e-6)
    assert sum(item.count for item in result.reliability) == 100


def test_ties_resolve_to_lower_index():
    logits = np.zeros((6, 6), dtype=np.float32)
    result = measure_predictions(logits, np.arange(6), CLASSES[:6], "test")
    assert result.top1 == pytest.approx(1 / 6)
    assert result.top5 == pytest.approx(5 / 6)


def test_class_without_images_is_ignored():
    logits = np.array([[2, 1, 0], [0, 1, 3]], dtype=np.float32)
    result = measure_predictions(logits, np.array([0, 2]), ("a", "b", "c"), "test")
    assert result.mean_class_accuracy == 1.0
    assert result.per_class[1].count == 0
