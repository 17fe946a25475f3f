"""Fits never exceed the budget, use most of it, and a larger budget never gives a smaller network.

A hundred budgets are tried, a thousand with ``make test-all``, over three families, with one, two and three limits.
"""

from __future__ import annotations

import math
import random
import re
import statistics

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import sizes
from triscale.errors import BudgetError
from triscale.families import get
from triscale.network.cost import Counts, cost, count_network
from triscale.network.custom import CustomNetwork
from triscale.network.spec import Basic, Bottleneck, Conv, Head, MBConv, Network, Stage, Stem
from triscale.scaling.apply import scale
from triscale.scaling.budget import Budget, cost_value
from triscale.scaling.fit import Fit, fit_budget
from triscale.scaling.fit_traced import fit_budget_traced
from triscale.scaling.law import EFFICIENTNET, Law

B0, V2, R50 = get("efficientnet_b0"), get("mobilenet_v2"), get("resnet50")
BASELINES = (B0, V2, R50)


def random_budget(random_numbers: random.Random, baseline: Network) -> Budget:
    """Draw limits between half (of MACs: a tenth) and ten times of what the baseline needs."""
    needed = count_network(baseline)
    least = {"macs": -1.0, "params": -0.3, "size": -0.3}
    names = random_numbers.choice([("macs",), ("macs",), ("params",), ("size",), ("macs", "params"), ("macs", "size")])
    return Budget(**{name: cost_value(needed, name) * 10 ** random_numbers.uniform(least[name], 1) for name in names})


def check(fit: Fit, baseline: Network, law: Law, budget: Budget) -> None:
    counted = count_network(fit.network)
    assert budget.admits(counted)
    assert [limit.name for limit in fit.limits] == list(budget.limits)
    for limit in fit.limits:
        assert limit.requested == budget.limits[limit.name]
        assert limit.achieved == cost_value(counted, limit.name) <= limit.requested
        assert 0 < limit.used <= 1
    assert fit.binding == max(fit.limits, key=lambda limit: limit.used).name
    assert fit.baseline == baseline.name
    assert fit.scale == law.at(fit.phi)
    if not fit.steps:
        assert scale(baseline, fit.scale).replace(name=fit.network.name) == fit.network


@pytest.mark.parametrize(
    ("baseline", "number"),
    [
        *[pytest.param(*case, id=f"{case[0].name}-{case[1]}") for case in ((B0, 15), (V2, 65), (R50, 20))],
        *[
            pytest.param(*case, id=f"{case[0].name}-{case[1]}", marks=pytest.mark.stress)
            for case in ((B0, 150), (V2, 650), (R50, 200))
        ],
    ],
)
def test_random_budgets_are_met_and_used(baseline, number):
    random_numbers = random.Random(baseline.name)
    used = []
    for _ in range(number):
        budget = random_budget(random_numbers, baseline)
        fit = fit_budget(baseline, EFFICIENTNET, budget)
        check(fit, baseline, EFFICIENTNET, budget)
        used.append(max(limit.used for limit in fit.limits))
    assert statistics.median(used) >= 0.97
    sizes.figure(9, "random budgets kept", number, number, median_used=round(statistics.median(used), 4))


coefficients = st.sampled_from([1.0, 1.02, 1.1, 1.2, 1.5, 2.0])


@settings(max_examples=60, deadline=None)
@given(coefficients, coefficients, coefficients, st.floats(0.02, 20), st.sampled_from([*BASELINES, get("resnet18")]))
def test_any_law_meets_budget(alpha, beta, gamma, share, baseline):
    law = Law(alpha=alpha, beta=beta, gamma=gamma)
    budget = Budget(macs=share * count_network(baseline).macs)
    try:
        fit = fit_budget(baseline, law, budget)
    except BudgetError as error:
        assume("the smallest needs" in str(error))
        assert share < 1
    else:
        check(fit, baseline, law, budget)


# Stages of equal width at stride 1: a projection appears and disappears as the widths grow one after the other.
EQUAL_WIDTHS = Network(
    name="equal_widths",
    stem=Stem(width=32, activation="relu"),
    stages=(
        Stage(block=Bottleneck(), width=128, repeats=2, stride=2),
        Stage(block=Bottleneck(kernel=5), width=128, repeats=2),
        Stage(block=Bottleneck(), width=120, repeats=2),
        Stage(block=Basic(), width=256, repeats=1, stride=2),
    ),
    resolution=64,
)


@pytest.mark.parametrize(
    ("baseline", "law"),
    [
        (B0, EFFICIENTNET),
        (V2, EFFICIENTNET),
        (get("resnet18"), EFFICIENTNET),
        (get("efficientnet_lite0"), EFFICIENTNET),
        (B0, Law(alpha=1, beta=1.4, gamma=1)),
        (EQUAL_WIDTHS, EFFICIENTNET),
        (EQUAL_WIDTHS, Law(alpha=1, beta=1.4, gamma=1)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
@pytest.mark.stress
def test_larger_budget_never_gives_smaller_network(baseline, law):
    random_numbers = random.Random(0)
    needed = count_network(baseline)
    for name in ("macs", "size"):
        last = 0
        limits = sorted(cost_value(needed, name) * 2 ** random_numbers.uniform(-1, 3) for _ in range(25))
        for limit in limits:
            try:
                fit = fit_budget(baseline, law, Budget(**{name: limit}))
            except BudgetError:
                assert not last
                continue
            assert fit.limits[0].achieved >= last
            last = fit.limits[0].achieved


@settings(max_examples=40, deadline=None)
@given(st.floats(0.2, 5), st.floats(0.5, 5), st.floats(1, 1.5), st.floats(1, 1.5))
def test_larger_limits_never_give_smaller_network(macs, params, more_macs, more_params):
    first = Budget(macs=macs * count_network(V2).macs, params=params * count_network(V2).params)
    second = Budget(macs=first.macs * more_macs, params=first.params * more_params)
    small, large = (fit_budget(V2, EFFICIENTNET, budget).limits for budget in (first, second))
    assert all(more.achieved >= less.achieved for less, more in zip(small, large, strict=True))


def test_budget_of_baseline_cost_gives_baseline():
    for baseline in (*BASELINES, get("resnet18"), get("mobilenet_v1"), get("efficientnet_lite2")):
        for name in ("macs", "params", "size"):
            fit = fit_budget(baseline, EFFICIENTNET, Budget(**{name: cost_value(count_network(baseline), name)}))
            assert fit.limits[0].used <= 1
            if fit.network.replace(name=baseline.name) == baseline:
                assert fit.phi == 0
    exact = fit_budget(B0, EFFICIENTNET, Budget(macs=cost(B0).macs))
    assert exact.network.replace(name=B0.name) == B0
    assert (exact.phi, exact.steps, exact.limits[0].used) == (0, (), 1)


def test_two_limits_are_met():
    alone = fit_budget(B0, EFFICIENTNET, Budget(macs=1e9))
    tight = fit_budget(B0, EFFICIENTNET, Budget(macs=1e9, params=6e6))
    loose = fit_budget(B0, EFFICIENTNET, Budget(macs=1e9, params=1e9))
    assert (tight.binding, loose.binding) == ("params", "macs")
    assert cost(tight.network).params <= 6e6
    assert loose.phi == alone.phi
    assert tight.limits[1].used > 0.9


def test_size_counts_parameters_and_running_statistics():
    fit = fit_budget(B0, EFFICIENTNET, Budget(size=20e6))
    counted = cost(fit.network)
    assert fit.limits[0].achieved == 4 * (counted.params + counted.buffers) <= 20_000_000
    assert fit.binding == "size"


def test_extra_steps_are_described():
    fit = fit_budget(B0, EFFICIENTNET, Budget(macs=1e9))
    assert fit.steps
    by_phi = scale(B0, fit.scale)
    assert count_network(by_phi).macs < count_network(fit.network).macs <= 1e9
    forms = re.compile(r"(stem|head|stage \d): \d+ (channels|blocks)|resolution \d+ px")
    assert all(forms.fullmatch(step) for step in fit.steps)
    assert f"{fit.limits[0]}".endswith("% used)")


def test_network_name_contains_baseline_and_phi():
    assert fit_budget(B0, EFFICIENTNET, Budget(macs=1e9)).network.name == "efficientnet_b0_phi+1.1"
    assert fit_budget(B0, EFFICIENTNET, Budget(macs=1e8)).network.name.startswith("efficientnet_b0_phi-")


@pytest.mark.parametrize("forms", ["1k", "1k, 5M params", "1k params", "1kB", "500 bytes, 1M"])
@pytest.mark.parametrize("baseline", [*BASELINES, get("mobilenet_v1_025")], ids=lambda network: network.name)
def test_infeasible_budget_error_reports_minimum(baseline, forms):
    budget = Budget.of(forms)
    with pytest.raises(BudgetError, match=f"no network scaled from {baseline.name} meets the budget") as caught:
        fit_budget(baseline, EFFICIENTNET, budget)
    needed = Budget.of(*re.findall(r"at least ([\d.]+[kMG]?B?(?: MACs| params| bytes)?)", str(caught.value)))
    possible = Budget(**(budget.model_dump() | needed.model_dump(exclude_none=True)))
    check(fit_budget(baseline, EFFICIENTNET, possible), baseline, EFFICIENTNET, possible)


def test_budget_below_reported_minimum_is_infeasible():
    with pytest.raises(BudgetError) as caught:
        fit_budget(B0, EFFICIENTNET, Budget(macs=1))
    (needed,) = Budget.of(*re.findall(r"at least ([\d.]+[kMG]? MACs)", str(caught.value))).limits.values()
    with pytest.raises(BudgetError):
        fit_budget(B0, EFFICIENTNET, Budget(macs=0.98 * needed))


@pytest.mark.parametrize(
    ("law", "budget"),
    [
        (Law(alpha=1, beta=1, gamma=1.2), Budget(params=6e6)),
        (Law(alpha=1, beta=1, gamma=1.2), Budget(params=6e6, size=50e6)),
        (Law(alpha=1.5, beta=1, gamma=1), Budget(macs=1e14)),
    ],
)
def test_law_that_never_reaches_limit_is_rejected(law, budget):
    with pytest.raises(
        BudgetError, match=r"does not reach .* from efficientnet_b0.*add a limit that grows with the law"
    ):
        fit_budget(B0, law, budget)


def test_law_without_growth_gives_the_baseline_or_an_error():
    still = Law(alpha=1, beta=1, gamma=1)
    fit = fit_budget(B0, still, Budget(macs=1e12))
    assert (fit.network.replace(name=B0.name), fit.phi, fit.steps) == (B0, 0, ())
    with pytest.raises(BudgetError, match="at least 386M MACs"):
        fit_budget(B0, still, Budget(macs=3e8))


@pytest.mark.parametrize(
    ("law", "kept"),
    [
        (Law(alpha=1, beta=1.1, gamma=1.15), "depth"),
        (Law(alpha=1.2, beta=1, gamma=1.15), "width"),
        (Law(alpha=1.2, beta=1.1, gamma=1), "resolution"),
    ],
)
@pytest.mark.parametrize("macs", [1e8, 2e9])
def test_coefficient_of_one_keeps_dimension(law, kept, macs):
    network = fit_budget(B0, law, Budget(macs=macs)).network
    changed = {
        "depth": [stage.repeats for stage in network.stages] != [stage.repeats for stage in B0.stages],
        "width": [stage.width for stage in network.stages] != [stage.width for stage in B0.stages],
        "resolution": network.resolution != B0.resolution,
    }
    assert changed == {name: name != kept for name in changed}


def test_fixed_dimensions_are_kept():
    lite = get("efficientnet_lite0")
    for macs in (1e8, 5e8, 5e9):
        network = fit_budget(lite, EFFICIENTNET, Budget(macs=macs)).network
        assert (network.stem.width, network.head.width) == (32, 1280)
        assert (network.stages[0].repeats, network.stages[-1].repeats) == (1, 1)
    assert fit_budget(V2, EFFICIENTNET, Budget(macs=1e8)).network.head.width == 1280


def small(stride: int, width: int) -> Network:
    return Network(
        name=f"stride_{stride}",
        stem=Stem(width=width, stride=1),
        stages=(
            Stage(block=Conv(), width=width, repeats=1, stride=2),
            Stage(block=MBConv(), width=2 * width, repeats=2, stride=stride // 2),
        ),
        head=Head(width=100),
        resolution=28,
        classes=10,
    )


@pytest.mark.parametrize("network", [small(4, 20), small(8, 20), small(8, 12)], ids=lambda network: network.name)
def test_small_networks_with_odd_widths_are_fitted(network):
    random_numbers = random.Random(1)
    used = []
    for _ in range(40):
        budget = Budget(macs=count_network(network).macs * 10 ** random_numbers.uniform(-0.7, 1.3))
        fit = fit_budget(network, EFFICIENTNET, budget)
        check(fit, network, EFFICIENTNET, budget)
        used.append(fit.limits[0].used)
    assert statistics.median(used) >= 0.85


def test_fit_is_deterministic():
    fits = [fit_budget(R50, EFFICIENTNET, Budget(macs=2.5e9)) for _ in range(2)]
    assert fits[0].to_json() == fits[1].to_json()


OWN = CustomNetwork(name="own", function="package.module:build", resolution=64)


def smooth(network: CustomNetwork) -> Counts:
    """Cost of a network that neither rounds depth nor width."""
    return Counts(
        params=int(1e6 * network.depth * network.width**2),
        macs=int(1e8 * network.depth * network.width**2 * (network.resolution / 64) ** 2),
    )


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 100))
@example(0.15625)
def test_traced_fit_meets_budget(share):
    budget = Budget(macs=share * 1e8)
    fit = fit_budget_traced(OWN, EFFICIENTNET, budget, smooth)
    assert fit.limits[0].achieved == smooth(fit.network).macs <= budget.macs
    assert fit.scale == EFFICIENTNET.at(fit.phi)
    along = scale(OWN, fit.scale).replace(name=fit.network.name)
    assert along.resolution == fit.network.resolution
    assert along == fit.network or fit.steps
    assert fit.limits[0].used > 0.98
    assert smooth(scale(OWN, EFFICIENTNET.at(fit.phi + 1 / 256))).macs > budget.macs


def test_traced_fit_of_nonmonotonic_cost_is_counted():
    counted = {}

    def uneven(network: CustomNetwork) -> Counts:
        tally = Counts(macs=int(1e8 * network.depth * (1 + 0.5 * math.sin(40 * network.depth))))
        counted[network.structure] = tally
        return tally

    fit = fit_budget_traced(OWN, EFFICIENTNET, Budget(macs=3e8), uneven)
    assert fit.limits[0].achieved == counted[fit.network.structure].macs <= 3e8


def test_infeasible_traced_fits_are_rejected():
    with pytest.raises(
        BudgetError, match=r"no network scaled from own meets the budget of 1.00k MACs; the smallest needs"
    ):
        fit_budget_traced(OWN, EFFICIENTNET, Budget(macs=1e3), smooth)
    for law in (EFFICIENTNET, Law(alpha=2, beta=1, gamma=1), Law(alpha=1, beta=100, gamma=1)):
        with pytest.raises(BudgetError, match=r"does not reach 1.00G MACs from own"):
            fit_budget_traced(OWN, law, Budget(macs=1e9), lambda network: Counts(macs=5))


def test_traced_law_without_growth_gives_baseline():
    fit = fit_budget_traced(OWN, Law(alpha=1, beta=1, gamma=1), Budget(macs=1e9), smooth)
    assert (fit.phi, fit.network.replace(name="own")) == (0, OWN)
