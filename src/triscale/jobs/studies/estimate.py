"""How many trainings a study takes, and about how long, before it begins."""

from __future__ import annotations

import random
from statistics import fmean
from typing import ClassVar

from triscale.errors import SearchError
from triscale.jobs.core.networks import count_of, fit_any
from triscale.jobs.core.run import Request
from triscale.jobs.studies.baseline import check_request, search_space
from triscale.jobs.studies.requests import BaselineSearchRequest, CoefficientSearchRequest, ComparisonRequest
from triscale.jobs.studies.supernet import SAMPLES
from triscale.jobs.training.estimate import TrainingEstimate, estimate_training
from triscale.jobs.training.resolve import for_classes
from triscale.network.cost import count_network
from triscale.record import Record
from triscale.search.coefficients.grid import find_candidates
from triscale.training.context import ExecutionContext

SAMPLED = 64
"""Random networks of a search space whose mean MACs stand for those that the search will train."""


class StudyEstimate(Record):
    """Estimated trainings and time of a study.

    The time of a few steps of the baseline is multiplied by the MACs of each network relative to the baseline's, and
    divided by the number of workers. Methods that stop trainings early, or that train only some candidates, take less:
    then ``at_most`` is true.

    Attributes:
        networks: Number of networks.
        trainings: Number of trainings, one per network and seed.
        epochs: Epochs of each.
        images: Training images of each.
        also: Other trainings of the study, whose time is included.
        seconds: Estimated time in seconds.
        at_most: Whether trainings and time are upper bounds.
        workers: Trainings in parallel.
    """

    kind_name: ClassVar[str] = "study_estimate"
    schema_number: ClassVar[int] = 2

    networks: int
    trainings: int
    epochs: int
    images: int
    also: tuple[str, ...] = ()
    seconds: float
    at_most: bool
    workers: int


def estimate_study(request: CoefficientSearchRequest | ComparisonRequest, context: ExecutionContext) -> StudyEstimate:
    """Scan the images, find the networks and time a few steps of the baseline; nothing is written.

    Raises:
        UserError: Invalid input, as in the study itself.
        Interrupted: ``context.should_stop`` returned true.
    """
    training = _time_baseline(request, context)
    baseline = for_classes(request.baseline, training.classes, request.recipe)
    if isinstance(request, ComparisonRequest):
        comparison = request.networks(baseline, fit_any, count_of)
        macs = [contender.macs.achieved for contender in comparison.contenders]
    elif request.grid.cost == "latency":
        raise SearchError("candidates of equal latency have to be measured, so their number is not known before")
    else:
        macs = [candidate.macs for candidate in find_candidates(baseline, request.grid, count_of).candidates]
    trainings = len(macs) * len(request.seeds)
    relative = sum(macs) / count_of(baseline).macs
    return StudyEstimate(
        networks=len(macs),
        trainings=trainings,
        epochs=request.recipe.epochs,
        images=round(training.train_images * request.share),
        seconds=training.seconds * request.share * relative * len(request.seeds) / context.workers,
        at_most=isinstance(request, CoefficientSearchRequest) and request.method != "grid",
        workers=context.workers,
    )


def estimate_baseline_search(request: BaselineSearchRequest, context: ExecutionContext) -> StudyEstimate:
    """Scan the images and time a few steps of the skeleton; nothing is written.

    The search chooses its networks on the way, so that the time is computed with the mean MACs of random networks of
    the space. The trainings are those of the candidates or of the supernet and its check, and of the finalists.

    Raises:
        UserError: Invalid input, as in the search itself.
        Interrupted: ``context.should_stop`` returned true.
    """
    if request.table is not None:
        raise SearchError("--dry-run estimates trainings, and a search in a table trains nothing; leave it out")
    check_request(request)
    training = _time_baseline(request, context)
    space, rng, seeds = search_space(request, training.classes), random.Random(request.search_seed), len(request.seeds)
    relative = fmean(count_network(space.network(space.sample(rng))).macs for _ in range(SAMPLED))
    relative /= count_of(space.skeleton).macs
    networks, also, epochs = request.plan.trials, [], 0
    if request.evaluator == "supernet":
        also.append(f"a supernet trained for {request.supernet_epochs} epochs, which evaluates {networks} networks")
        # Each step of the supernet trains the largest, the smallest and some sampled networks.
        networks, epochs = request.checked, request.supernet_epochs * (SAMPLES + 2)
    epochs += networks * seeds * request.recipe.epochs
    if request.finalists:
        also.append(f"{request.finalists * seeds} trainings of the best networks for {request.final_epochs} epochs")
        epochs += request.finalists * seeds * request.final_epochs
    return StudyEstimate(
        networks=networks,
        trainings=networks * seeds,
        epochs=request.recipe.epochs,
        images=round(training.train_images * request.share),
        also=tuple(also),
        seconds=training.seconds / request.recipe.epochs * epochs * request.share * relative / context.workers,
        at_most=request.plan.halving is not None or request.objective.form == "constraint",
        workers=context.workers,
    )


def _time_baseline(
    request: CoefficientSearchRequest | ComparisonRequest | BaselineSearchRequest, context: ExecutionContext
) -> TrainingEstimate:
    """Estimate the training of the unscaled baseline."""
    return estimate_training(
        Request(
            images=request.images, network=request.baseline, budget=None, law=None, recipe=request.recipe,
            seed=request.split_seed, test_share=0.2, data=request.data,
        ),
        context,
    )  # fmt: skip
