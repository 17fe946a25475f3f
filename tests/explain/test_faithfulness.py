"""Deletion and insertion curves against networks with closed-form outputs."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from triscale.explain.extent import Box, extent
from triscale.explain.faithfulness import area, faithfulness


class Marked(nn.Module):
    """Predicts class 0 from the red contrast in one quarter of the image."""

    def forward(self, images: Tensor) -> Tensor:
        """Return two logits."""
        evidence = 8 * images[:, 0, :8, :8].square().mean((1, 2)) - 2
        return torch.stack([evidence, torch.zeros_like(evidence)], 1)


def striped() -> Tensor:
    image = torch.zeros(1, 3, 16, 16)
    image[:, :, :8, :8] = 1.0
    image[:, :, :8, 1:8:2] = -1.0
    return image


def heat_on(rows: slice, columns: slice) -> Tensor:
    heat = torch.zeros(4, 4)
    heat[rows, columns] = 1.0
    return heat


def test_map_of_evidence_is_faithful_and_its_complement_is_not():
    image = striped()
    right = faithfulness(Marked(), image, heat_on(slice(0, 2), slice(0, 2)), 0)
    wrong = faithfulness(Marked(), image, heat_on(slice(2, 4), slice(2, 4)), 0)
    assert right.deletion_area < min(right.random_deletion, wrong.deletion_area)
    assert right.insertion_area > max(right.random_insertion, wrong.insertion_area)


def test_deletion_curve_follows_the_formula():
    image = striped()
    result = faithfulness(Marked(), image, heat_on(slice(0, 2), slice(0, 2)), 0, steps=8)
    # The first quarter of the pixels holds all the evidence: after 1/8 half of it is gone, from 2/8 on all of it.
    expected = [1 / (1 + np.exp(-(8 * left - 2))) for left in (1, 0.5, *([0] * 7))]
    np.testing.assert_allclose(result.deletion, expected, atol=1e-6)
    assert result.insertion[-1] == pytest.approx(expected[0])


def test_deletion_and_insertion_curves_share_endpoints():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    image = torch.randn(1, 3, 20, 20)
    result = faithfulness(model, image, torch.rand(5, 5), 1, steps=5)
    whole, nothing = (float(model(x).detach().double().softmax(1)[0, 1]) for x in (image, torch.zeros_like(image)))
    assert result.deletion[0] == pytest.approx(whole)
    assert result.deletion[-1] == pytest.approx(nothing)
    assert result.insertion[-1] == pytest.approx(whole)


def test_area_uses_trapezoidal_rule():
    curve = (1.0, 0.5, 0.25, 0.0)
    assert area(curve) == pytest.approx(np.trapezoid(curve, dx=1 / 3))


def test_peak_and_extent_are_in_image_pixels():
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[1, 2], heat[1, 3], heat[2, 2], heat[0, 0] = 1.0, 0.6, 0.5, 0.4
    result = extent(heat, Box(10, 20, 50, 60))
    assert result.peak == (35, 35)
    assert result.box == Box(30, 30, 50, 50)
    assert result.share == pytest.approx(3 / 16)


def test_map_of_negative_evidence_has_no_peak():
    result = extent(-np.ones((3, 3), dtype=np.float32), Box(0, 0, 9, 9))
    assert result == (None, None, 0.0)
