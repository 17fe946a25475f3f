"""How many trainings a study takes, and about how long, before it begins."""

from __future__ import annotations

from typing import ClassVar

from triscale.errors import SearchError
from triscale.jobs.core.networks import count_of, fit_any
from triscale.jobs.core.run import Request
from triscale.jobs.studies.requests import CoefficientSearchRequest, ComparisonRequest
from triscale.jobs.training.estimate import estimate_training
from triscale.jobs.training.prepare import for_classes
from triscale.record import Record
from triscale.search.coefficients.grid import find_candidates
from triscale.search.compare.contenders import equal_cost
from triscale.training.context import ExecutionContext


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
        seconds: Estimated time in seconds.
        at_most: Whether trainings and time are upper bounds.
        workers: Trainings in parallel.
    """

    kind_name: ClassVar[str] = "study_estimate"

    networks: int
    trainings: int
    epochs: int
    images: int
    seconds: float
    at_most: bool
    workers: int


def estimate_study(request: CoefficientSearchRequest | ComparisonRequest, context: ExecutionContext) -> StudyEstimate:
    """Scan the images, find the networks and time a few steps of the baseline; nothing is written.

    Raises:
        UserError: Invalid input, as in the study itself.
        Interrupted: ``context.should_stop`` returned true.
    """
    training = estimate_training(
        Request(
            images=request.images, network=request.baseline, budget=None, law=None, recipe=request.recipe,
            seed=request.split_seed, test_share=0.2,
        ),
        context,
    )  # fmt: skip
    baseline = for_classes(request.baseline, training.classes, request.recipe)
    if isinstance(request, ComparisonRequest):
        comparison = equal_cost(baseline, request.times, law=request.law, phi=request.phi, fit=fit_any, count=count_of)
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
