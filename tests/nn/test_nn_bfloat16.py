"""Native kernels on maps in bfloat16, against the same kernels in float32 on the same values, and float64 networks."""

from __future__ import annotations

import copy
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nn.chain_modules import drawn, unit
from triscale.families import get
from triscale.network.spec import ActivationKind, Network
from triscale.nn import chain
from triscale.nn.build import build
from triscale.nn.chain import Chained
from triscale.nn.native import Native, native
from triscale.nn.operations import Geometry, Gradients, Normed, PendingGradients

HALF_STEP = 2.0**-8
"""The largest relative error of rounding to bfloat16, which has 8 bits."""


def channels_last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last)


def drawn_source(shape: tuple[int, ...], kind: ActivationKind | None, gated: bool) -> Normed:
    """Return a normalized map in bfloat16 with its true statistics."""
    images, channels = shape[:2]
    y = channels_last((3 * torch.randn(shape) + torch.randn(1, channels, 1, 1)).bfloat16())
    variance, mean = torch.var_mean(y.float(), (0, 2, 3), correction=0)
    weight, bias = torch.rand(channels) + 0.5, torch.randn(channels)
    se = torch.rand(images, channels) if gated else None
    return Normed(y, mean, variance, weight, bias, 1e-3, kind, se)


def widened(source: Normed) -> Normed:
    return Normed(
        channels_last(source.y.float()),
        *(source.mean, source.variance, source.weight, source.bias, source.eps, source.activation, source.se),
    )


def assert_rounded(found: Tensor, expected: Tensor, steps: float = 1.5) -> None:
    """Assert that values are those of float32, rounded once; activations add a twentieth of a step."""
    assert found.dtype == torch.bfloat16
    scale = expected.abs().mean().item()
    torch.testing.assert_close(found.float(), expected, rtol=steps * HALF_STEP, atol=1e-3 * scale)


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 2e-3) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * (expected.abs().max().item() + 1e-3))


@pytest.fixture(scope="module")
def both() -> tuple[Native, Native]:
    """The kernels for bfloat16 and for float32."""
    half, full = native(torch.bfloat16), native()
    assert half is not None, "no C++ compiler here"
    assert full is not None
    return half, full


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 3),
    side=st.integers(2, 13),
    channels=st.integers(1, 40),
    kind=st.sampled_from([None, *ActivationKind]),
    gated=st.booleans(),
)
def test_activations_equal_those_of_float32(both, images, side, channels, kind, gated):
    half, full = both
    source = drawn_source((images, channels, side, side), kind, gated)
    gradient = channels_last(torch.randn_like(source.y))
    assert_rounded(half.activate(source), full.activate(widened(source)))
    assert_near(half.pixel_means(source), full.pixel_means(widened(source)))
    wide_gradient = channels_last(gradient.float())
    assert_near(half.se_scale_gradient(source, gradient), full.se_scale_gradient(widened(source), wide_gradient))
    of_means = torch.randn(images, channels) if gated else None
    found = half.norm_backward(source, gradient, of_means, owned=False)
    expected = full.norm_backward(widened(source), wide_gradient, of_means, owned=False)
    assert isinstance(found, PendingGradients)
    assert isinstance(expected, PendingGradients)
    assert_rounded(found.dz, expected.dz)
    assert_near(found.weight, expected.weight, 5e-3)
    assert_near(found.bias, expected.bias, 5e-3)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    images=st.integers(2, 3),
    height=st.integers(3, 15),
    width=st.integers(3, 15),
    channels=st.integers(1, 40),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 2),
    kind=st.sampled_from([None, *ActivationKind]),
)
def test_depthwise_convolutions_equal_those_of_float32(both, images, height, width, channels, kernel, stride, kind):
    half, full = both
    source = drawn_source((images, channels, height, width), kind, gated=False)
    geometry = Geometry(stride, (kernel // 2,) * 4, channels)
    weight = torch.randn(channels, 1, kernel, kernel) / kernel
    y, mean, variance = half.convolve_with_moments(source, weight, geometry)
    wide_y, wide_mean, wide_variance = full.convolve_with_moments(widened(source), weight, geometry)
    assert_rounded(y, wide_y)
    # The statistics are those of the map as it is stored, which the gradients take for granted.
    assert_near(mean, y.float().mean((0, 2, 3)), 1e-5)
    assert_near(variance, y.float().var((0, 2, 3), correction=0), 1e-5)
    assert_near(mean, wide_mean, 2e-2)
    assert_near(variance, wide_variance, 2e-2)
    after = Normed(y, mean, variance, torch.ones(channels), torch.zeros(channels), 1e-3, ActivationKind.SILU)
    pending = half.norm_backward(after, channels_last(torch.randn_like(y)), None, owned=False)
    assert isinstance(pending, PendingGradients)
    wide_pending = PendingGradients(widened(after), channels_last(pending.dz.float()), pending.weight, pending.bias)
    (found, dw), (expected, wide_dw) = (
        half.convolve_backward(source, weight, geometry, pending, needs_input=True),
        full.convolve_backward(widened(source), weight, geometry, wide_pending, needs_input=True),
    )
    assert isinstance(found, PendingGradients)
    assert isinstance(expected, PendingGradients)
    assert_rounded(found.dz, expected.dz)
    assert_near(dw, wide_dw)
    assert_near(found.weight, expected.weight)
    assert_near(found.bias, expected.bias)


@pytest.mark.parametrize(("inputs", "outputs"), [(24, 96), (96, 24)])
def test_pointwise_convolutions_equal_those_of_float32(both, inputs, outputs):
    half, full = both
    torch.manual_seed(0)
    source = drawn_source((3, inputs, 9, 9), ActivationKind.SILU, gated=True)
    weight = (torch.randn(outputs, inputs, 1, 1) / inputs**0.5).bfloat16().float()
    geometry = Geometry(1, (0, 0, 0, 0), 1)
    y, mean, _ = half.convolve_with_moments(source, weight, geometry)
    # Each product is exact in float32, and its second factor was rounded once.
    expected = full.convolve(channels_last(half.activate(source).float()), weight, geometry)
    assert_rounded(y, expected)
    assert_near(mean, y.float().mean((0, 2, 3)), 1e-5)
    dy = channels_last(torch.randn_like(y))
    dx, dw = full_gradients(half, source, weight, geometry, dy)
    wide_dx, wide_dw = full_gradients(full, widened(source), weight, geometry, channels_last(dy.float()))
    assert_rounded(dx, wide_dx)
    assert_near(dw, wide_dw, 1e-2)


def full_gradients(operations: Native, source: Normed, weight: Tensor, geometry: Geometry, dy: Tensor):
    """Return the gradients of a convolution whose output has the gradient dy: its norm is frozen, and does nothing."""
    channels = dy.shape[1]
    nothing = Normed(
        dy, torch.zeros(channels), torch.ones(channels), torch.ones(channels), torch.zeros(channels), 0.0, None,
        frozen=True,
    )  # fmt: skip
    pending = operations.norm_backward(nothing, dy, None, owned=False)
    assert not isinstance(pending, Gradients)
    dx, dw = operations.convolve_backward(source, weight, geometry, pending, needs_input=True)
    assert isinstance(dx, Tensor)
    return dx, dw


def gradients(model: torch.nn.Module, images: Tensor, *, reduced: bool = False, portable: bool = False) -> list[Tensor]:
    model = copy.deepcopy(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced), chain.portable_only(active=portable):
        logits = model(images)
    logits.logsumexp(1).sum().backward()
    return [value.grad for value in model.parameters()]


@pytest.mark.parametrize("name", ["efficientnet_b0", pytest.param("mobilenet_v3_large", marks=pytest.mark.stress)])
def test_gradients_are_at_least_as_near_to_float64_as_those_of_autocast(name):
    torch.manual_seed(0)
    network = get(name).replace(resolution=64, classes=10, dropout=0.0, drop_path=0.0)
    model, images = build(network).train(), torch.randn(8, 3, 64, 64)
    exact = gradients(copy.deepcopy(model).double(), images.double(), portable=True)

    def errors(**options: bool) -> list[float]:
        found = gradients(model, images, **options)
        assert all(value.dtype == torch.float32 for value in found)
        pairs = zip(found, exact, strict=True)
        return [float((value - true).norm() / true.norm()) for value, true in pairs if true.norm() > 1e-6]

    ours, plain = errors(reduced=True), errors(reduced=True, portable=True)
    assert statistics.median(ours) < 1.1 * statistics.median(plain)
    assert statistics.median(ours) > 10 * statistics.median(errors())  # it is bfloat16 indeed


def test_result_is_bitwise_independent_of_threads():
    def digest(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        modules = Chained(*drawn(unit(40, 40, 3, 1, 40, "same", "silu") + unit(40, 40, 5, 2, 40, "same", "silu"), 0))
        with torch.autocast("cpu", torch.bfloat16):
            out = modules(torch.randn(5, 40, 20, 20))
        out.float().square().sum().backward()
        return [out, *(value.grad for value in modules.parameters()), *modules.buffers()]

    try:
        runs = [digest(threads) for threads in (1, 2, 3)]
    finally:
        torch.set_num_threads(1)
    assert runs[0][0].dtype == torch.bfloat16
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [None, *ActivationKind])
def test_nonfinite_values_propagate(both, kind, value):
    source = drawn_source((1, 3, 4, 4), kind, gated=False)
    source.y[0, 1, 2, 2] = value
    found, expected = both[0].activate(source), both[1].activate(widened(source))
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.isinf(), expected.isinf())


def test_saved_maps_take_half_of_the_memory(tiny: Network):
    def saved(reduced: bool) -> int:
        total = 0

        def count(value: Tensor) -> Tensor:
            nonlocal total
            total += value.numel() * value.element_size() if value.ndim == 4 and not value.requires_grad else 0
            return value

        model = build(tiny).train()
        with (
            torch.autograd.graph.saved_tensors_hooks(count, lambda value: value),
            torch.autocast("cpu", torch.bfloat16, enabled=reduced),
        ):
            model(torch.randn(16, 3, 32, 32))
        return total

    assert saved(True) < 0.55 * saved(False)
