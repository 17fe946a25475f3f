"""The search for a baseline: accuracy against cost over a space of networks (Tan et al. 2019), on any images."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt

from triscale.data.pipeline.split import Split
from triscale.errors import SearchError
from triscale.jobs.core.progress import ProgressReporter
from triscale.jobs.reports.baseline_report import write_baseline_report
from triscale.jobs.studies.latency_cost import LatencyMeter
from triscale.jobs.studies.supernet import (
    SAMPLES,
    Supernets,
    SupernetSpec,
    corners,
    digest_of,
    train_supernet,
)
from triscale.jobs.studies.trials import SPLIT, Hands, StudyRequest, Trainings, open_study, prepare_split, settings_of
from triscale.jobs.training.prepare import for_classes
from triscale.jobs.training.train import Carrying
from triscale.network.cost import count_network
from triscale.network.latency import Predictor, predict
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
from triscale.search.baseline.objective import Objective
from triscale.search.baseline.options import Choices
from triscale.search.baseline.ranking import FEWEST, Ranking, rank
from triscale.search.baseline.space import Space, make_space
from triscale.search.baseline.strategies import make_strategy
from triscale.search.study.standing import means_and_errors
from triscale.search.study.trial import PASSES, Job, Proxy
from triscale.search.study.worker import Work
from triscale.training.recipe import Recipe

FOUND, NETWORK, TIMES = "found.json", "network.json", "times.json"
MAX_DRAWN = 1000
MAX_SHOWN = 4
"""Networks of the front that progress names."""


class BaselineSearchRequest(StudyRequest):
    """What was asked of a search for a baseline; ``baseline`` is the skeleton.

    ``recipe`` and ``seeds`` are those of the brief trainings. The ``finalists`` best are trained for ``final_epochs``.
    A supernet is trained for ``supernet_epochs`` of the same recipe; ``checked`` networks of the space, drawn by
    chance, are then trained briefly by themselves, to see whether it orders them alike. Where the cost is latency, it
    is foretold by ``predictor``, or measured here if there is none.
    Networks are scored on the images that are held out of training, never on those for testing.
    """

    kind_name: ClassVar[str] = "baseline_search"

    space: str
    choices: Choices
    objective: Objective
    predictor: Predictor | None = None
    strategy: str
    search_seed: int = 0
    plan: SearchPlan = SearchPlan()
    evaluator: Literal["training", "supernet"] = "training"
    supernet_epochs: PositiveInt = 30
    checked: int = Field(default=8, ge=FEWEST)
    finalists: int = Field(default=3, ge=0)
    final_epochs: PositiveInt = 30


def find_baseline(
    search: BaselineSearchRequest, out: Path, reporter: ProgressReporter, hands: Hands
) -> BaselineSearchResult:
    """Search a baseline; everything lies in ``out``, and the same request goes on where it stopped.

    ``network.json`` can be given to ``--baseline`` and ``--network``, ``found.json`` holds the whole result,
    ``report.html`` shows it, ``trials`` and ``finalists`` hold a Run for each training.

    Raises:
        UserError: images that cannot be trained on, a space that does not go with the skeleton, a target that nothing
            in it meets, or a folder that holds something else.
        Interrupted: ``should_stop`` answered true; what has ended is written down.
        JobError: a training that cannot be carried out.
    """
    _check(search)
    measured = search.objective.cost == "latency" and search.predictor is None
    if hands.storage is not None and (search.evaluator == "supernet" or measured):
        raise SearchError(
            "a measured latency and a weight-sharing network are those of one machine, and --storage shares a study "
            "between several; leave it out, or give a --profile, MACs or parameters, and the evaluator training"
        )
    split = prepare_split(search, out, hands, reporter, lambda split: _check_target(search, split, hands))
    space = _space(search, split)
    price = _price(search, space, out / TIMES, hands)
    skeleton = space.skeleton
    images = len(split.train)
    if search.evaluator == "supernet":
        asked = _supernet(search, space, split, out, reporter, hands)
        proxy, work = Proxy(epochs=1, images=images, seeds=(0,)), asked.asked
    else:
        proxy = Proxy(epochs=search.recipe.epochs, images=images, seeds=search.seeds)
        work = _trainings(search, search.recipe, out, hands).until
    strategy = make_strategy(search.strategy, space, search.search_seed, search.objective)
    settings = settings_of(search, split)
    with open_study(_title(skeleton), settings, skeleton, work, out, hands, reporter) as study:
        evaluated = explore(
            space,
            search.objective,
            strategy,
            search.plan,
            proxy,
            study.evaluate,
            price,
            lambda so_far: reporter.note(describe(so_far, search.plan, search.objective)),
        )
    spent, ranking = 0, None
    if search.evaluator == "supernet":
        ranking, spent = _check_order(search, split, space, work, out, reporter, hands)
        spent += _supernet_macs(search, space, evaluated, images)
        proxy = Proxy(epochs=search.supernet_epochs, images=images, seeds=(0,))
        not_trained: dict[str, object] = {"training_macs": 0, "epochs": search.supernet_epochs}
        evaluated = tuple(one if one.accuracy is None else one.model_copy(update=not_trained) for one in evaluated)
    finalists = _finalists(search, split, space, evaluated, out, reporter, hands)
    best = best_of(evaluated)[0]
    chosen = max(finalists, key=lambda one: one.reward).structure if finalists else evaluated[best].structure
    network = space.network(next(one.sample for one in evaluated if one.structure == chosen))
    macs = {one.structure: one.macs for one in evaluated}
    found = BaselineSearchResult(
        space=space,
        objective=search.objective,
        strategy=search.strategy,
        evaluator=search.evaluator,
        plan=search.plan,
        proxy=proxy,
        evaluated=evaluated,
        front=front_of(evaluated),
        best=best,
        finalists=finalists,
        network=network,
        ranking=ranking,
        training_macs=spent
        + sum(one.training_macs for one in evaluated)
        + sum(PASSES * macs[one.structure] * proxy.images * one.epochs * len(search.seeds) for one in finalists),
        limitations=limits_of(evaluated, space, search.plan, proxy, ranking, in_full=bool(finalists)),
    )
    network.save(out / NETWORK)
    found.save(out / FOUND)
    write_baseline_report(found, out, search)
    return found


def describe(evaluated: Sequence[EvaluatedCandidate], plan: SearchPlan, objective: Objective) -> str:
    """Return how far a search has come: the best reward, and the front in short."""
    trained = [one for one in evaluated if one.accuracy is not None]
    if not trained:
        return f"{len(evaluated)} of {plan.trials} networks, none within the constraint yet"
    best, on = evaluated[best_of(evaluated)[0]], front_of(evaluated)
    shown = [on[round(at)] for at in np.linspace(0, len(on) - 1, min(MAX_SHOWN, len(on)))]
    points = ", ".join(
        f"{evaluated[at].accuracy:.1%} at {describe_cost(objective, evaluated[at].cost)}" for at in shown
    )
    return (
        f"{len(evaluated)} of {plan.trials} networks: best reward {best.reward:.4f} ({best.accuracy:.1%} at "
        f"{describe_cost(objective, best.cost)}); front of {len(on)}: {points}"
    )


def describe_cost(objective: Objective, cost: float) -> str:
    """Return a cost with its unit."""
    return f"{cost:.3g} ms" if objective.cost == "latency" else format_cost(objective.cost, cost)


def _check(search: BaselineSearchRequest) -> None:
    """Refuse, before any image is read, what the images have no part in."""
    if not isinstance(search.baseline, Network):
        raise SearchError(
            f"{search.baseline.name} is a function, and the blocks of a space are chosen around those of a skeleton; "
            "give a published name or a JSON file of a network"
        )
    space = make_space(search.space, search.baseline, search.choices)
    make_strategy(search.strategy, space, search.search_seed, search.objective)
    if search.plan.halving is not None:
        search.plan.rungs(search.recipe.epochs)


def _space(search: BaselineSearchRequest, split: Split) -> Space:
    skeleton = for_classes(search.baseline, len(split.classes), search.recipe)
    assert isinstance(skeleton, Network)
    return make_space(search.space, skeleton, search.choices)


def _price(search: BaselineSearchRequest, space: Space, file: Path | None, hands: Hands) -> Price:
    """Return what counts or measures a network."""
    cost, predictor = search.objective.cost, search.predictor
    if cost != "latency":
        return lambda network: cost_value(count_network(network), cost)
    if predictor is not None:
        return lambda network: predict(predictor, network)
    return LatencyMeter(space.skeleton, file, threads=hands.threads, should_stop=hands.should_stop)


def _check_target(search: BaselineSearchRequest, split: Split, hands: Hands) -> None:
    """Refuse a target that no network of the space meets."""
    space, objective = _space(search, split), search.objective
    if objective.cost != "latency":
        space.check_target(objective.cost, objective.target)
        return
    price = _price(search, space, None, hands)
    low, high = price(space.smallest()), price(space.largest())
    if not low <= objective.target <= high:
        raise SearchError(
            f"no network of the space {space.name} takes {objective.target:g} ms: the smallest takes {low:.3g} ms "
            f"and the largest {high:.3g} ms; give a target between them, or another skeleton or resolution"
        )


def _trainings(search: BaselineSearchRequest, recipe: Recipe, out: Path, hands: Hands) -> Trainings:
    return Trainings(search.images, recipe, out / SPLIT, str(hands.device), hands.threads)


def _supernet(
    search: BaselineSearchRequest, space: Space, split: Split, out: Path, reporter: ProgressReporter, hands: Hands
) -> Supernets:
    """Train the weight-sharing network, and return who asks it."""
    recipe = search.recipe.model_copy(update={"epochs": search.supernet_epochs})
    spec = SupernetSpec(space=space, recipe=recipe, split=digest_of(split), seed=search.seeds[0])
    torch.set_num_threads(hands.threads * hands.workers)
    train_supernet(
        spec, split, out / "supernet", reporter, Carrying(device=hands.device, should_stop=hands.should_stop)
    )
    return Supernets(out / "supernet", out / SPLIT, str(hands.device), hands.threads)


def _check_order(
    search: BaselineSearchRequest,
    split: Split,
    space: Space,
    ask: Work,
    out: Path,
    reporter: ProgressReporter,
    hands: Hands,
) -> tuple[Ranking, int]:
    """Compare how the supernet orders networks drawn by chance with brief trainings of each, and count their MACs."""
    rng = random.Random(search.search_seed)
    drawn = {network.structure: network for network in (space.network(space.sample(rng)) for _ in range(MAX_DRAWN))}
    networks = list(drawn.values())[: search.checked]
    settings, skeleton = settings_of(search, split), space.skeleton
    found = []
    for work, folder, seeds, epochs in (
        (ask, "checked/supernet", (0,), 1),
        (_trainings(search, search.recipe, out, hands).until, "checked", search.seeds, search.recipe.epochs),
    ):
        name = f"{hands.study or _title(skeleton)}, {folder}"
        jobs = [Job(network, seed, 0, epochs) for network in networks for seed in seeds]
        own = replace(hands, study=name)
        with open_study(name, settings, skeleton, work, out / folder, own, reporter) as study:
            scores = study.evaluate(jobs)
        found.append([fmean(score.accuracy for score in scores[at : at + len(seeds)])
                      for at in range(0, len(scores), len(seeds))])  # fmt: skip
    seen = len(split.train) * search.recipe.epochs * len(search.seeds)
    return rank(*found), PASSES * seen * sum(count_network(network).macs for network in networks)


def _supernet_macs(
    search: BaselineSearchRequest, space: Space, evaluated: Sequence[EvaluatedCandidate], images: int
) -> int:
    """Return about what the training of the supernet took: its corners, the smallest, and those drawn, at each step."""
    drawn = fmean(one.macs for one in evaluated) * SAMPLES
    fixed = sum(count_network(network).macs for network in (*corners(space), space.smallest()))
    return round(PASSES * images * search.supernet_epochs * (fixed + drawn))


def _title(skeleton: Network) -> str:
    """Return the name of a search's study; those of what belongs to it begin with it, also when it is resumed."""
    return f"baseline from {skeleton.name}"


def _finalists(
    search: BaselineSearchRequest,
    split: Split,
    space: Space,
    evaluated: Sequence[EvaluatedCandidate],
    out: Path,
    reporter: ProgressReporter,
    hands: Hands,
) -> tuple[Finalist, ...]:
    """Train the best networks in full, best first; in a study of their own, as their recipe is another one."""
    if not search.finalists:
        return ()
    chosen = [evaluated[index] for index in best_of(evaluated, search.finalists)]
    networks = [space.network(one.sample) for one in chosen]
    recipe = search.recipe.model_copy(update={"epochs": search.final_epochs})
    settings = settings_of(search, split) | {"recipe": recipe.digest}
    name = f"{hands.study or _title(space.skeleton)}, finalists"
    jobs = [Job(network, seed, 0, recipe.epochs) for network in networks for seed in search.seeds]
    work = _trainings(search, recipe, out, hands).until
    own = replace(hands, study=name)
    with open_study(name, settings, space.skeleton, work, out / "finalists", own, reporter) as study:
        scores = study.evaluate(jobs)
    each = [scores[at : at + len(search.seeds)] for at in range(0, len(scores), len(search.seeds))]
    means, errors, _ = means_and_errors(each)
    found = [
        Finalist(
            network=network.name,
            structure=network.structure,
            epochs=recipe.epochs,
            accuracy=float(mean),
            error=float(error) if math.isfinite(error) else 0.0,
            reward=search.objective.reward(float(mean), one.cost),
        )
        for one, network, mean, error in zip(chosen, networks, means, errors, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: -one.reward))
