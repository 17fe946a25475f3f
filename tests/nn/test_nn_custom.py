"""Custom models: built by function path, traced on the meta device, fitted to a budget."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from triscale.errors import BudgetError, NetworkError
from triscale.families import get
from triscale.network.cost import Counts, cost
from triscale.network.custom import CustomNetwork
from triscale.nn import trace
from triscale.nn.build import build
from triscale.nn.classifier import Classifier
from triscale.nn.trace import trace_cost, trace_counts
from triscale.scaling.apply import scale_to
from triscale.scaling.budget import Budget
from triscale.scaling.fit_traced import fit_budget_traced, ignored_multipliers
from triscale.scaling.law import EFFICIENTNET, Law

SOURCE = Path(__file__).with_name("own_models.py")


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copy(SOURCE, tmp_path / "own_networks.py")
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


def test_functions_of_torch_and_transposed_convolutions_are_counted():
    traced = trace_cost(own("functional", resolution=32, classes=10))
    assert traced.macs == 32 * 32 * 8 * 27 + 32 * 32 * 8 * 4 * 4 + 40
    assert traced.activations == 32 * 32 * 8 + 64 * 64 * 4 + 10
    assert {stage.name: stage.activations for stage in traced.stages} == {"body": 24576, "classifier": 10}


@pytest.mark.parametrize("function", ["item", "values"])
def test_model_that_needs_values_is_counted_with_real_tensors(function):
    state = torch.get_rng_state()
    traced = trace_cost(own(function, resolution=32, classes=10))
    assert (traced.params, traced.macs, traced.activations) == (8 * 28 + 90, 30 * 30 * 8 * 27 + 80, 30 * 30 * 8 + 10)
    assert torch.equal(torch.get_rng_state(), state)


def test_attention_is_counted_the_same_however_it_is_written():
    first, second = (trace_cost(own(function, resolution=64, classes=10)) for function in ("fused", "explicit"))
    assert first == second
    tokens = 64
    assert first.activations == tokens * 16 + tokens * 48 + tokens * tokens + tokens * 16 + 10


@pytest.mark.parametrize("function", ["fused", "recurrent", "transformer"])
def test_counts_do_not_depend_on_the_device(function, monkeypatch):
    network = own(function, resolution=64, classes=10)
    on_meta = trace_cost(network)
    monkeypatch.setattr(trace, "_needs_values", {network.function})
    assert trace_cost(network) == on_meta
    if function == "recurrent":  # two layers of four gates, from input and from state, for each of 64 tokens
        assert on_meta.macs == 64 * 16 * 192 + 64 * 48 * (16 + 12) + 64 * 48 * (12 + 12) + 120


def test_shapes_of_maps_with_channels_last_and_of_sequences():
    for side in (128, (64, 128)):
        size = {"resolution": side} if isinstance(side, int) else {"resolution": 64, "aspect_ratio": (2, 1)}
        stages = trace_cost(own("channels_last", classes=10, **size)).stages
        height, width = (side, side) if isinstance(side, int) else side
        expected = [(16, height // 8, width // 8), (24, height // 8, width // 8), (24, 1, 1), (10, 1, 1)]
        assert [(stage.channels, stage.side, stage.width or stage.side) for stage in stages] == expected
    traced = trace_cost(own("recurrent", resolution=64, classes=10))
    assert [(stage.channels, stage.side, stage.width or stage.side) for stage in traced.stages] == [
        (12, 8, 8),
        (10, 1, 1),
    ]


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


def test_size_at_which_a_model_fails_is_never_the_result():
    baseline = own("fixed_size", resolution=64, classes=10, total_stride=2)
    full = trace_counts(baseline).macs
    for share in (0.3, 1.0, 4.0):
        law = EFFICIENTNET if share > 1 else Law(alpha=1.2, beta=1.1, gamma=1)
        fit = fit_budget_traced(baseline, law, Budget(macs=share * full), trace_counts)
        assert fit.network.resolution == 64
        assert 0.6 < fit.limits[0].used <= 1
    with pytest.raises(
        BudgetError, match=r"smaller sizes fail: .*input height .*with --law 1.2,1.1,1 the resolution stays"
    ):
        fit_budget_traced(baseline, EFFICIENTNET, Budget(macs=0.3 * full), trace_counts)


def test_ignored_multipliers_are_noticed():
    assert ignored_multipliers(own("functional", resolution=32), trace_counts) == ("depth", "width")
    assert ignored_multipliers(own("large_images", resolution=96), trace_counts) == ("depth",)
    assert ignored_multipliers(own("plain", resolution=32), trace_counts) == ()
    counted = []

    def count(network: CustomNetwork) -> Counts:
        counted.append(network)
        return trace_counts(network)

    expected = "depth 2 and width 2 give the same parameters and MACs as 1; does own_networks:functional use depth and"
    with pytest.raises(BudgetError, match=expected):
        fit_budget_traced(own("functional", resolution=32), EFFICIENTNET, Budget(params=1e6), count)
    assert len(counted) == 4
    fit = fit_budget_traced(own("functional", resolution=32, total_stride=2), EFFICIENTNET, Budget(macs=1e6), count)
    assert (fit.steps, fit.limits[0].used > 0.7) == ((), True)


def test_fit_begins_at_the_size_of_the_model():
    tried = []

    def count(network: CustomNetwork) -> Counts:
        tried.append(network.resolution)
        return trace_counts(network)

    baseline = own("large_images", resolution=96, classes=10, total_stride=8)
    fit = fit_budget_traced(baseline, EFFICIENTNET, Budget(macs=1.3 * trace_counts(baseline).macs), count)
    assert tried[0] == 96
    assert min(tried) >= 96
    assert fit.limits[0].used > 0.8
    with pytest.raises(NetworkError, match="cannot be run at depth 1, width 1, 32 px"):
        fit_budget_traced(baseline.replace(resolution=32), EFFICIENTNET, Budget(macs=1e9), trace_counts)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "broken",
            r"cannot be built at .*: ValueError: the embedding must .* heads \(own_networks.py, line \d+\)$",
        ),
        ("misspelled", r"cannot be run at .*: AttributeError: .*'bodi'.* \(own_networks.py, line \d+\)$"),
    ],
)
def test_failure_of_a_model_names_its_line(function, message):
    with pytest.raises(NetworkError, match=message):
        trace_cost(own(function))


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
        (
            "too_deep",
            "too_deep cannot be run at depth 1, width 1, 64 px: RuntimeError: .*Kernel size can't be greater than",
        ),
    ],
)
def test_untraceable_module_is_reported(function, message):
    with pytest.raises(NetworkError, match=message):
        trace_cost(own(function, resolution=64))
