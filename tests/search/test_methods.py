"""All methods on surfaces with a known best candidate: jobs, compute and limitations."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest

from search.surfaces import TIE, Surface
from triscale.errors import SearchError
from triscale.families import get
from triscale.network.cost import count_network
from triscale.search.coefficients.design import Design, choose_design
from triscale.search.coefficients.grid import Candidates, Grid, find_candidates
from triscale.search.coefficients.methods import Halving, search_grid, search_halving
from triscale.search.coefficients.response import search_response
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.coefficients.surface import (
    FORMS,
    Power,
    Quadratic,
    leave_one_out,
    num_coefficients,
    root_mean_square,
)
from triscale.search.study.standing import means_and_errors, tied_with_best
from triscale.search.study.trial import Proxy, Score

B0, R50 = get("efficientnet_b0"), get("resnet50")
PROXY = Proxy(epochs=9, images=1000, seeds=(0, 1, 2))
SURFACES = 50

counted = functools.cache(count_network)  # the same networks are counted for every surface

METHODS = {
    "grid": lambda candidates, surface: search_grid(candidates, PROXY, surface.train),
    "halving": lambda candidates, surface: search_halving(candidates, PROXY, surface.train),
    "response": lambda candidates, surface: search_response(
        candidates, PROXY, surface.train, count=counted, samples=20
    ),
}


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return find_candidates(B0, Grid())


Searches = dict[str, list[tuple[Surface, CoefficientSearchResult]]]


def search_all(candidates: Candidates, surfaces: int) -> Searches:
    """Search the first surfaces with every method."""
    runs: Searches = {}
    for name, method in METHODS.items():
        runs[name] = [(surface, method(candidates, surface)) for surface in (Surface(B0, at) for at in range(surfaces))]
    return runs


@pytest.fixture(scope="module")
def few(candidates: Candidates) -> Searches:
    return search_all(candidates, 5)


@pytest.fixture(scope="module")
def found(candidates: Candidates) -> Searches:
    """Enough searches for rates."""
    return search_all(candidates, SURFACES)


# The results of benchmarks/search_methods.py, minus the random change of one surface.
@pytest.mark.parametrize(("method", "rate"), [("grid", 0.84), ("halving", 0.78), ("response", 0.9)])
@pytest.mark.stress
def test_methods_find_best_or_tied_candidate(method, rate, candidates, found):
    losses = [surface.loss(candidates, result.network) for surface, result in found[method]]
    assert np.mean(np.array(losses) <= TIE) >= rate
    by_chance = [
        np.mean([surface.loss(candidates, one.network) <= TIE for one in candidates.candidates])
        for surface, _ in found[method]
    ]
    assert np.mean(by_chance) < rate / 2


def test_response_uses_at_most_a_third_of_grid_compute(few):
    for (_, response), (_, grid) in zip(few["response"], few["grid"], strict=True):
        assert response.training_macs <= grid.training_macs / 3
        assert all(trial.ratio <= 1 for trial in response.trials)


def test_compute_is_macs_times_epochs_times_images(candidates, few):
    macs = {candidate.network.structure: candidate.macs for candidate in candidates.candidates}
    for method in ("grid", "halving"):
        for _, result in few[method]:
            spent = [3 * macs[trial.structure] * (trial.stop - trial.start) * 1000 for trial in result.trials]
            assert [trial.training_macs for trial in result.trials] == spent
            assert result.training_macs == sum(spent)
    expected = 3 * sum(macs.values()) * 9 * 1000 * 3
    assert few["grid"][0][1].training_macs == expected


@pytest.mark.stress
def test_ties_contain_best_candidate_at_stated_rate(candidates, found):
    for method, runs in found.items():
        kept = 0
        for surface, result in runs:
            named = {candidate.network.name: candidate.network for candidate in candidates.candidates}
            best = max(named, key=lambda name: surface.truth(named[name]))
            kept += any(standing.network == best and standing.tied for standing in result.standings)
        # Halving sometimes drops the best candidate early, and states this limitation.
        assert kept / SURFACES >= {"grid": 0.9, "halving": 0.6, "response": 0.7}[method], method


def test_standings_are_sorted_and_law_matches_network(candidates, few):
    for runs in few.values():
        for _, result in runs:
            assert len(result.standings) == len(candidates.candidates)
            assert result.standings[0].network == result.network.name
            assert result.standings[0].law == result.law
            full = [standing.accuracy for standing in result.standings if standing.epochs == 9]
            assert full == sorted(full, reverse=True)
            assert all(not standing.tied for standing in result.standings if standing.epochs < 9)
            assert result.limitations
            assert CoefficientSearchResult.from_json(result.to_json()) == result


def test_halving_resumes_each_candidate(candidates):
    surface = Surface(B0, 1)
    requests: list[tuple[int, int, int]] = []

    def train(jobs):
        requests.append((len(jobs), jobs[0].start, jobs[0].stop))
        return surface.train(jobs)

    result = search_halving(candidates, PROXY, train)
    number = len(candidates.candidates)
    kept = [number, math.ceil(number / 3), math.ceil(math.ceil(number / 3) / 3)]
    assert requests == [(3 * kept[0], 0, 1), (3 * kept[1], 1, 3), (3 * kept[2], 3, 9)]
    assert sum(standing.epochs == 9 for standing in result.standings) == kept[2]
    assert any("dropped before 9 epochs" in words for words in result.limitations)


@pytest.mark.parametrize(
    ("halving", "epochs", "rungs"),
    [
        (Halving(), 9, (1, 3, 9)),
        (Halving(), 20, (2, 6, 18, 20)),
        (Halving(first=4, factor=2), 30, (4, 8, 16, 30)),
        (Halving(), 1, (1,)),
    ],
)
def test_rungs_end_at_proxy_epochs(halving, epochs, rungs):
    assert halving.rungs(epochs) == rungs


def test_first_rung_longer_than_proxy_is_rejected(candidates):
    with pytest.raises(SearchError, match="first rung of 12 epochs is longer than the 9"):
        search_halving(candidates, PROXY, Surface(B0, 0).train, Halving(first=12))


def test_design_is_small_distinct_and_within_compute(candidates):
    design = choose_design(candidates, Design(), num_seeds=3)
    assert design[0].network.replace(name=B0.name) == B0
    assert len({sized.network.structure for sized in design}) == len(design) >= 20
    base = count_network(B0).macs
    for sized in design:
        assert sized.macs == count_network(sized.network).macs
        assert 0.125 <= sized.ratio == sized.macs / base <= 1
    assert sum(sized.macs for sized in design) <= sum(candidate.macs for candidate in candidates.candidates)
    for dimension in ("depth", "width", "resolution"):
        values = [getattr(sized.realized, dimension) for sized in design]
        assert min(values) < 0.8
        assert max(values) > 1.1


def test_too_little_compute_for_response_is_rejected(candidates):
    with pytest.raises(SearchError, match=r"needs at least 9 networks, and the compute allows \d"):
        search_response(candidates, PROXY, Surface(B0, 0).train, Design(share=0.03))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_response_form_recovers_its_coefficients(form):
    random = np.random.default_rng(3)
    points = random.uniform(-1, 0.5, (40, 3))
    truth = {
        "power": np.array([0.1, 0.08, 0.05, 0.06, 0.5, 0.9, 0.7]),
        "quadratic": np.array([-1.2, -0.2, -0.3, -0.25, 0.05, 0.02, 0.01, 0.04, 0.0, 0.06]),
    }[form.name]
    errors = form.predict(truth, points)
    assert len(truth) == num_coefficients(form, 3)
    assert form.predict(form.fit(points, errors), points) == pytest.approx(errors, abs=1e-4)
    assert root_mean_square(leave_one_out(form, points, errors)) < 1e-3


def test_better_fitting_form_is_preferred():
    random = np.random.default_rng(5)
    points = random.uniform(-1, 0.5, (30, 3))
    curved = Quadratic().predict(np.array([-1.2, -0.2, -0.3, -0.2, 0.4, -0.2, 0, 0.5, 0, 0.4]), points)
    assert (
        root_mean_square(leave_one_out(Quadratic(), points, curved))
        < root_mean_square(leave_one_out(Power(), points, curved)) / 5
    )


def test_resnet_baseline_and_single_seed_are_supported(candidates):
    of_resnet = find_candidates(R50, Grid())
    surface = Surface(R50, 9)
    proxy = Proxy(epochs=9, images=1000, seeds=(4,))
    result = search_response(of_resnet, proxy, surface.train, samples=10)
    assert {trial.seed for trial in result.trials} == {4}
    assert surface.loss(of_resnet, result.network) < 0.01

    result = search_grid(of_resnet, proxy, Surface(R50, 9).train)
    assert any("one seed" in words for words in result.limitations)


def test_poor_response_fit_is_reported(candidates):
    # On this surface most small networks learn nothing at all, which neither form can describe.
    surface = Surface(B0, 1012)
    result = search_response(candidates, PROXY, surface.train, samples=10)
    assert surface.loss(candidates, result.network) > 0.1
    assert result.response is not None
    assert result.response.leave_one_out_rms > 0.1
    assert any(words.startswith("its leave-one-out error is 16 points") for words in result.limitations)


def test_fixed_dimension_is_excluded_from_response():
    fixed = B0.replace(stages=tuple(stage.model_copy(update={"depth_rule": "fixed"}) for stage in B0.stages))
    of_fixed = find_candidates(fixed, Grid())
    result = search_response(of_fixed, PROXY, Surface(fixed, 3).train, Design(share=1), samples=10)
    assert result.response is not None
    assert result.response.dimensions == ("width", "resolution")
    assert any("alpha had no effect" in words for words in result.limitations)


@pytest.mark.stress
def test_interval_and_forecast_have_stated_coverage(found):
    inside, number = 0, 0
    for surface, result in found["response"]:
        assert result.interval is not None
        for name in ("alpha", "beta", "gamma"):
            low, high = getattr(result.interval.low, name), getattr(result.interval.high, name)
            assert 1 <= low <= high
        macs = [forecast.macs for forecast in result.forecast]
        assert macs == sorted(macs)
        for forecast in result.forecast:
            assert forecast.low <= forecast.high
            assert forecast.beyond == (forecast.phi > 0)
        baseline = next(forecast for forecast in result.forecast if forecast.phi == 0)
        number += 1
        inside += baseline.low - 0.003 <= surface.truth(B0) <= baseline.high + 0.003
    assert inside / number > 0.8


def test_more_seeds_reduce_ties_and_clear_winner_has_none():
    scores = [[Score(0.90), Score(0.91)], [Score(0.80), Score(0.81)], [Score(0.895), Score(0.909)]]
    means, errors, freedom = means_and_errors(scores)
    assert freedom == 3
    assert means == pytest.approx([0.905, 0.805, 0.902])
    # The pooled variance of (0.90, 0.91), (0.80, 0.81) and (0.895, 0.909) is (0.5 + 0.5 + 0.98) / 3 of 1e-4.
    assert errors == pytest.approx([math.sqrt(0.66e-4 / 2)] * 3)
    assert tied_with_best(means, errors, freedom) == [True, False, True]

    lone, from_images, infinite = means_and_errors([[Score(0.9, 0.01)], [Score(0.88, 0.01)], [Score(0.85, 0.01)]])
    assert infinite == math.inf
    assert tied_with_best(lone, from_images, infinite) == [True, True, False]


def test_tie_test_has_stated_false_positive_rate():
    random = np.random.default_rng(0)
    alarms = []
    for _ in range(2000):
        scores = [[Score(0.5 + random.normal(0, 0.01)) for _ in range(3)] for _ in range(2)]
        alarms.append(not all(tied_with_best(*means_and_errors(scores))))
    assert 0.03 < np.mean(alarms) < 0.07


def test_equal_scores_give_equal_result(candidates):
    first, second = (search_response(candidates, PROXY, Surface(B0, 2).train, samples=10) for _ in range(2))
    assert first == second
    assert all(a.seed != b.seed for a, b in itertools.pairwise(first.trials))
