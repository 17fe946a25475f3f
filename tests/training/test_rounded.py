"""Quantization-aware training for int8."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from triscale.families import get
from triscale.nn.build import build
from triscale.training.fake_quantize import fake_quantized, round_activations, round_weights
from triscale.training.recompute import with_recomputation

VALUES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40)


@given(VALUES)
def test_activation_rounding_error_is_at_most_half_a_step(values):
    given_ = torch.tensor([*values, 0.0])
    result = round_activations(given_)
    low, high = min(0.0, *values), max(0.0, *values)
    step = (high - low) / 255
    # The zero point is rounded too, which shifts the ends of the range by up to half a step.
    assert (result - given_).abs().max() <= 1.001 * step + 1e-6
    assert result[-1] == 0
    assert len(result.unique()) <= 256


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000))
def test_weights_are_rounded_per_channel(outputs, inputs, seed):
    weights = np.random.default_rng(seed).standard_normal((outputs, inputs, 1, 1)).astype(np.float32)
    step = np.abs(weights.astype(np.float64)).max((1, 2, 3), keepdims=True) / 127
    expected = np.round(weights / step) * step
    result = round_weights(torch.from_numpy(weights)).numpy()
    # A tie may go to either side.
    assert np.all(np.abs(result - expected) <= 1.001 * step * (np.abs(result - expected) > 1e-6 * step) + 1e-6)
    assert np.abs(result - weights).max() <= 0.501 * step.max()
    factors = np.random.default_rng(seed + 1).uniform(0.1, 10, (outputs, 1, 1, 1)).astype(np.float32)
    scaled = round_weights(torch.from_numpy(weights * factors)).numpy() / factors
    assert np.mean(np.abs(scaled - result) > 1e-4 * step) < 0.05


def test_gradients_use_straight_through_estimator():
    layer = nn.Linear(8, 4)
    values = torch.randn(5, 8, requires_grad=True)
    with fake_quantized(layer):
        layer(values).sum().backward()
    expected = round_weights(layer.weight).detach().sum(0).expand(5, 8)
    torch.testing.assert_close(values.grad, expected)
    torch.testing.assert_close(layer.weight.grad, round_activations(values).detach().sum(0).expand(4, 8))


@pytest.mark.parametrize("name", ["efficientnet_b0@32", "resnet18@32"])
def test_fake_quantization_is_applied_and_removed(name):
    torch.manual_seed(0)
    model = build(get(name).replace(classes=4)).train()
    images = torch.randn(4, 3, 32, 32)
    plain, keys = F.log_softmax(model.eval()(images), 1), list(model.state_dict())
    model.eval()
    with fake_quantized(model):
        once = F.log_softmax(model(images), 1)
    assert not torch.equal(once, plain)
    torch.testing.assert_close(once, plain, atol=0.1, rtol=0.1)
    torch.testing.assert_close(F.log_softmax(model(images), 1), plain, atol=0, rtol=0)
    assert list(model.state_dict()) == keys
    with fake_quantized(model, active=False):
        assert torch.equal(F.log_softmax(model(images), 1), plain)


def test_recomputation_rounds_identically():
    torch.manual_seed(0)
    model = build(get("efficientnet_b0@32").replace(classes=4, drop_path=0.0, dropout=0.0)).train()
    images, result = torch.randn(4, 3, 32, 32), []
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for checkpoint_level in (0, 2):
        model.load_state_dict(state)
        model.zero_grad()
        with with_recomputation(model, checkpoint_level), fake_quantized(model):
            model(images).square().sum().backward()
        result.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*result, strict=True):
        assert torch.equal(one, other)
