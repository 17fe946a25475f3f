"""Decide what a request leaves open, once the images are known: initial weights, schedule, length.

The decisions are concrete values in the request that a run records, so that a resumed run keeps them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from triscale.data.images.transforms import check_channels
from triscale.data.pipeline.split import Split
from triscale.jobs.core.run import InitialWeights, Request
from triscale.jobs.training.initial_weights import check_initial_weights, check_kept_head
from triscale.jobs.training.memory import max_batch_of
from triscale.jobs.training.precision_choice import in_chosen_precision
from triscale.jobs.training.published import find_published
from triscale.jobs.training.resolve import resolve
from triscale.jobs.training.small_data import small_data_warning
from triscale.jobs.training.teacher import check_teacher
from triscale.jobs.training.time_limit import MAX_STRETCH, Clock, epochs_within
from triscale.network.custom import AnyNetwork
from triscale.scaling.fit import Fit
from triscale.training.automatic import Start, automatic
from triscale.training.context import ExecutionContext
from triscale.training.engine import check_engine
from triscale.training.imbalance import objective_of
from triscale.training.mirroring import with_flip
from triscale.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the decisions depend on, apart from request and images.

    Attributes:
        offline: Whether to use only the cache for published weights.
        started: When the job began, on the clock of ``time.monotonic``; a time limit counts from then.
        exports: Whether the job also exports, measures and explains after the evaluation.
        warns: Whether to warn about few images or random weights.
    """

    offline: bool = False
    started: float = field(default_factory=time.monotonic)
    exports: bool = False
    warns: bool = True


def settle(
    request: Request, split: Split, context: ExecutionContext, conditions: Conditions
) -> tuple[Request, AnyNetwork, Fit | None]:
    """Return the request with everything decided, the network to train, and how it was fitted to the budget.

    Args:
        request: The request of a user.
        split: The images.
        context: Device, workers, progress and stop flag.
        conditions: What else the decisions depend on.

    Raises:
        BudgetError: The budget cannot be met.
        WeightsError: Weights that were named do not fit the network, or a teacher does not know the classes.
        RecipeError: The time limit is too short, or the recipe does not suit the teacher, the labels or the channels
            of the images.
        Interrupted: ``context.should_stop`` returned true.
    """
    classes, missing = len(split.classes), ""
    request = request.replace(recipe=with_flip(request.recipe, split.classes))
    objective_of(request.recipe, split)  # refuses a loss that does not suit the labels, before anything is written
    network, fit = resolve(request, classes, context)
    if request.open is not None and request.open.weights:
        published = find_published(request.network, network, context, offline=conditions.offline)
        if published.weights is None:
            missing = published.message
        else:
            assert request.open.pretrained is not None
            context.progress.note(published.message)
            recipe = with_flip(request.open.pretrained, split.classes)
            request = request.replace(start=published.weights, recipe=recipe)
            network, fit = resolve(request, classes, context)
    if request.start is not None:
        check_initial_weights(request.start, network)
    check_kept_head(request, split.classes)
    check_channels(request.recipe.augmentation, network.in_channels)
    if request.teacher is not None:
        check_teacher(request.teacher, split.classes, request.recipe, network.in_channels)
    request = request.replace(recipe=in_chosen_precision(request, network, context))
    request = request.replace(recipe=_scheduled(request, network, split, context))
    choices = request.open
    measured = {
        "--time-limit": choices is not None and choices.time_limit is not None,
        "--lr auto": choices is not None and choices.tests_rate,
    }
    check_engine(context, network, request.recipe, measured, teacher=request.teacher is not None)
    if conditions.warns and (warning := small_data_warning(request, split, missing)) is not None:
        context.progress.note(warning)
    if request.open is not None and request.open.time_limit is not None:
        request = request.replace(recipe=_shortened(request, network, split, context, conditions))
    return request, network, fit


def _scheduled(request: Request, network: AnyNetwork, split: Split, context: ExecutionContext) -> Recipe:
    """Return the recipe with the fields that follow from the number of images, and note them."""
    recipe, fields = request.recipe, request.open.fields if request.open is not None else ()
    if not fields:
        return recipe
    max_batch = max_batch_of(network, recipe, context.device) if "batch" in fields else None
    chosen = automatic(recipe, fields, len(split.train), start=_kind_of(request.start), max_batch=max_batch)
    if chosen != recipe:
        values = {"epochs": f"{chosen.epochs} epochs", "batch": f"batch {chosen.batch}"}
        values["learning_rate"] = f"learning rate {chosen.learning_rate:.3g}"
        if request.open is not None and request.open.time_limit is not None:
            values["epochs"] = f"at most {MAX_STRETCH * chosen.epochs} epochs"
        context.progress.note(
            f"chosen for {len(split.train)} training images: {', '.join(values[name] for name in fields)}"
        )
    return chosen


def _kind_of(start: InitialWeights | None) -> Start:
    if start is None:
        return "random"
    return "inherited" if start.inherits else "same"


def _shortened(
    request: Request, network: AnyNetwork, split: Split, context: ExecutionContext, conditions: Conditions
) -> Recipe:
    assert request.open is not None
    assert request.open.time_limit is not None
    return epochs_within(
        request.open.time_limit,
        Clock(started=conditions.started, exports=conditions.exports),
        request,
        network,
        split,
        context,
    )
