"""Smaller networks: channels that repeat others cost nothing, and least squares is that of a reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inherited_networks import MEASURED, error_of, inherited, small, smooth_images, trained_like
from triscale.nn.build import build
from triscale.scaling.apply import scale
from triscale.scaling.law import Scale
from triscale.weights.inherit import SourceChannels, inherit
from triscale.weights.inheritance_plan import plan_inheritance
from triscale.weights.prune import (
    InputStatistics,
    block_importances,
    input_statistics,
    keep_channels,
    least_squares,
    most_important,
)


def statistics_of(rows: np.ndarray) -> InputStatistics:
    return input_statistics(torch.nn.Sequential(torch.nn.Linear(rows.shape[1], 1)), ["0"], [torch.from_numpy(rows)])[
        "0"
    ]


@pytest.mark.parametrize("name", MEASURED)
def test_channels_that_repeat_others_are_left_out(name):
    """A network that was widened with copies of its channels shrinks back to nearly its own function."""
    source = small(name)
    model = trained_like(source)
    wide_network = scale(source, Scale(depth=1.0, width=2.0, resolution=1.0))
    wide = inherited(source, model, wide_network, noise=0.0)
    plan = plan_inheritance(wide_network, source)
    measured = input_statistics(wide, [layer.source for layer in plan.readers], smooth_images(512, 2).split(64))
    back = build(source)
    back.load_state_dict(
        inherit(plan, wide.state_dict(), back.state_dict(), channels=SourceChannels(plan, wide.state_dict(), measured))
    )
    plain = build(source)
    plain.load_state_dict(inherit(plan, wide.state_dict(), plain.state_dict()))
    test = smooth_images(64, 5)
    assert error_of(back, model, test) <= 0.1 * error_of(plain, model, test)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.data())
def test_reconstruction_is_least_squares(seed, channels, data):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(5000, channels)) @ rng.normal(size=(channels, channels)) + rng.normal(size=channels)
    rows = mixed.astype(np.float32)
    kept = data.draw(st.lists(st.integers(0, channels - 1), min_size=1, max_size=channels, unique=True).map(sorted))
    weight = rng.normal(size=(3, channels)).astype(np.float32)
    statistics = statistics_of(rows)
    corrected, added = least_squares(torch.from_numpy(weight), statistics, torch.tensor(kept))
    # A ridge is the same as further rows with one channel each.
    ridge = (statistics.regularized - statistics.covariance).diagonal().mean().item()
    mean = rows.astype(np.float64).mean(0)
    design = np.concatenate([rows - mean, np.sqrt(len(rows) * ridge) * np.eye(channels)])
    best = np.linalg.lstsq(design[:, kept], design @ weight.T.astype(np.float64), rcond=None)[0].T
    assert corrected.numpy() == pytest.approx(best, rel=1e-3, abs=1e-3 * float(np.abs(weight).max()))
    assert added.numpy() == pytest.approx(weight @ mean - best @ mean[kept], rel=1e-2, abs=1e-2)


def test_covariance_of_a_small_variance_around_a_large_mean_has_all_digits():
    rng = np.random.default_rng(0)
    rows = (np.array([100.0, -3.0]) + 0.05 * rng.normal(size=(5000, 2))).astype(np.float32)
    found, expected = statistics_of(rows), np.cov(rows.astype(np.float64).T, bias=True)
    assert found.covariance.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-8)
    assert found.mean.numpy() == pytest.approx(rows.astype(np.float64).mean(0), rel=1e-6)


def test_convolution_is_reconstructed_at_every_tap():
    covariance = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    statistics = InputStatistics(torch.zeros(2, dtype=torch.float64), covariance, 10**9)
    weight = torch.arange(18.0).view(1, 2, 3, 3)
    corrected, _ = least_squares(weight, statistics, torch.tensor([0]))
    assert torch.allclose(corrected[0, 0], weight[0, 0] + 2 * weight[0, 1], rtol=1e-3)


def test_removal_costs_what_brute_force_finds():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(4000, 5)) @ rng.normal(size=(5, 5))).astype(np.float32)
    weight, statistics = rng.normal(size=(4, 5)).astype(np.float32), statistics_of(rows)
    errors = {}
    for removed in range(5):
        kept = [index for index in range(5) if index != removed]
        corrected, added = least_squares(torch.from_numpy(weight), statistics, torch.tensor(kept))
        errors[removed] = ((rows[:, kept] @ corrected.numpy().T + added.numpy() - rows @ weight.T) ** 2).sum()
    cheapest = min(errors, key=errors.__getitem__)
    assert cheapest not in keep_channels([torch.from_numpy(weight)], [statistics], 4).tolist()


def test_block_that_changes_nothing_is_left_out_first():
    source = scale(small("efficientnet_b0@32"), Scale(depth=2.0, width=1.0, resolution=1.0))
    model = trained_like(source)
    idle = "stages.2.blocks.1"
    with torch.no_grad():
        model.get_submodule(f"{idle}.project.norm").weight.zero_()
        model.get_submodule(f"{idle}.project.norm").bias.zero_()
    importances = block_importances(model, [smooth_images(64, 5)])
    assert importances[idle] == 0
    assert min(value for name, value in importances.items() if name != idle) > 0
    stages = list(source.stages)
    stages[2] = stages[2].model_copy(update={"repeats": stages[2].repeats - 1})
    target = source.replace(stages=tuple(stages))
    plan = plan_inheritance(source, target, importances=importances)
    shallow = build(target)
    shallow.load_state_dict(inherit(plan, model.state_dict(), shallow.state_dict()))
    with torch.no_grad():
        assert torch.allclose(shallow.eval()(smooth_images(64, 5)), model(smooth_images(64, 5)), atol=1e-5)


def test_blocks_that_cannot_be_left_out_are_kept():
    assert most_important(["first", "second", "third"], {"second": 9.0, "third": 1.0}, 2) == [0, 1]
