"""Candidates of the coefficient search: the grid, the real cost, one candidate for one network."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import NetworkError, RecordError, SearchError
from triscale.families import get
from triscale.network.cost import count_network
from triscale.network.custom import CustomNetwork
from triscale.scaling.apply import scale
from triscale.scaling.law import EFFICIENTNET, Law
from triscale.search.coefficients.grid import Candidate, Candidates, Grid, find_candidates
from triscale.search.shape import realized

B0 = get("efficientnet_b0")


def stands_for(candidate: Candidate, law: Law) -> bool:
    """Whether a triple of the grid rounds to the network of a candidate."""
    return law.alpha in candidate.alphas and law.beta in candidate.betas and law.gamma in candidate.gammas


@pytest.fixture(scope="module")
def of_b0() -> Candidates:
    return find_candidates(B0, Grid())


# Counted with fractions, so that a point exactly on the border belongs to the grid; comparing floats loses 1, 1 and 2
# of the fine grid's and gives the 53, 108 and 215 that are found in write-ups.
@pytest.mark.parametrize(
    ("step", "within", "number"),
    [(0.05, 0.05, 54), (0.05, 0.1, 109), (0.05, 0.2, 217), (0.1, 0.05, 10), (0.1, 0.1, 21), (0.1, 0.2, 37)],
)
def test_nominal_grids_have_known_sizes(step, within, number):
    growths = [law.nominal_growth for law in Grid(step=step).laws()]
    assert sum(abs(growth - 2) <= within + 1e-9 for growth in growths) == number

    exact = Fraction(str(step))
    axes = [[1 + k * exact for k in range(int(Fraction(str(to)) / exact) + 1)] for to in (1, 0.5, 0.5)]
    limit = Fraction(str(within))
    assert sum(abs(a * b * b * g * g - 2) <= limit for a, b, g in product(*axes)) == number


def test_float_comparison_loses_boundary_triples():
    growths = [law.nominal_growth for law in Grid().laws()]
    assert [sum(abs(growth - 2) <= within for growth in growths) for within in (0.05, 0.1, 0.2)] == [53, 108, 215]


# Nominal growth and real ratio of B0 with snapped resolution; docs/explanation/method.md has the first at 258 px too.
@pytest.mark.parametrize(
    ("triple", "nominal", "ratio"),
    [
        ((1.2, 1.1, 1.15), 1.92, 2.23),
        ((2, 1, 1), 2.0, 2.03),
        ((1, 1.4, 1), 1.96, 1.93),
        ((1, 1, 1.4), 1.96, 2.04),
        ((1.1, 1.2, 1.1), 1.92, 2.68),
        ((1.05, 1.15, 1.2), 2.0, 3.25),
    ],
)
def test_exact_cost_of_triples_with_nominal_growth_two(triple, nominal, ratio, of_b0):
    law = Law(alpha=triple[0], beta=triple[1], gamma=triple[2])
    assert law.nominal_growth == pytest.approx(nominal, abs=0.005)
    assert count_network(scale(B0, law.at(1))).macs / count_network(B0).macs == pytest.approx(ratio, abs=0.005)
    matched = [candidate for candidate in of_b0.candidates if stands_for(candidate, law)]
    assert len(matched) == (abs(ratio - 2) <= 0.1)
    if matched:
        assert matched[0].ratio == pytest.approx(ratio, abs=0.005)


def test_every_matching_triple_is_in_exactly_one_candidate(of_b0):
    by_structure = {candidate.network.structure: candidate for candidate in of_b0.candidates}
    assert len(by_structure) == len(of_b0.candidates)
    base = count_network(B0).macs
    for law in Grid(step=0.1).laws():
        network = scale(B0, law.at(1))
        fits = abs(count_network(network).macs / base - 2) <= 0.1
        assert fits == (network.structure in by_structure)
        owners = [candidate for candidate in of_b0.candidates if stands_for(candidate, law)]
        assert len(owners) == fits
        if fits:
            assert owners[0] is by_structure[network.structure]


def test_candidate_law_reproduces_network_and_cost(of_b0):
    for candidate in of_b0.candidates:
        again = scale(B0, candidate.law.at(1))
        assert again.structure == candidate.network.structure
        assert stands_for(candidate, candidate.law)
        assert candidate.macs == count_network(again).macs
        assert candidate.ratio == candidate.macs / of_b0.baseline_macs
        assert candidate.nominal == candidate.law.nominal_growth
        assert candidate.realized == realized(B0, again)
    assert of_b0.unchanged == ()
    assert of_b0.num_dropped == 0


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["efficientnet_b0@32", "mobilenet_v1", "mobilenet_v2", "resnet18"]),
    phi=st.sampled_from([-2.0, -1.0, 1.0, 1.5]),
    target=st.floats(1.5, 3),
    tolerance=st.floats(0.01, 0.2),
    cost=st.sampled_from(["macs", "params"]),
)
@pytest.mark.stress
def test_candidates_meet_tolerance_or_nearest_is_reported(name, phi, target, tolerance, cost):
    baseline = get(name)
    grid = Grid(phi=phi, target=target, tolerance=tolerance, cost=cost, step=0.1)
    needed = [
        getattr(count_network(scale(baseline, law.at(phi))), cost) / getattr(count_network(baseline), cost)
        for law in grid.laws()
    ]
    if all(abs(ratio / target**phi - 1) > tolerance + 1e-9 for ratio in needed):
        with pytest.raises(SearchError, match="nearest on the grid is alpha"):
            find_candidates(baseline, grid)
        return
    for candidate in find_candidates(baseline, grid).candidates:
        assert candidate.ratio in needed
        assert abs(candidate.ratio / target**phi - 1) <= tolerance + 1e-9


def test_suggested_tolerance_gives_a_candidate():
    grid = Grid(step=0.5, tolerance=0.001)
    with pytest.raises(SearchError, match=r"no candidate costs 2x the MACs of efficientnet_b0.*nearest") as refused:
        find_candidates(B0, grid)
    tolerance = re.search(r"tolerance of ([.\d]+)", str(refused.value))
    assert tolerance is not None
    assert len(find_candidates(B0, grid.model_copy(update={"tolerance": float(tolerance[1])})).candidates) == 1


def test_unreachable_target_error_reports_nearest():
    with pytest.raises(
        SearchError, match=r"no network on the grid costs 100x.*nearest on the grid is alpha 2, beta 1\.5"
    ):
        find_candidates(B0, Grid(target=100))


def test_ineffective_coefficient_is_reported():
    stages = tuple(stage.model_copy(update={"depth_rule": "fixed"}) for stage in B0.stages)
    result = find_candidates(B0.replace(stages=stages), Grid())
    assert result.unchanged == ("alpha",)
    assert all(candidate.alphas == Grid().axis("alpha") for candidate in result.candidates)


def test_limited_candidates_are_spread_out(of_b0):
    few = find_candidates(B0, Grid(number=8))
    assert len(few.candidates) == 8
    assert few.num_dropped == len(of_b0.candidates) - 8
    assert set(few.candidates) <= set(of_b0.candidates)
    depths = [candidate.realized.depth for candidate in few.candidates]
    every = [candidate.realized.depth for candidate in of_b0.candidates]
    assert (min(depths), max(depths)) == (min(every), max(every))


def test_record_round_trips(of_b0):
    assert Candidates.from_json(of_b0.to_json()) == of_b0


def test_invalid_grid_is_rejected():
    with pytest.raises(RecordError, match="at phi 0 every law gives the baseline"):
        Grid.parse({"phi": 0}, "the grid")
    with pytest.raises(SearchError, match="give a larger step"):
        find_candidates(get("efficientnet_l2"), Grid(step=0.002))


def test_custom_network_needs_count_function():
    own = CustomNetwork(name="own", function="own.module:build")
    with pytest.raises(NetworkError, match="has to be traced"):
        find_candidates(own, Grid())

    def count(network):
        assert isinstance(network, CustomNetwork)
        macs = 1e6 * network.depth * network.width**2 * network.resolution**2
        return count_network(B0)._replace(macs=round(macs))

    result = find_candidates(own, Grid(step=0.1), count)
    assert any(stands_for(candidate, Law(alpha=2, beta=1, gamma=1)) for candidate in result.candidates)


def test_realized_multipliers_include_rounding():
    # ceil(1.2 n) of 1 2 2 3 3 4 1 is 2 3 3 4 4 5 2: 23 blocks for 16.
    result = realized(B0, scale(B0, EFFICIENTNET.at(1)))
    assert result.depth == 23 / 16
    assert result.resolution == 256 / 224
    assert 1.05 < result.width < 1.15
