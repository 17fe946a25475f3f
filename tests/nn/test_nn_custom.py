"""Custom models: built by function path, traced on the meta device, fitted to a budget."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from triscale.errors import BudgetError, NetworkError
from triscale.families import get
from triscale.network.cost import cost
from triscale.network.custom import CustomNetwork
from triscale.nn.build import build
from triscale.nn.classifier import Classifier
from triscale.nn.custom import trace_cost, trace_counts
from triscale.scaling.apply import scale_to
from triscale.scaling.budget import Budget
from triscale.scaling.fit import fit_budget_traced
from triscale.scaling.law import EFFICIENTNET

SOURCE = """
import torch
from torch import nn
from triscale.families import get
from triscale.nn.build import build as build_network
from triscale.scaling.apply import scale_to


def ours(depth, width, classes, name="efficientnet_b0"):
    network = scale_to(get(name), depth=depth, width=width, resolution=224)
    return build_network(network.replace(classes=classes))


def v1(depth, width, classes):
    return ours(depth, width, classes, "mobilenet_v1")


def plain(depth, width, classes):
    channels = max(1, round(8 * width))
    layers = [nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    for _ in range(max(1, round(2 * depth))):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def no_module(depth, width, classes):
    return 3


def no_depth(width, classes):
    return nn.Identity()


def maps(depth, width, classes):
    return nn.Conv2d(3, classes, 1)


def pair(depth, width, classes):
    class Two(nn.Module):
        def forward(self, images):
            return images, images
    return Two()


def too_deep(depth, width, classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=64), nn.Conv2d(4, 4, 9), nn.Flatten(), nn.Linear(4, classes))


number = 3
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_networks.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield
    sys.modules.pop("own_networks", None)


def own(function: str, **fields: object) -> CustomNetwork:
    return CustomNetwork(name="own", function=f"own_networks:{function}", **fields)


@pytest.mark.parametrize(
    ("function", "name", "depth", "width"),
    [("ours", "efficientnet_b0", 1.0, 1.0), ("ours", "efficientnet_b0", 1.4, 1.2), ("v1", "mobilenet_v1", 1.0, 0.5)],
)
@pytest.mark.parametrize("resolution", [97, 224])
def test_traced_cost_equals_exact_cost(function, name, depth, width, resolution):
    traced = trace_cost(own(function, depth=depth, width=width, resolution=resolution, classes=10))
    network = scale_to(get(name), depth=depth, width=width, resolution=resolution).replace(classes=10)
    exact = cost(network)
    assert traced.model_dump(exclude={"stages"}) == exact.model_dump(exclude={"stages"})
    stem, head = exact.stages[0], exact.stages[-1]
    parts = {part.name: part for part in traced.stages}
    assert list(parts) == ["stem", "stages", "head"]
    assert parts["stem"] == stem
    assert parts["head"] == head
    assert parts["stages"].macs == exact.macs - stem.macs - head.macs


def test_plain_module_is_counted():
    traced = trace_cost(own("plain", resolution=32, classes=10))
    area = 16 * 16
    assert traced.params == 8 * 27 + 8 + 16 + 2 * 8 * 72 + 80 + 10
    assert traced.buffers == 16
    assert traced.macs == area * (8 * 27 + 2 * 8 * 72) + 80
    assert traced.macs_with_bias - traced.macs == area * 8 + 10
    assert traced.macs_with_norm - traced.macs_with_bias == area * 8
    assert traced.activations == 3 * area * 8 + 10
    assert [stage.macs for stage in traced.stages if stage.macs] == [area * 216, area * 576, area * 576, 80]
    count_network = trace_counts(own("plain", resolution=32, classes=10))
    assert (count_network.params, count_network.macs, count_network.activations) == (
        traced.params,
        traced.macs,
        traced.activations,
    )
    assert (count_network.biased, count_network.normalized) == (area * 8 + 10, area * 8)


def test_build_accepts_published_and_custom_networks():
    assert isinstance(build(own("ours")), Classifier)
    assert isinstance(build(own("plain")), nn.Sequential)
    assert build(own("plain", width=2.0, classes=4))[-1].weight.shape == (4, 16)


def test_tracing_allocates_no_weights():
    built = trace_cost(own("ours", depth=3.1, width=2.0, resolution=600))
    assert built.params == 66347960


def test_custom_network_is_fitted():
    baseline = own("plain", resolution=64, classes=10, total_stride=2)
    budget = Budget(macs=5e6, params=1e5)
    fit = fit_budget_traced(baseline, EFFICIENTNET, budget, trace_counts)
    assert trace_cost(fit.network).macs == fit.limits[0].achieved <= 5e6
    assert fit.limits[0].used > 0.7
    with pytest.raises(BudgetError, match="no network scaled from own"):
        fit_budget_traced(baseline, EFFICIENTNET, Budget(macs=100), trace_counts)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("none", "cannot find own_networks:none .* expected package.module:function, importable from this folder"),
        ("no_module", "own_networks:no_module returned a int; expected a torch.nn.Module"),
        ("no_depth", r"cannot be called as build\(depth=..., width=..., classes=...\): .*depth"),
        ("number", "cannot be called as build"),
    ],
)
def test_invalid_build_function_is_reported(function, message):
    with pytest.raises(NetworkError, match=message):
        build(own(function))


def test_missing_module_is_reported():
    with pytest.raises(NetworkError, match="cannot find no_such_module:build"):
        build(CustomNetwork(name="own", function="no_such_module:build"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("maps", r"own_networks:maps returns \(1, 1000, 64, 64\) for one image; expected \(1, 1000\) logits"),
        ("pair", r"own_networks:pair returns tuple for one image; expected \(1, 1000\) logits"),
        ("too_deep", "own_networks:too_deep cannot be counted at 64 px on the meta device"),
    ],
)
def test_untraceable_module_is_reported(function, message):
    with pytest.raises(NetworkError, match=message):
        trace_cost(own(function, resolution=64))
