"""Strategies whose proposals come from a pool of samples."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.test_strategies import SIXTEEN
from triscale.families import get
from triscale.search.baseline.objective import Observation, SearchObjective
from triscale.search.baseline.space import around
from triscale.search.baseline.strategies import STRATEGIES, make_strategy
from triscale.search.baseline.strategies.pool import NearestInPool, PoolRandomSearch

OBJECTIVE = SearchObjective(target=1e6)


class Scripted:
    """Proposes given samples, and keeps what it observes."""

    def __init__(self, samples):
        self.samples, self.observed = list(samples), []

    def ask(self, count):
        return [self.samples.pop(0) for _ in range(count)]

    def tell(self, outcomes):
        self.observed += outcomes


def answered(samples):
    return [Observation(sample, sum(sample) / 10, sum(sample) / 10, 1e6) for sample in samples]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_proposes_each_sample_of_the_pool_once(name):
    rng = random.Random(1)
    pool = [sample for sample in {SIXTEEN.sample(rng) for _ in range(60)} if sample != (0, 0, 0, 0)][:12]
    strategy = make_strategy(name, SIXTEEN, 0, OBJECTIVE, pool=pool)
    proposed = []
    for _ in range(len(pool) // 3):
        batch = strategy.ask(3)
        strategy.tell(answered(batch))
        proposed += batch
    assert sorted(proposed) == sorted(pool)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_proposal_is_replaced_by_the_nearest_free_sample(data):
    sample = st.tuples(*[st.integers(0, 3)] * 5)
    pool = data.draw(st.lists(sample, min_size=1, max_size=12, unique=True))
    proposals = data.draw(st.lists(sample, min_size=len(pool), max_size=len(pool)))
    inner = Scripted(proposals)
    strategy = NearestInPool(inner, pool)
    free = list(pool)
    for proposal in proposals:
        (given,) = strategy.ask(1)

        def distance(one, proposal=proposal):
            return sum(a != b for a, b in zip(one, proposal, strict=True))

        assert given in free
        assert distance(given) == min(map(distance, free))
        free.remove(given)
        strategy.tell(answered([given]))
        # The strategy learns the answer of the nearest sample under its own proposal.
        assert inner.observed[-1] == answered([given])[0]._replace(sample=proposal)


def test_random_search_in_a_pool_draws_as_the_standard_library():
    space = around(get("efficientnet_b0"), "mbconv")
    rng = random.Random(0)
    pool = list({space.sample(rng) for _ in range(5000)})
    strategy = PoolRandomSearch(pool, 7)
    drawn = [sample for count in (10, 30, 60) for sample in strategy.ask(count)]
    # random.sample rejects repeated indices too where the sample is small.
    assert drawn == random.Random(7).sample(pool, 100)
