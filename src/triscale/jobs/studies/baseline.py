"""Baseline search: optimize accuracy against cost over a search space (Tan et al. 2019) on any data set."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from triscale.data.pipeline.split import Split
from triscale.errors import SearchError
from triscale.jobs.studies.latency_cost import LatencyMeter
from triscale.jobs.studies.requests import BaselineSearchRequest, StudyOptions
from triscale.jobs.studies.supernet import (
    SAMPLES,
    Supernets,
    SupernetSpec,
    corners,
    digest_of,
    train_supernet,
)
from triscale.jobs.studies.trials import SPLIT, Trainings, open_study, prepare_split, settings_of
from triscale.jobs.training.resolve import for_classes
from triscale.network.cost import count_network
from triscale.network.latency import predict
from triscale.network.spec import Network
from triscale.scaling.budget import cost_value, format_cost
from triscale.search.baseline.explore import (
    BaselineSearchResult,
    EvaluatedCandidate,
    Finalist,
    Price,
    SearchPlan,
    best_of,
    explore,
    front_of,
    limits_of,
)
from triscale.search.baseline.objective import SearchObjective
from triscale.search.baseline.ranking import Ranking, rank
from triscale.search.baseline.space import Space, make_space
from triscale.search.baseline.strategies import make_strategy
from triscale.search.study.standing import means_and_errors
from triscale.search.study.trial import PASSES, Job, Proxy, Score
from triscale.search.study.worker import Work
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe

FOUND, NETWORK, TIMES = BaselineSearchResult.file_name, "network.json", "times.json"
MAX_SAMPLED = 1000
MAX_SHOWN = 4
"""Maximum number of networks of the Pareto front in a progress message."""


@dataclass(frozen=True, slots=True)
class _Search:
    """A baseline search and its directory."""

    request: BaselineSearchRequest
    out: Path
    context: ExecutionContext
    options: StudyOptions
    split: Split
    space: Space

    @property
    def title(self) -> str:
        """Name of the study; the names of its auxiliary studies begin with it, also when it is resumed."""
        return self.options.study or f"baseline from {self.space.skeleton.name}"

    def trainings(self, recipe: Recipe) -> Trainings:
        """Return the settings of the trials' trainings."""
        return Trainings(self.request.images, recipe, self.out / SPLIT, str(self.context.device), self.context.threads)

    def evaluate(
        self, jobs: Sequence[Job], work: Work, folder: str, title: str, changes: dict[str, object] | None = None
    ) -> list[Score]:
        """Evaluate jobs in an auxiliary study, in a subdirectory of the search."""
        settings = settings_of(self.request, self.split) | (changes or {})
        options = replace(self.options, study=f"{self.title}, {title}")
        skeleton = self.space.skeleton
        with open_study(title, settings, skeleton, work, self.out / folder, self.context, options) as study:
            return list(study.evaluate(jobs))


def find_baseline(
    request: BaselineSearchRequest, out: Path, context: ExecutionContext, options: StudyOptions
) -> BaselineSearchResult:
    """Search for a baseline; the same request resumes an interrupted search.

    ``network.json`` in ``out`` can be given to ``--baseline`` and ``--network``, ``found.json`` holds the whole result,
    ``trials`` and ``finalists`` hold a run for each training.

    Args:
        request: Images, skeleton, space, objective and strategy.
        out: Directory of the search.
        context: Device, workers, progress and stop flag.
        options: Storage of the study, and whether leaks are allowed.

    Returns:
        The result.

    Raises:
        UserError: The images cannot be trained on, the space does not fit the skeleton, no network of the space meets
            the target, or the directory holds other files.
        Interrupted: ``context.should_stop`` returned true; finished trials are saved.
        JobError: A training failed.
    """
    check_request(request)
    measured = request.objective.cost == "latency" and request.predictor is None
    if options.storage is not None and (request.evaluator == "supernet" or measured):
        raise SearchError(
            "--storage shares a study between machines, but measured latency and a supernet work on one machine only; "
            "leave --storage out, or give --evaluator training and a --profile or another cost than measured latency"
        )
    split = prepare_split(
        request,
        out,
        context,
        options,
        lambda split: check_target(request, search_space(request, len(split.classes)), context),
    )
    search = _Search(request, out, context, options, split, search_space(request, len(split.classes)))
    images, space = len(split.train), search.space
    price = price_of(request, space, out / TIMES, context)
    if request.evaluator == "supernet":
        proxy, work = Proxy(epochs=1, images=images, seeds=(0,)), _supernet(search).evaluate
    else:
        proxy = Proxy(epochs=request.recipe.epochs, images=images, seeds=request.seeds)
        work = search.trainings(request.recipe).validate
    strategy = make_strategy(request.strategy, space, request.search_seed, request.objective)
    settings = settings_of(request, split)
    with open_study(search.title, settings, space.skeleton, work, out, context, options) as study:
        evaluated = explore(
            space,
            request.objective,
            strategy,
            request.plan,
            proxy,
            study.evaluate,
            price,
            lambda so_far: context.progress.note(describe(so_far, request.plan, request.objective)),
        )
    result = _result(search, evaluated, proxy, work)
    result.network.save(out / NETWORK)
    result.save(out / FOUND)
    return result


def _result(
    search: _Search, evaluated: tuple[EvaluatedCandidate, ...], proxy: Proxy, work: Work
) -> BaselineSearchResult:
    """Check the supernet's ranking, train the finalists, and choose the best network."""
    request, images, spent, ranking = search.request, len(search.split.train), 0, None
    if request.evaluator == "supernet":
        ranking, spent = _check_ranking(search, work)
        spent += _supernet_macs(search, evaluated)
        proxy = Proxy(epochs=request.supernet_epochs, images=images, seeds=(0,))
        evaluated = tuple(
            one if one.accuracy is None else one.replace(training_macs=0, epochs=request.supernet_epochs)
            for one in evaluated
        )
    finalists = _finalists(search, evaluated)
    best = best_of(evaluated)[0]
    chosen = max(finalists, key=lambda one: one.reward).structure if finalists else evaluated[best].structure
    macs = {one.structure: one.macs for one in evaluated}
    finalist_macs = sum(PASSES * macs[one.structure] * images * one.epochs * len(request.seeds) for one in finalists)
    return BaselineSearchResult(
        space=search.space,
        objective=request.objective,
        strategy=request.strategy,
        evaluator=request.evaluator,
        plan=request.plan,
        proxy=proxy,
        evaluated=evaluated,
        front=front_of(evaluated),
        best=best,
        finalists=finalists,
        network=search.space.network(next(one.sample for one in evaluated if one.structure == chosen)),
        ranking=ranking,
        training_macs=spent + sum(one.training_macs for one in evaluated) + finalist_macs,
        limitations=limits_of(evaluated, search.space, request.plan, proxy, ranking, in_full=bool(finalists)),
    )


def describe(evaluated: Sequence[EvaluatedCandidate], plan: SearchPlan, objective: SearchObjective) -> str:
    """Return a progress message: the best reward so far, and points of the Pareto front."""
    trained = [one for one in evaluated if one.accuracy is not None]
    if not trained:
        return f"{len(evaluated)} of {plan.trials} networks, none within the constraint yet"
    best, front = evaluated[best_of(evaluated)[0]], front_of(evaluated)
    shown = [evaluated[front[round(i)]] for i in np.linspace(0, len(front) - 1, min(MAX_SHOWN, len(front)))]
    points = ", ".join(f"{one.accuracy:.1%} at {describe_cost(objective, one.cost)}" for one in shown)
    return (
        f"{len(evaluated)} of {plan.trials} networks: best reward {best.reward:.4f} ({best.accuracy:.1%} at "
        f"{describe_cost(objective, best.cost)}); Pareto front of {len(front)}: {points}"
    )


def describe_cost(objective: SearchObjective, cost: float) -> str:
    """Return a cost with its unit."""
    return f"{cost:.3g} ms" if objective.cost == "latency" else format_cost(objective.cost, cost)


def check_request(request: BaselineSearchRequest) -> None:
    """Check, before any image is read, everything that does not depend on the images.

    Raises:
        SearchError: The skeleton is a custom model, or does not fit the space, the strategy or the plan.
    """
    if not isinstance(request.baseline, Network):
        raise SearchError(
            f"a baseline search does not support custom models such as {request.baseline.name}; give a published name "
            "or the JSON file of a network as skeleton"
        )
    space = make_space(request.space, request.baseline, request.choices)
    make_strategy(request.strategy, space, request.search_seed, request.objective)
    if request.plan.halving is not None:
        request.plan.rungs(request.recipe.epochs)


def search_space(request: BaselineSearchRequest, classes: int) -> Space:
    """Return the space around the skeleton with a number of classes."""
    skeleton = for_classes(request.baseline, classes, request.recipe)
    assert isinstance(skeleton, Network)
    return make_space(request.space, skeleton, request.choices)


def price_of(request: BaselineSearchRequest, space: Space, file: Path | None, context: ExecutionContext) -> Price:
    """Return the function that computes, predicts or measures the cost of a network."""
    cost, predictor = request.objective.cost, request.predictor
    if cost != "latency":
        return lambda network: cost_value(count_network(network), cost)
    if predictor is not None:
        return lambda network: predict(predictor, network)
    return LatencyMeter(space.skeleton, file, context)


def check_target(request: BaselineSearchRequest, space: Space, context: ExecutionContext) -> None:
    """Check that some network of the space can meet the target.

    Raises:
        SearchError: The target is below the cheapest network or above the most expensive one.
    """
    objective = request.objective
    if objective.cost != "latency":
        space.check_target(objective.cost, objective.target)
        return
    price = price_of(request, space, None, context)
    low, high = price(space.smallest()), price(space.largest())
    if not low <= objective.target <= high:
        raise SearchError(
            f"no network of the space {space.name} has a latency of {objective.target:g} ms: the smallest takes "
            f"{low:.3g} ms and the largest {high:.3g} ms; give a target in between, or another skeleton or resolution"
        )


def _supernet(search: _Search) -> Supernets:
    """Train the supernet, and return the evaluator that uses it."""
    request, context = search.request, search.context
    recipe = request.recipe.replace(epochs=request.supernet_epochs)
    spec = SupernetSpec(space=search.space, recipe=recipe, split=digest_of(search.split), seed=request.seeds[0])
    torch.set_num_threads(context.threads * max(1, context.workers))
    train_supernet(spec, search.split, search.out / "supernet", replace(context, workers=0))
    return Supernets(search.out / "supernet", search.out / SPLIT, str(context.device), context.threads)


def _check_ranking(search: _Search, supernet: Work) -> tuple[Ranking, int]:
    """Compare the supernet's ranking of random networks with that of short trainings; also return the latter's MACs."""
    request, rng = search.request, random.Random(search.request.search_seed)
    samples = (search.space.network(search.space.sample(rng)) for _ in range(MAX_SAMPLED))
    networks = list({network.structure: network for network in samples}.values())[: request.checked]
    accuracies = []
    for work, folder, seeds, epochs in (
        (supernet, "checked/supernet", (0,), 1),
        (search.trainings(request.recipe).validate, "checked", request.seeds, request.recipe.epochs),
    ):
        jobs = [Job(network, seed, 0, epochs) for network in networks for seed in seeds]
        scores = search.evaluate(jobs, work, folder, folder)
        by_network = [scores[at : at + len(seeds)] for at in range(0, len(scores), len(seeds))]
        accuracies.append([fmean(score.accuracy for score in of_network) for of_network in by_network])
    images_seen = len(search.split.train) * request.recipe.epochs * len(request.seeds)
    return rank(*accuracies), PASSES * images_seen * sum(count_network(network).macs for network in networks)


def _supernet_macs(search: _Search, evaluated: Sequence[EvaluatedCandidate]) -> int:
    """Estimate the MACs of training the supernet: each step trains the largest, the smallest and sampled networks."""
    sampled = fmean(one.macs for one in evaluated) * SAMPLES
    fixed = sum(count_network(network).macs for network in (*corners(search.space), search.space.smallest()))
    return round(PASSES * len(search.split.train) * search.request.supernet_epochs * (fixed + sampled))


def _finalists(search: _Search, evaluated: Sequence[EvaluatedCandidate]) -> tuple[Finalist, ...]:
    """Train the best networks for ``final_epochs``, in an auxiliary study because their recipe differs."""
    request = search.request
    if not request.finalists:
        return ()
    chosen = [evaluated[index] for index in best_of(evaluated, request.finalists)]
    networks = [search.space.network(one.sample) for one in chosen]
    recipe = request.recipe.replace(epochs=request.final_epochs)
    jobs = [Job(network, seed, 0, recipe.epochs) for network in networks for seed in request.seeds]
    work = search.trainings(recipe).validate
    scores = search.evaluate(jobs, work, "finalists", "finalists", {"recipe": recipe.digest})
    each = [scores[at : at + len(request.seeds)] for at in range(0, len(scores), len(request.seeds))]
    means, errors, _ = means_and_errors(each)
    finalists = [
        Finalist(
            network=network.name,
            structure=network.structure,
            epochs=recipe.epochs,
            accuracy=float(mean),
            error=float(error) if math.isfinite(error) else 0.0,
            reward=request.objective.reward(float(mean), one.cost),
        )
        for one, network, mean, error in zip(chosen, networks, means, errors, strict=True)
    ]
    return tuple(sorted(finalists, key=lambda one: -one.reward))
