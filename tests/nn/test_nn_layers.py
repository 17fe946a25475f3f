"""Layers: SAME padding against a reference in NumPy, squeeze-and-excitation, stochastic depth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from triscale.network.tree import Convolution
from triscale.nn.layers import (
    GlobalAvgPool2d,
    SameAveragePool2d,
    SameConv2d,
    SameMaxPool2d,
    SqueezeExcitation,
    activation,
    convolution,
    pad_same,
)
from triscale.nn.residual import ResidualBlock, drop_samples

sides = st.integers(1, 40)
kernels = st.sampled_from([1, 3, 5, 7])
strides = st.integers(1, 4)


def convolved_by_hand(image: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Convolve one ``[H, W]`` map as TensorFlow documents SAME: ceil(side / stride) windows, the rest at the end."""
    kernel = weight.shape[0]
    counts, starts = [], []
    for side in image.shape:
        number = math.ceil(side / stride)
        surplus = max((number - 1) * stride + kernel - side, 0)
        counts.append(number)
        starts.append(-(surplus // 2))
    out = np.zeros(counts)
    for i in range(counts[0]):
        for j in range(counts[1]):
            for u in range(kernel):
                for v in range(kernel):
                    y, x = starts[0] + i * stride + u, starts[1] + j * stride + v
                    if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                        out[i, j] += image[y, x] * weight[u, v]
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), kernels, strides)
def test_same_convolution_matches_reference(height, width, kernel, stride):
    generator = np.random.default_rng(height * 100 + width)
    image, weight = generator.normal(size=(height, width)), generator.normal(size=(kernel, kernel))
    layer = SameConv2d(1, 1, kernel, stride=stride, bias=False).double()
    layer.weight.data[0, 0] = torch.from_numpy(weight)
    result = layer(torch.from_numpy(image)[None, None])[0, 0].detach().numpy()
    np.testing.assert_allclose(result, convolved_by_hand(image, weight, stride), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(sides, sides, kernels, strides)
def test_output_size_is_rounded_up_under_both_paddings(height, width, kernel, stride):
    expected = (math.ceil(height / stride), math.ceil(width / stride))
    images = torch.zeros(1, 2, height, width)
    for padding in ("same", "symmetric"):
        node = Convolution(2, 2, kernel, stride, 2, False, padding, expected[0])
        assert convolution(node)(images).shape[-2:] == expected
    assert SameMaxPool2d(kernel, stride)(images).shape[-2:] == expected


@settings(max_examples=100, deadline=None)
@given(sides, kernels, strides)
def test_same_padding_puts_surplus_at_end(side, kernel, stride):
    padded = pad_same(torch.ones(1, 1, side, side), kernel, stride)[0, 0]
    surplus = padded.shape[0] - side
    assert surplus == max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
    assert torch.equal(
        padded[surplus // 2 : surplus // 2 + side, surplus // 2 : surplus // 2 + side], torch.ones(side, side)
    )
    assert padded.sum() == side * side


def test_paddings_differ_only_for_strided_convolutions():
    def layer(padding: str, stride: int) -> nn.Conv2d:
        return convolution(Convolution(3, 4, 3, stride, 1, False, padding, 1))

    assert type(layer("same", 1)) is type(layer("symmetric", 2)) is nn.Conv2d
    same, symmetric = layer("same", 2), layer("symmetric", 2)
    symmetric.load_state_dict(same.state_dict())
    even, odd = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 9, 9)
    assert not torch.allclose(same(even), symmetric(even))
    torch.testing.assert_close(same(odd), symmetric(odd))


@pytest.mark.parametrize("side", [5, 6, 112])
def test_same_max_pool_ignores_its_padding(side):
    images = -torch.rand(1, 2, side, side) - 1
    result = SameMaxPool2d(3, 2)(images)
    assert torch.isfinite(result).all()
    assert (result < 0).all()
    surplus = (math.ceil(side / 2) - 1) * 2 + 3 - side
    start = -(surplus // 2)
    window = images[0, 0, max(0, start) : start + 3, max(0, start) : start + 3]
    assert result[0, 0, 0, 0] == window.max()


@pytest.mark.parametrize("side", [4, 5, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_average_pool_does_not_count_its_padding(side, stride):
    image = torch.randn(1, 1, side, side, dtype=torch.float64)
    pooled = SameAveragePool2d(3, stride)(image)[0, 0]
    surplus = max((math.ceil(side / stride) - 1) * stride + 3 - side, 0)
    for row, column in np.ndindex(*pooled.shape):
        top, left = row * stride - surplus // 2, column * stride - surplus // 2
        window = image[0, 0, max(0, top) : top + 3, max(0, left) : left + 3]
        assert pooled[row, column] == pytest.approx(float(window.mean()))


def test_squeeze_excitation_matches_numpy():
    torch.manual_seed(0)
    se = SqueezeExcitation(nn.Conv2d(6, 2, 1), nn.SiLU(), nn.Conv2d(2, 6, 1), nn.Sigmoid())
    images = torch.randn(3, 6, 5, 7)
    first, second = se[0], se[2]
    means = images.numpy().mean((2, 3))
    hidden = means @ first.weight.detach().numpy()[:, :, 0, 0].T + first.bias.detach().numpy()
    hidden = hidden / (1 + np.exp(-hidden))
    scale = hidden @ second.weight.detach().numpy()[:, :, 0, 0].T + second.bias.detach().numpy()
    expected = images.numpy() / (1 + np.exp(-scale))[:, :, None, None]
    np.testing.assert_allclose(se(images).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_global_pool_is_mean():
    images = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(GlobalAvgPool2d()(images), images.reshape(2, 3, 20).mean(2))
    torch.testing.assert_close(GlobalAvgPool2d(flat=False)(images), images.reshape(2, 3, 20).mean(2)[:, :, None, None])


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("relu", F.relu),
        ("relu6", F.relu6),
        ("silu", F.silu),
        ("sigmoid", torch.sigmoid),
        ("hard_swish", F.hardswish),
        ("hard_sigmoid", F.hardsigmoid),
    ],
)
def test_activations_match_torch(kind, function):
    values = torch.linspace(-8, 8, 33)
    torch.testing.assert_close(activation(kind)(values.clone()), function(values))


def test_stochastic_depth_drops_samples_and_scales_the_rest():
    torch.manual_seed(0)
    dropped = drop_samples(torch.ones(4000, 2, 3, 3), 0.2)
    per_sample = dropped.reshape(4000, -1)
    assert (per_sample == per_sample[:, :1]).all()
    values = per_sample[:, 0]
    assert set(values.unique().tolist()) == {0.0, 1.25}
    # Five standard errors of the mean of 4000 draws of 0 or 1.25 with probability .8.
    assert values.mean().item() == pytest.approx(1, abs=5 * 0.5 / math.sqrt(4000))


def test_stochastic_depth_is_active_in_training_only():
    torch.manual_seed(0)
    block = ResidualBlock({"twice": nn.Conv2d(1, 1, 1, bias=False)}, None, 0.5, None)
    block.twice.weight.data.fill_(2.0)
    images = torch.ones(1000, 1, 1, 1)
    assert (block.eval()(images) == 3).all()
    kept = block.train()(images)
    assert set(kept.unique().tolist()) == {1.0, 5.0}
    assert kept.mean().item() == pytest.approx(3, abs=0.35)
    block.drop_rate = 0.0
    assert (block(images) == 3).all()


def test_residual_adds_shortcut_before_activation():
    block = ResidualBlock({"same": nn.Identity()}, nn.Conv2d(1, 1, 1, bias=False), 0.0, nn.ReLU())
    block.shortcut.weight.data.fill_(-3.0)
    assert (block(torch.ones(1, 1, 2, 2)) == 0).all()
    assert (block(-torch.ones(1, 1, 2, 2)) == 2).all()
