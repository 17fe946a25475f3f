"""Latency budgets, with synthetic predictors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import BudgetError
from triscale.families import get
from triscale.jobs.core.networks import fit_any
from triscale.network.cost import Counts, count_network
from triscale.network.custom import CustomNetwork
from triscale.network.latency import NAMES, Predictor, predict
from triscale.scaling.budget import Budget, BudgetedCounts
from triscale.scaling.fit import Fit, fit_budget
from triscale.scaling.law import EFFICIENTNET

B0 = get("efficientnet_b0")


def predictor(**milliseconds: float) -> Predictor:
    return Predictor(
        engine="onnxruntime",
        threads=1,
        processor="a processor",
        milliseconds={name.replace("_", ".", 1): value for name, value in milliseconds.items()},
        error=0.05,
        error_90=0.1,
        held_out=10,
    )


EVERYTHING = Predictor(**(predictor().model_dump() | {"milliseconds": dict.fromkeys(NAMES, 0.01)}))
MACS = predictor(
    stem_macs=0.03, pointwise_macs=0.03, dense_macs=0.03, depthwise3_macs=0.03, depthwise_macs=0.03, linear_weights=0.03
)
"""0.03 ms for a million MACs: 386M of them take 11.6 ms."""


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2", "mnasnet_a1", "resnet50"])
@pytest.mark.parametrize("limit", [2.0, 7.77, 40.0])
def test_predicted_latency_is_within_and_close_to_limit(name, limit):
    fit = fit_budget(get(name), EFFICIENTNET, Budget(latency=limit), EVERYTHING)
    (result,) = fit.limits
    assert result.requested == round(1000 * limit)
    assert predict(EVERYTHING, fit.network) <= result.achieved / 1000 <= limit
    assert result.used > 0.9
    assert fit.predictor == EVERYTHING
    assert Fit.from_json(fit.to_json()) == fit


@settings(deadline=None, max_examples=15)
@given(st.floats(1, 60), st.floats(1, 1.5))
@pytest.mark.stress
def test_larger_latency_budget_never_gives_smaller_network(limit, more):
    small, large = (fit_budget(B0, EFFICIENTNET, Budget(latency=limit * by), EVERYTHING) for by in (1, more))
    assert small.limits[0].achieved <= large.limits[0].achieved


def test_latency_proportional_to_macs_matches_macs_fit():
    by_time = fit_budget(B0, EFFICIENTNET, Budget(latency=30.0), MACS)
    by_macs = fit_budget(B0, EFFICIENTNET, Budget(macs=1e9))
    # The vectors of squeeze-excite are free in this predictor: 1% of the MACs.
    assert count_network(by_time.network).macs == pytest.approx(count_network(by_macs.network).macs, rel=0.03)


def test_all_limits_are_met():
    fit = fit_budget(B0, EFFICIENTNET, Budget.of("20ms", "5M params"), MACS)
    assert {limit.name: limit.used <= 1 for limit in fit.limits} == {"params": True, "latency": True}
    assert fit.binding == "params"
    assert "ms of 20 ms" in str(fit.limits[1])


def test_counted_limits_do_not_depend_on_profile():
    with_profile = fit_budget(B0, EFFICIENTNET, Budget(macs=1e9), EVERYTHING)
    assert with_profile == fit_budget(B0, EFFICIENTNET, Budget(macs=1e9))
    assert with_profile.predictor is None


def test_missing_profile_error_explains_how_to_create_one():
    with pytest.raises(BudgetError, match="triscale profile --out"):
        fit_budget(B0, EFFICIENTNET, Budget(latency=20))
    with pytest.raises(BudgetError, match="triscale profile --out"):
        Budget(latency=20).admits(Counts())
    assert Budget(latency=20).admits(BudgetedCounts(Counts(), 20_000))
    assert not Budget(latency=20).admits(BudgetedCounts(Counts(), 20_001))


def test_infeasible_latency_error_reports_minimum():
    with pytest.raises(BudgetError, match=r"at least (\S+ ms)") as caught:
        fit_budget(B0, EFFICIENTNET, Budget(latency=0.05), EVERYTHING)
    least = str(caught.value).split("at least ")[1].split(":")[0]
    assert fit_budget(B0, EFFICIENTNET, Budget.of(least), EVERYTHING).limits[0].used <= 1


def test_latency_of_custom_model_is_not_predicted():
    own = CustomNetwork(name="own", function="somewhere:build")
    with pytest.raises(BudgetError, match="does not predict the latency of custom models such as own; without it"):
        fit_any(own, EFFICIENTNET, Budget(latency=20), EVERYTHING)


def test_latency_text_round_trips():
    for form, words in (("20ms", "20 ms"), (".5s", "500 ms"), ("2s", "2 s"), ("800us", "0.8 ms")):
        budget = Budget.of(form)
        assert str(budget) == words
        assert Budget.of(str(budget)) == budget
    assert Budget(latency=4.35).limits == {"latency": 4350}
