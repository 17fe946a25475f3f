"""Strategies of the baseline search, which propose the next samples from the evaluations so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from triscale.errors import SearchError, nearest
from triscale.search.baseline.objective import SearchObjective
from triscale.search.baseline.space import Sample, Space
from triscale.search.baseline.strategies.bayesian import Bayesian, KnownCost
from triscale.search.baseline.strategies.evolution import Evolution
from triscale.search.baseline.strategies.pool import NearestInPool, PoolRandomSearch
from triscale.search.baseline.strategies.ppo import PPO
from triscale.search.baseline.strategies.random_search import RandomSearch
from triscale.search.baseline.strategies.samplers import nsga2, tpe
from triscale.search.baseline.strategies.strategy import Strategy

MAX_SEED = 2**32 - 1
"""The largest seed that Optuna accepts."""

STRATEGIES: dict[str, Callable[[Space, int, SearchObjective], Strategy]] = {
    "bayesian": Bayesian,
    "random": lambda space, seed, objective: RandomSearch(space, seed),
    "evolution": lambda space, seed, objective: Evolution(space, seed),
    "nsga2": nsga2,
    "tpe": lambda space, seed, objective: tpe(space, seed),
    "ppo": lambda space, seed, objective: PPO(space, seed),
}


def make_strategy(
    name: str,
    space: Space,
    seed: int,
    objective: SearchObjective,
    *,
    pool: Sequence[Sample] | None = None,
    figures: Callable[[Sample], KnownCost] | None = None,
) -> Strategy:
    """Return a new strategy.

    With a pool, ``bayesian`` and ``random`` choose among its samples. The other strategies propose any sample, and each
    proposal is replaced by the nearest sample of the pool that was not proposed yet.

    Args:
        name: One of :data:`STRATEGIES`.
        space: The search space.
        seed: Seed of its random numbers, from 0 to 4294967295.
        objective: The objective that the rewards come from.
        pool: The only samples to propose; None for all of the space.
        figures: Returns what ``bayesian`` knows about a sample; by default its cost is counted.

    Raises:
        SearchError: There is no such strategy, or the seed is out of range.
    """
    if name not in STRATEGIES:
        raise SearchError(
            f'there is no strategy "{name}"; the names are {", ".join(STRATEGIES)}{nearest(name, STRATEGIES)}'
        )
    if not 0 <= seed <= MAX_SEED:
        raise SearchError(f"a seed is a whole number from 0 to {MAX_SEED}, given {seed}")
    if name == "bayesian":
        return Bayesian(space, seed, objective, pool=pool, figures=figures)
    if pool is None:
        return STRATEGIES[name](space, seed, objective)
    return (
        PoolRandomSearch(pool, seed)
        if name == "random"
        else NearestInPool(STRATEGIES[name](space, seed, objective), pool)
    )
