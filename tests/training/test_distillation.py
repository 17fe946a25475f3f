"""Distillation against the formulas, and against a student that is its own teacher."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from triscale.data.images.transforms import normalize
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.training.distillation import CachedTeacher, MatchingTeacher, distilled
from triscale.training.objective import Distillation

STUDENT, TEACHER = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0)).unbind()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_that_of_the_formula(temperature):
    settings = Distillation(weight=0.3, temperature=temperature)
    p, q = ((x.double() / temperature).softmax(1) for x in (TEACHER, STUDENT))
    divergence = (p * (p / q).log()).sum()
    value = distilled(torch.tensor(7.0), STUDENT, TEACHER, settings, "softmax")
    assert float(value) == pytest.approx(0.7 * 7 + 0.3 * temperature**2 * float(divergence), rel=1e-5)


def test_labels_are_compared_one_by_one():
    p, q = TEACHER.double().sigmoid(), STUDENT.double().sigmoid()
    divergence = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum()
    value = distilled(torch.tensor(0.0), STUDENT, TEACHER, Distillation(weight=1, temperature=1), "sigmoid")
    assert float(value) == pytest.approx(float(divergence), rel=1e-5)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_equal_logits_leave_no_divergence_and_no_gradient(link):
    logits = TEACHER.clone().requires_grad_()
    value = distilled(logits.sum() * 0, logits, TEACHER, Distillation(weight=1), link)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-5


def test_teacher_sees_its_own_preprocessing(tiny):
    torch.manual_seed(0)
    model = build(tiny).eval()
    student = Preprocessing(resolution=16)
    own = Preprocessing(resolution=16, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    columns = torch.tensor([2, 0, 1])
    teacher = MatchingTeacher(model, student, own, columns)
    given = teacher(normalize(images, student), torch.arange(4))
    with torch.no_grad():
        expected = model(normalize(images, own))[:, columns]
    assert torch.allclose(given, expected, atol=1e-4)
    larger = MatchingTeacher(model, student, own.replace(resolution=24), columns)
    small = F.interpolate(normalize(images, own), size=(24, 24), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.allclose(larger(normalize(images, student), torch.arange(4)), model(small)[:, columns], atol=1e-4)


def test_kept_logits_are_those_of_repeated_images():
    teacher = CachedTeacher(torch.eye(3))
    assert teacher(torch.zeros(2, 3, 8, 8), torch.tensor([4, 2])).tolist() == [[0, 1, 0], [0, 0, 1]]
