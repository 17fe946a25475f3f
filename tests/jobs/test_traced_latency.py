"""Latency budgets of custom models: a few sizes are measured, the result is one of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.command import refused, run
from triscale.errors import BudgetError
from triscale.jobs.core.traced_latency import fit_latency_traced
from triscale.network.custom import CustomNetwork
from triscale.nn.trace import trace_counts
from triscale.scaling.budget import Budget
from triscale.scaling.law import EFFICIENTNET

PLAIN = CustomNetwork(name="plain", function="scaled_model:build", resolution=64)
SOURCE = """
from torch import nn


def build(depth, width, classes):
    channels = max(1, round(16 * width))
    layers = [nn.Conv2d(3, channels, 3, 2, 1)]
    for _ in range(max(1, round(3 * depth))):
        layers += [nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def small_only(depth, width, classes):
    class Small(nn.Sequential):
        def forward(self, images):
            assert images.shape[2] <= 96, "too many pixels"
            return super().forward(images)

    return Small(*build(depth, width, classes))
"""


@pytest.fixture(autouse=True, scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("module")
    (folder / "scaled_model.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


class Device:
    """A made-up device, whose latency is a power of the MACs and activations, with noise."""

    def __init__(self, power: float = 0.9, noise: float = 0.0) -> None:
        self.power, self.noise, self.calls = power, noise, 0

    def __call__(self, network: CustomNetwork) -> float:
        self.calls += 1
        counts = trace_counts(network)
        exact = 0.05 + (counts.macs / 1e7) ** self.power + counts.activations / 1e6
        return exact * (1 + self.noise * (-1) ** self.calls)


@settings(max_examples=8, deadline=None)
@given(limit=st.floats(0.15, 60), power=st.floats(0.6, 1.2), noise=st.floats(0, 0.03))
def test_result_was_measured_within_the_limit_and_uses_it(limit, power, noise):
    device = Device(power, noise)
    fit = fit_latency_traced(PLAIN, EFFICIENTNET, Budget(latency=limit), measure=device)
    assert device.calls <= 12
    assert fit.limits[0].used <= 1
    exact = Device(power)
    assert exact(fit.network) <= limit * (1 + noise) + 0.001
    # One more layer or channel of this small model costs much.
    assert fit.limits[0].used > 0.5


def test_several_limits_hold_and_the_binding_one_is_named():
    fit = fit_latency_traced(PLAIN, EFFICIENTNET, Budget.of("20ms", "20M"), measure=Device())
    assert fit.binding == "macs"
    assert all(limit.used <= 1 for limit in fit.limits)
    assert fit.limits[0].used > 0.9


def test_size_at_which_the_model_fails_is_a_wall():
    network = PLAIN.replace(function="scaled_model:small_only")
    fit = fit_latency_traced(network, EFFICIENTNET, Budget(latency=40), measure=Device())
    assert fit.network.resolution <= 96
    assert fit.limits[0].used <= 1


def test_limit_below_the_smallest_size_is_refused():
    with pytest.raises(BudgetError, match="the smallest needs at least"):
        fit_latency_traced(PLAIN, EFFICIENTNET, Budget(latency=0.02), measure=Device())


def test_command_measures_on_this_machine(module, capsys, monkeypatch):
    monkeypatch.chdir(module)
    scaled = run(capsys, "scale", "scaled_model:build", "--budget", "4ms", "--json")
    fit = json.loads(scaled.out)["fit"]
    assert fit["measured"].startswith("measured in ONNX Runtime with 1 thread")
    assert fit["limits"][0]["achieved"] <= 4000
    assert "does not predict the latency of custom models" in refused(
        capsys, "scale", "scaled_model:build", "--budget", "4000 images/s", "--profile", "a100"
    )
