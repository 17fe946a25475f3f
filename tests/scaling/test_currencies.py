"""Budgets of every currency are kept, never buy what they do not limit, and say why a part remains."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sizes import size
from triscale.errors import BudgetError
from triscale.families import get
from triscale.jobs.core.networks import fit_any
from triscale.network.arena import flash_bytes, ram_bytes
from triscale.network.cost import count_network
from triscale.network.custom import CustomNetwork
from triscale.network.memory_estimate import inference_bytes, training_bytes
from triscale.scaling.apply import scale_by_law
from triscale.scaling.budget import Budget, cost_value
from triscale.scaling.fit import counting, fit_budget
from triscale.scaling.law import EFFICIENTNET
from triscale.scaling.named_laws import NAMED_LAWS
from triscale.scaling.slack import why_slack

B0, V2, R50 = get("efficientnet_b0"), get("mobilenet_v2"), get("resnet50")
CURRENCIES = ("macs", "params", "size", "activations", "memory", "training_memory", "ram", "flash")
laws = st.sampled_from(sorted(set(NAMED_LAWS) - {"tinynet"}))
baselines = st.sampled_from([B0, V2, R50, get("resnet18"), get("mnasnet_a1"), get("mcunet_256kb")])


def budget_of(baseline, shares: dict[str, float]) -> Budget:
    needed = counting(Budget(memory=1, training_memory=1, ram=1, flash=1), None)(baseline)
    return Budget(**{name: share * cost_value(needed, name) for name, share in shares.items()})


@settings(max_examples=size(25, 60), deadline=None)
@given(
    baselines,
    laws,
    st.dictionaries(st.sampled_from(CURRENCIES), st.floats(0.3, 12), min_size=1, max_size=3),
    st.floats(1, 1.4),
)
def test_several_currencies_are_kept_and_larger_budgets_never_shrink(baseline, law, shares, more):
    budget, larger = (
        budget_of(baseline, shares),
        budget_of(baseline, {name: more * share for name, share in shares.items()}),
    )
    try:
        fit = fit_budget(baseline, NAMED_LAWS[law], budget)
    except BudgetError as error:
        assume("the smallest needs" in str(error) or "does not reach" in str(error))
        return
    counted = count_network(fit.network)
    figures = {
        "macs": counted.macs,
        "params": counted.params,
        "size": 4 * (counted.params + counted.buffers),
        "activations": counted.activations,
        "memory": inference_bytes(fit.network),
        "training_memory": training_bytes(fit.network),
        "ram": ram_bytes(fit.network),
        "flash": flash_bytes(fit.network),
    }
    for limit in fit.limits:
        assert figures[limit.name] == limit.achieved <= limit.requested == budget.limits[limit.name]
    if fit.network.stages[0].block.kind not in ("basic", "bottleneck"):  # whose projections come and go
        again = fit_budget(baseline, NAMED_LAWS[law], larger)
        if "ram" in shares and baseline.padding == "symmetric":  # images of odd sides need no padded copies
            assert again.phi >= fit.phi
            return
        assert all(new.achieved >= old.achieved for old, new in zip(fit.limits, again.limits, strict=True))


@settings(max_examples=size(25, 60), deadline=None)
@given(
    baselines,
    laws,
    st.sampled_from([("params",), ("size",), ("params", "size"), ("macs", "params")]),
    st.floats(0.6, 12),
)
def test_budgets_of_parameters_buy_no_resolution_beyond_the_law(baseline, law, names, share):
    budget = budget_of(baseline, dict.fromkeys(names, share) | ({"macs": 1000.0} if "macs" in names else {}))
    try:
        fit = fit_budget(baseline, NAMED_LAWS[law], budget)
    except BudgetError as error:
        assume("the smallest needs" in str(error) or "does not reach" in str(error))
        return
    # Steps at the same phi cannot be taken in part by a phi; the resolution is that of the law just after it.
    beyond = scale_by_law(baseline, NAMED_LAWS[law], fit.phi + 1e-3 if "resolution" in str(fit.steps) else fit.phi)
    assert fit.network.resolution == beyond.resolution


@pytest.mark.parametrize("baseline", [B0, V2, R50], ids=lambda network: network.name)
def test_budgets_of_parameters_stay_near_the_compute_of_the_law(baseline):
    for share in (0.7, 1.3, 2, 3, 5, 8):
        budget = budget_of(baseline, {"params": share})
        fit = fit_budget(baseline, EFFICIENTNET, budget)
        assert fit.limits[0].used > 0.97
        # The first network of the law that the budget does not admit.
        phis = (fit.phi + number / 100 for number in range(1, 200))
        beyond = next(found for phi in phis if not budget.admits(found := count_network(at(baseline, phi))))
        assert count_network(fit.network).macs <= 1.1 * beyond.macs


def at(baseline, phi):
    return scale_by_law(baseline, EFFICIENTNET, phi)


def test_unused_budget_is_explained():
    full = Budget.of("1G")
    assert why_slack(B0, fit_budget(B0, EFFICIENTNET, full), full) is None
    coarse = Budget.of("200M")
    reason = why_slack(B0, fit_budget(B0, NAMED_LAWS["resolution"], coarse), coarse)
    assert reason == "the next step of the law, resolution 176 px, needs 254M MACs"
    flat = Budget.of("1G, 8M params")
    fit = fit_budget(B0, NAMED_LAWS["resolution"], flat)
    assert fit.binding == "macs"
    still = NAMED_LAWS["paper"].replace(alpha=1, beta=1, gamma=1)
    assert why_slack(B0, fit_budget(B0, still, full), full) == "the law has no further step that adds MACs"


def test_custom_models_have_budgets_of_activations_but_not_of_memory():
    own = CustomNetwork(name="own", function="package.module:build")
    for form in ("30MB memory", "256KB ram", "1MB flash"):
        with pytest.raises(BudgetError, match="memory is not limited for custom models such as own"):
            fit_any(own, EFFICIENTNET, Budget.of(form))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["mcunet_5fps", "mcunet_256kb", "mobilenet_v1_025", "mobilenet_v2_030_80"]),
    st.sampled_from(["mcu", "paper", "dwr"]),
    st.sampled_from([1, 3]),
    st.floats(20e3, 600e3),
    st.floats(1, 1.5),
)
def test_budgets_of_ram_down_to_20_kilobytes_are_kept_and_never_shrink_a_network(name, law, channels, ram, more):
    baseline = get(name).replace(in_channels=channels)
    fit, again = (fit_budget(baseline, NAMED_LAWS[law], Budget(ram=limit)) for limit in (ram, more * ram))
    assert ram_bytes(fit.network) == fit.limits[0].achieved <= ram
    assert fit.limits[0].achieved <= again.limits[0].achieved
    assert fit.network.resolution >= 32


@pytest.mark.parametrize("law", ["mcu", "paper"])
def test_budgets_of_ram_buy_nothing_that_needs_no_ram_beyond_the_law(law):
    for ram in (20e3, 64e3, 256e3):
        baseline = get("mcunet_256kb")
        fit = fit_budget(baseline, NAMED_LAWS[law], Budget(ram=ram))
        along = scale_by_law(baseline, NAMED_LAWS[law], fit.phi)
        if not fit.steps:
            assert fit.network.structure == along.structure
        else:
            assert ram_bytes(fit.network) > ram_bytes(along)


def test_law_for_microcontrollers_has_the_published_networks():
    for phi, name in ((-1, "mobilenet_v2_035_144"), (-2, "mobilenet_v2_030_80")):
        ours, published = scale_by_law(V2, NAMED_LAWS["mcu"], phi), get(name)
        assert ours.stages == published.stages
        assert (ours.stem.width, ours.head.width, ours.resolution) == (
            published.stem.width,
            published.head.width,
            published.resolution,
        )
