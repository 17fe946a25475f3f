"""Losses against PyTorch, torchvision and the formulas of the papers in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from triscale.data.pipeline.split import Sample, Split
from triscale.errors import RecipeError
from triscale.training.imbalance import class_counts, image_weights, objective_of
from triscale.training.losses import loss_of, multi_hot
from triscale.training.objective import Asymmetric, CrossEntropy, Focal, Objective
from triscale.training.recipe import Recipe

LOGITS = torch.tensor(np.random.default_rng(0).normal(0, 3, (32, 5)), dtype=torch.float32)
CLASSES = torch.tensor(np.random.default_rng(1).integers(0, 5, 32))
MARKS = torch.tensor(np.random.default_rng(2).random((32, 5)) < 0.3).float()


def split_of(labels: list[int | tuple[int, ...]], classes: int) -> Split:
    train = tuple(Sample(f"{index:03d}.png", label) for index, label in enumerate(labels))
    names = tuple(str(index) for index in range(classes))
    return Split(root="/images", classes=names, train=train, val=(), test=(), seed=0, how="")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_torch(smoothing):
    objective = Objective(label_smoothing=smoothing)
    expected = F.cross_entropy(LOGITS, CLASSES, label_smoothing=smoothing, reduction="sum")
    assert torch.equal(loss_of(objective, LOGITS, CLASSES), expected)
    heads = torch.stack([LOGITS, 2 * LOGITS])
    both = expected + F.cross_entropy(2 * LOGITS, CLASSES, label_smoothing=smoothing, reduction="sum")
    assert torch.allclose(loss_of(objective, heads, CLASSES), both / 2)


def test_focal_loss_without_focus_is_cross_entropy():
    for objective in (Objective(label_smoothing=0.1), Objective(label_smoothing=0.1, class_weights=(1, 2, 3, 4, 5))):
        focal = objective.replace(loss=Focal(gamma=0))
        assert torch.allclose(loss_of(focal, LOGITS, CLASSES), loss_of(objective, LOGITS, CLASSES), rtol=1e-5)


def test_focal_loss_is_that_of_the_paper():
    p = LOGITS.double().softmax(1)[torch.arange(32), CLASSES]
    assert loss_of(Objective(loss=Focal(gamma=2)), LOGITS, CLASSES).item() == pytest.approx(
        float((-((1 - p) ** 2) * p.log()).sum()), rel=1e-5
    )
    expected = sigmoid_focal_loss(LOGITS, MARKS, alpha=-1, gamma=2, reduction="sum")
    assert torch.allclose(loss_of(Objective(multi_label=True, loss=Focal(gamma=2)), LOGITS, MARKS), expected, rtol=1e-5)


def test_asymmetric_loss_is_that_of_the_paper():
    p = LOGITS.double().sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    terms = MARKS * (1 - p) ** 1 * p.log() + (1 - MARKS) * shifted**4 * (1 - shifted).log()
    objective = Objective(multi_label=True, loss=Asymmetric(gamma_present=1, gamma_absent=4, margin=0.05))
    assert loss_of(objective, LOGITS, MARKS).item() == pytest.approx(-float(terms.sum()), rel=1e-5)


def test_binary_cross_entropy_is_that_of_torch():
    objective = Objective(multi_label=True, class_weights=(1, 2, 3, 4, 5))
    expected = F.binary_cross_entropy_with_logits(
        LOGITS, MARKS, pos_weight=torch.tensor([1.0, 2, 3, 4, 5]), reduction="sum"
    )
    assert torch.equal(loss_of(objective, LOGITS, MARKS), expected)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(), Asymmetric()])
def test_gradients_are_finite_for_extreme_logits(multi_label, loss):
    if isinstance(loss, Asymmetric) and not multi_label:
        return
    logits = torch.tensor([[200.0, -200.0, 0.0]] * 3, requires_grad=True)
    targets = torch.eye(3) if multi_label else torch.arange(3)
    value = loss_of(Objective(multi_label=multi_label, loss=loss, label_smoothing=0.0), logits, targets)
    value.backward()
    assert logits.grad is not None
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=60).filter(lambda labels: set(labels) == {0, 1, 2, 3}))
def test_balanced_weights_average_to_one_and_draw_classes_equally(labels):
    split = split_of(labels, 4)
    weights = objective_of(Recipe(class_weights="balanced"), split).class_weights
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)
    drawn = image_weights(split)
    totals = [sum(w for w, label in zip(drawn, labels, strict=True) if label == one) for one in range(4)]
    assert totals == pytest.approx([totals[0]] * 4)


def test_logit_adjustment_adds_the_logarithm_of_the_frequency():
    objective = objective_of(Recipe(logit_adjustment=2, label_smoothing=0), split_of([0, 0, 0, 1], 2))
    offsets = 2 * torch.tensor([0.75, 0.25]).log()
    expected = F.cross_entropy(LOGITS[:, :2] + offsets, CLASSES % 2, reduction="sum")
    assert torch.allclose(loss_of(objective, LOGITS[:, :2], CLASSES % 2), expected)
    several = objective_of(Recipe(logit_adjustment=1), split_of([(0,), (0, 1), (), (0,)], 2))
    assert several.offsets == pytest.approx((np.log(3), -np.log(3)))


def test_labels_and_counts_of_images_with_several():
    split = split_of([(0, 2), (), (2,)], 3)
    assert class_counts(split).tolist() == [1, 0, 2]
    assert image_weights(split).tolist() == [1, 1, 0.5]
    assert multi_hot(torch.tensor([[0, 2], [-1, -1], [2, -1]]), 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_asymmetric_loss_needs_several_labels():
    with pytest.raises(RecipeError, match="every image here has one label"):
        objective_of(Recipe(loss=Asymmetric()), split_of([0, 1], 2))


def test_unused_settings_keep_the_digest_of_earlier_recipes():
    plain = Recipe()
    assert not {"loss", "class_weights", "sampling", "logit_adjustment"} & plain.model_dump(mode="json").keys()
    changed = plain.replace(loss=Focal(), sampling="balanced")
    assert changed.digest != plain.digest
    assert Recipe.from_json(changed.to_json()) == changed
