"""The loop of a baseline search: a strategy proposes, networks are trained briefly, the strategy observes.

Like the other searches it is a deterministic function of scores. Called again with the same study it proposes the same
networks, and scores that are already in the ledger are not computed again, which is how a search resumes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from triscale.errors import SearchError
from triscale.network.cost import count_network, si
from triscale.network.spec import Network
from triscale.record import Record, SparseRecord
from triscale.search.baseline.objective import Observation, SearchObjective, front
from triscale.search.baseline.ranking import Ranking
from triscale.search.baseline.space import Sample, Space
from triscale.search.baseline.strategies.strategy import Strategy
from triscale.search.coefficients.methods import Halving
from triscale.search.study.trial import PASSES, Evaluation, Job, Proxy

Price = Callable[[Network], float]
"""Returns the cost of a network, in the unit of the objective."""

EvaluatorName = Literal["training", "supernet", "table"]

MAX_REPEATED = 20
"""A strategy counts as exhausted after this many batches in a row without a new network."""


class EvaluatedCandidate(Record):
    """A network that a search evaluated.

    ``accuracy`` is on the validation images after ``epochs``, with its standard error ``error``. It is None, with 0
    epochs, for a network that costs more than a constraint allows. ``batch`` counts from 0. ``training_macs`` is 3 x
    MACs x images x epochs, over all seeds.
    """

    sample: Sample
    network: str
    structure: str
    batch: int
    macs: int
    params: int
    cost: float
    reward: float
    accuracy: float | None = None
    error: float = 0.0
    epochs: int = 0
    training_macs: int = 0


class SearchPlan(Record):
    """The size of a search: ``trials`` different networks, proposed in batches of ``batch``.

    With ``halving`` a network continues after a rung only if its reward is among the best ``1 / factor`` of all rewards
    so far at that rung (asynchronous successive halving, Li et al. 2020, arXiv 1810.05934, here batch by batch). A
    strategy observes the reward at the rung where the network stopped.
    """

    trials: int = Field(default=64, ge=1)
    batch: int = Field(default=8, ge=1)
    halving: Halving | None = None

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which each rung ends; the last one is ``epochs``."""
        return (epochs,) if self.halving is None else self.halving.rungs(epochs)


class Finalist(Record):
    """One of the best networks, trained in full: mean validation accuracy over the seeds, with its standard error."""

    network: str
    structure: str
    epochs: int
    accuracy: float
    error: float
    reward: float


class TableSource(Record):
    """A table of accuracies that stood in for trainings: its file and the SHA-256 of the file."""

    file: str
    sha256: str = Field(pattern="[0-9a-f]{64}")


class BaselineSearchResult(SparseRecord):
    """The result of a baseline search, with its evidence.

    ``front`` and ``best`` are indices into ``evaluated``: the Pareto front from the cheapest to the most expensive
    network, and the network with the greatest reward. ``network`` is the best of the ``finalists``, if there are any.
    ``ranking`` states how well a supernet ranks networks. If accuracies were read from a ``table``, nothing was
    trained: there is no ``proxy``, epochs are 0, and so are errors that the table does not give. ``limitations`` are
    sentences on what the result does not show.
    """

    kind_name: ClassVar[str] = "found_baseline"
    schema_number: ClassVar[int] = 2
    file_name: ClassVar[str] = "found.json"
    sparse: ClassVar[tuple[str, ...]] = ("table",)

    space: Space
    objective: SearchObjective
    strategy: str
    evaluator: EvaluatorName
    plan: SearchPlan
    proxy: Proxy | None
    evaluated: tuple[EvaluatedCandidate, ...]
    front: tuple[int, ...]
    best: int
    finalists: tuple[Finalist, ...] = ()
    network: Network
    ranking: Ranking | None = None
    training_macs: int
    limitations: tuple[str, ...] = ()
    table: TableSource | None = None


def explore(
    space: Space,
    objective: SearchObjective,
    strategy: Strategy,
    plan: SearchPlan,
    proxy: Proxy,
    evaluate: Evaluation,
    price: Price,
    on_batch: Callable[[Sequence[EvaluatedCandidate]], None] = lambda evaluated: None,
) -> tuple[EvaluatedCandidate, ...]:
    """Evaluate networks until the plan's number of different ones is reached, or the strategy proposes nothing new.

    Args:
        space: The search space.
        objective: The reward to maximize.
        strategy: Proposes samples of the space.
        plan: How many networks to evaluate.
        proxy: How each network is trained.
        evaluate: Runs training jobs and returns their scores.
        price: Returns the cost of a network.
        on_batch: Called after each batch with all networks evaluated so far.

    Returns:
        All different networks in the order of evaluation.

    Raises:
        SearchError: None of the proposed networks meets the constraint.
    """
    known: dict[str, EvaluatedCandidate] = {}
    at_rung: dict[int, list[float]] = {stop: [] for stop in plan.rungs(proxy.epochs)}
    batch = repeated = 0
    while len(known) < plan.trials and repeated < MAX_REPEATED:
        samples = strategy.ask(min(plan.batch, plan.trials - len(known)))
        # Different samples may give the same network, which is trained once; the strategy observes each sample.
        networks = {network.structure: (sample, network) for sample in samples for network in [space.network(sample)]}
        new = {name: pair for name, pair in networks.items() if name not in known}
        repeated = 0 if new else repeated + 1
        for evaluated in _train(new, objective, plan, proxy, evaluate, price, at_rung, batch):
            known[evaluated.structure] = evaluated
        strategy.tell([_observation(sample, known[space.network(sample).structure]) for sample in samples])
        batch += 1
        on_batch(tuple(known.values()))
    if not any(evaluated.accuracy is not None for evaluated in known.values()):
        nearest = min(known.values(), key=lambda evaluated: evaluated.cost)
        raise SearchError(
            f"none of the {len(known)} proposed networks costs at most {objective.target:g} {objective.cost}; "
            f"the nearest costs {nearest.cost:g}; give a larger --target, more --trials, or --objective soft, which "
            "penalizes cost instead of rejecting networks"
        )
    return tuple(known.values())


def compared(evaluated: Sequence[EvaluatedCandidate]) -> list[int]:
    """Return the indices of the networks that were trained longest; only these are comparable with each other."""
    longest = max(one.epochs for one in evaluated)
    return [index for index, one in enumerate(evaluated) if one.epochs == longest and one.accuracy is not None]


def front_of(evaluated: Sequence[EvaluatedCandidate]) -> tuple[int, ...]:
    """Return the Pareto front of the comparable networks as indices, from the cheapest to the most expensive."""
    among = compared(evaluated)
    on = front([evaluated[index].accuracy or 0.0 for index in among], [evaluated[index].cost for index in among])
    return tuple(among[index] for index in on)


def best_of(evaluated: Sequence[EvaluatedCandidate], number: int = 1) -> list[int]:
    """Return the indices of the comparable networks with the greatest rewards; ties go to the first."""
    return sorted(compared(evaluated), key=lambda index: -evaluated[index].reward)[:number]


def limits_of(
    evaluated: Sequence[EvaluatedCandidate],
    space: Space,
    plan: SearchPlan,
    proxy: Proxy,
    ranking: Ranking | None,
    *,
    in_full: bool,
) -> tuple[str, ...]:
    """Return the limitations of a search, as sentences.

    Args:
        evaluated: All evaluated networks.
        space: The search space.
        plan: The size of the search.
        proxy: How each network was trained.
        ranking: How well a supernet ranks networks; None if each network was trained individually.
        in_full: Whether the best networks were trained in full.
    """
    size = si(space.size) if space.size < 1e15 else f"{space.size:.2g}"
    sentences = [f"{len(evaluated)} networks of a space of {size} samples were evaluated"]
    if not in_full:
        sentences.append(
            f"a full training may rank networks differently than {proxy.epochs} epochs of {proxy.images} images"
        )
    if ranking is not None:
        sentences.append(
            "no network was trained individually in the search: accuracies are those of shared weights, whose rank "
            f"correlation with brief trainings is {ranking.kendall:.2f} (Kendall)"
        )
    elif len(proxy.seeds) == 1:
        sentences.append("each network was trained with one seed: a difference of a few standard errors may be random")
    stopped = sum(one.accuracy is not None and one.epochs < proxy.epochs for one in evaluated)
    if stopped:
        sentences.append(f"{stopped} networks were stopped early and are not compared with the others")
    refused = sum(one.accuracy is None for one in evaluated)
    if refused:
        sentences.append(f"{refused} networks cost more than the constraint and were not trained")
    if len(evaluated) < plan.trials:
        sentences.append(f"the strategy proposed nothing new after {len(evaluated)} of {plan.trials} networks")
    sentences.append(
        "networks were selected by these accuracies on validation images, which are therefore optimistic for the best"
    )
    return tuple(sentences)


def _train(
    new: dict[str, tuple[Sample, Network]],
    objective: SearchObjective,
    plan: SearchPlan,
    proxy: Proxy,
    evaluate: Evaluation,
    price: Price,
    at_rung: dict[int, list[float]],
    batch: int,
) -> list[EvaluatedCandidate]:
    """Train networks rung by rung, and return their final state in the given order."""
    candidates = {
        name: _untrained_candidate(name, sample, network, objective, price(network), batch)
        for name, (sample, network) in new.items()
    }
    running = [name for name in new if objective.admits(candidates[name].cost)]
    start = 0
    for stop, rewards in at_rung.items():
        jobs = [Job(new[name][1], seed, start, stop) for name in running for seed in proxy.seeds]
        scores = list(evaluate(jobs)) if jobs else []
        for index, name in enumerate(running):
            of_network = scores[index * len(proxy.seeds) : (index + 1) * len(proxy.seeds)]
            # Scores come in the order of the jobs: all seeds of one network are adjacent.
            accuracy = fmean(score.accuracy for score in of_network)
            one = candidates[name]
            candidates[name] = one.replace(
                accuracy=accuracy,
                error=math.sqrt(sum(score.error**2 for score in of_network)) / len(of_network),
                epochs=stop,
                reward=objective.reward(accuracy, one.cost),
                training_macs=PASSES * one.macs * proxy.images * stop * len(proxy.seeds),
            )
            rewards.append(candidates[name].reward)
        if plan.halving is not None and running:
            # The threshold includes rewards of earlier batches at the same rung.
            best = sorted(rewards, reverse=True)[: math.ceil(len(rewards) / plan.halving.factor)]
            running = [name for name in running if candidates[name].reward >= best[-1]]
        start = stop
    return list(candidates.values())


def _untrained_candidate(
    structure: str, sample: Sample, network: Network, objective: SearchObjective, cost: float, batch: int
) -> EvaluatedCandidate:
    counts = count_network(network)
    return EvaluatedCandidate(
        sample=sample,
        network=network.name,
        structure=structure,
        batch=batch,
        macs=counts.macs,
        params=counts.params,
        cost=cost,
        reward=objective.reward(0.0, cost),
    )


def _observation(sample: Sample, evaluated: EvaluatedCandidate) -> Observation:
    return Observation(sample, evaluated.reward, evaluated.accuracy, evaluated.cost)
