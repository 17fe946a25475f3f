"""Four scaling methods at equal real cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import BudgetError, NetworkError, SearchError
from triscale.families import get
from triscale.jobs.core.networks import count_of, fit_any
from triscale.network.cost import count_network
from triscale.network.custom import CustomNetwork
from triscale.scaling.apply import scale
from triscale.scaling.law import EFFICIENTNET, Law
from triscale.search.compare.contenders import Comparison, equal_cost

WAYS = ["baseline", "depth", "width", "resolution", "compound"]


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["efficientnet_b0", "mobilenet_v1", "mobilenet_v2", "resnet50", "efficientnet_b0@32"]),
    times=st.sampled_from([2.0, 3.0, 4.0, 6.5]),
    phi=st.sampled_from([0.0, -1.0, -2.0, -3.0]),
)
def test_networks_have_nearly_equal_cost_within_target(name, times, phi):
    baseline = get(name)
    result = equal_cost(baseline, times, phi=phi)
    assert [contender.way for contender in result.contenders] == WAYS
    start = scale(baseline, EFFICIENTNET.at(phi))
    assert result.baseline.structure == start.structure
    requested = int(times * count_network(start).macs)
    for contender in result.contenders[1:]:
        assert contender.macs.achieved == count_network(contender.network).macs <= requested == contender.macs.requested
        assert contender.params == count_network(contender.network).params
    assert result.unevenness < 0.05
    assert max(contender.macs.used for contender in result.contenders[1:]) > 0.75


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v1", "mobilenet_v2", "resnet50"])
def test_paper_baselines_at_4x_are_within_three_percent(name):
    result = equal_cost(get(name), 4)
    assert result.unevenness < 0.03
    assert min(contender.macs.used for contender in result.contenders) > 0.96


def test_each_way_scales_only_its_dimension():
    for contender in equal_cost(get("mobilenet_v2"), 4).contenders:
        grown = {name for name, value in contender.realized.model_dump().items() if value > 1}
        expected = {"baseline": set(), "compound": {"depth", "width", "resolution"}}.get(contender.way, {contender.way})
        assert grown == expected
    depth, width, resolution = (equal_cost(get("resnet50"), 4).contenders[index].realized for index in (1, 2, 3))
    assert resolution.resolution == 2
    assert width.width == pytest.approx(2, abs=0.05)
    assert depth.depth == pytest.approx(4.4, abs=0.3)  # the stem and the first blocks of a stage stay as they are


def test_second_round_reduces_cost_differences():
    result = equal_cost(get("efficientnet_b0"), 4, phi=-2)
    one = equal_cost(get("efficientnet_b0"), 4, phi=-2, fit=_first_only())
    assert result.unevenness < one.unevenness


def _first_only():
    """Return a fit function that always uses the first budget."""
    first = []

    def fit(network, law, budget):
        first.append(budget)
        return fit_any(network, law, first[0])

    return fit


@pytest.mark.stress
def test_custom_network_is_compared(tmp_path, monkeypatch):
    (tmp_path / "own_small.py").write_text(
        "from torch import nn\n"
        "def build(depth, width, classes):\n"
        "    channels = max(4, round(16 * width))\n"
        "    layers = [nn.Conv2d(3, channels, 3, stride=4, padding=1)]\n"
        "    for _ in range(max(1, round(3 * depth))):\n"
        "        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]\n"
        "    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = CustomNetwork(name="own", function="own_small:build", resolution=64, classes=5, total_stride=4)
    with pytest.raises(NetworkError, match="has to be traced"):
        equal_cost(own, 4)
    result = equal_cost(own, 4, fit=fit_any, count=count_of)
    base = count_of(own).macs
    for contender in result.contenders[1:]:
        assert contender.macs.achieved <= 4 * base
        assert contender.macs.used > 0.8


def test_fixed_dimension_is_rejected():
    fixed = get("mobilenet_v2")
    stages = tuple(stage.model_copy(update={"depth_rule": "fixed"}) for stage in fixed.stages)
    with pytest.raises(BudgetError, match=r"the law \(alpha 2, beta 1, gamma 1\) does not reach"):
        equal_cost(fixed.replace(stages=stages), 4)


def test_comparison_without_scaling_is_rejected():
    with pytest.raises(SearchError, match="at 1 times the cost needs no scaling"):
        equal_cost(get("resnet18"), 1)
    with pytest.raises(SearchError, match="does not scale anything"):
        equal_cost(get("resnet18"), 4, law=Law(alpha=1, beta=1, gamma=1))


def test_record_round_trips():
    result = equal_cost(get("resnet18"), 2)
    assert Comparison.from_json(result.to_json()) == result
