"""Strategies of Optuna: NSGA-II (Deb et al. 2002) and the tree-structured Parzen estimator (Bergstra et al. 2011)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial

from triscale.search.baseline.objective import Objective, Observation
from triscale.search.baseline.space import Sample, Space

POPULATION = 20
"""Optuna's own, 50, found 2 points of reward less on landscapes 0 to 7, after 200 evaluations and after 500."""

optuna.logging.set_verbosity(optuna.logging.WARNING)

Direction = Literal["minimize", "maximize"]
Answer = Callable[[Trial, Observation], Sequence[float]]
"""Notes on a trial what its sampler has to know of it besides its values, and returns these."""


class OptunaStrategy:
    """Samples that a sampler of Optuna suggests, in a study that lives in memory."""

    def __init__(self, space: Space, sampler: BaseSampler, directions: Sequence[Direction], answer: Answer) -> None:
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        # Samplers sort by name.
        self._distributions: dict[str, BaseDistribution] = {
            f"{place:04d}": CategoricalDistribution(tuple(range(len(choice.options))))
            for place, choice in enumerate(space.places)
        }
        self._answer = answer
        self._asked: deque[Trial] = deque()

    def ask(self, count: int) -> list[Sample]:
        """Let the sampler suggest."""
        return [self._propose() for _ in range(count)]

    def tell(self, outcomes: Sequence[Observation]) -> None:
        """Tell the study."""
        for observed in outcomes:
            trial = self._asked.popleft()
            self._study.tell(trial, self._answer(trial, observed))

    def _propose(self) -> Sample:
        trial = self._study.ask(self._distributions)
        self._asked.append(trial)
        # Taken once: each look at them is a deep copy, and they were a third of all time.
        chosen = trial.params
        return tuple(chosen[name] for name in self._distributions)


def nsga2(space: Space, seed: int, objective: Objective, *, population: int = POPULATION) -> OptunaStrategy:
    """Return NSGA-II on two objectives, accuracy up and cost down: it follows the whole front, not the reward.

    What was not trained violates a constraint, by the share in which it costs more than the target.
    """

    def answer(trial: Trial, observed: Observation) -> Sequence[float]:
        if observed.accuracy is None:
            trial.set_constraint("cost", max(observed.cost / objective.target - 1, 0.0) + 1e-9)
            return (0.0, observed.cost)
        trial.set_constraint("cost", 0.0)
        return (observed.accuracy, observed.cost)

    sampler = NSGAIISampler(population_size=population, seed=seed)
    return OptunaStrategy(space, sampler, ("maximize", "minimize"), answer)


def tpe(space: Space, seed: int) -> OptunaStrategy:
    """Return the tree-structured Parzen estimator on the reward."""
    return OptunaStrategy(space, TPESampler(seed=seed), ("maximize",), lambda trial, observed: (observed.reward,))
