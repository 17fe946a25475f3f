"""Verdicts of a comparison are no sharper than the data."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from triscale.families import get
from triscale.search.compare.contenders import equal_cost
from triscale.search.compare.results import ComparisonResult, compare_trained, verdict
from triscale.search.study.trial import Job, Proxy, Score

WAYS = ("baseline", "depth", "width", "resolution", "compound")


@pytest.fixture(scope="module")
def comparison():
    return equal_cost(get("efficientnet_b0").replace(classes=10), 4.0)


def trained(comparison, accuracies: dict[str, Sequence[float]]) -> ComparisonResult:
    """Return a comparison in which each network has the given accuracy with each seed."""
    ways = {contender.network.structure: contender.way for contender in comparison.contenders}
    seeds = tuple(range(len(accuracies["compound"])))

    def evaluate(jobs: Sequence[Job]) -> list[Score]:
        return [Score(accuracies[ways[job.network.structure]][job.seed], 0.002) for job in jobs]

    return compare_trained(comparison, Proxy(epochs=3, images=500, seeds=seeds), evaluate, images="x", count=1000)


def with_compound(compound: Sequence[float], others: Sequence[float]) -> dict[str, Sequence[float]]:
    return {way: compound if way == "compound" else others for way in WAYS}


def test_clear_difference_has_one_best(comparison):
    result = trained(comparison, with_compound((0.8, 0.801, 0.799), (0.6, 0.601, 0.599)))
    assert [result.standing(one) for one in result.outcomes] == ["", "", "", "", "best"]
    assert verdict(result).endswith("+20.0 points")


def test_small_difference_is_a_tie(comparison):
    result = trained(comparison, with_compound((0.70, 0.66, 0.68), (0.67, 0.69, 0.65)))
    assert [result.standing(one) for one in result.outcomes] == ["", "tied", "tied", "tied", "tied"]
    assert "a tie: 3 seeds cannot distinguish it from zero" in verdict(result)


def test_one_seed_ranks_nothing(comparison):
    result = trained(comparison, with_compound((0.9,), (0.5,)))
    assert {result.standing(one) for one in result.outcomes[1:]} == {"tied"}
    assert "with one seed the spread between trainings is unknown, so the networks are not ranked" in verdict(result)


def test_results_near_chance_are_called_so(comparison):
    result = trained(comparison, with_compound((0.11, 0.09, 0.1), (0.1, 0.1, 0.1)))
    assert result.near_chance
    assert "all are near chance (10.0%), so nothing is compared" in verdict(result)
