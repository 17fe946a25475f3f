"""Choose the number of epochs such that a job ends, evaluated and exported, within a time limit.

The speed is measured with a few steps before training. The schedule is fixed then and recorded in the run, so that a
resumed run keeps it. To allow for a machine that becomes slower, only :data:`AIM` of the time is planned.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

from triscale.data.pipeline.split import Split
from triscale.errors import RecipeError
from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.run import Request
from triscale.jobs.training.linear_probe import MAX_IMAGES, PROBE_IMAGES
from triscale.jobs.training.speed import Speed, measure_speed
from triscale.network.custom import AnyNetwork
from triscale.progress import format_duration
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe
from triscale.training.transfer import REESTIMATED_IMAGES

AIM = 0.9
"""Share of the time limit that is planned."""
MAX_STRETCH = 4
"""Longest schedule, relative to the recipe's without a limit: beyond it, small sets are only learned by heart."""
EPOCH_OVERHEAD_SECONDS = 0.15
"""For the checkpoint and the history of an epoch."""
LIVE_REPORT_SHARE = 0.08
"""Share of the training time that updating the report takes."""
TRAIN_SECONDS, FIT_SECONDS = 5.0, 25.0
"""For what follows the evaluation: the report; for a fit, also export, latency measurement and maps."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The time that a job may take.

    Attributes:
        started: When the job began, on the clock of ``time.monotonic``.
        exports: Whether the job also exports, measures and explains after the evaluation.
    """

    started: float
    exports: bool


def epochs_within(
    limit: float, clock: Clock, request: Request, network: AnyNetwork, split: Split, context: ExecutionContext
) -> Recipe:
    """Return the recipe with as many epochs as the time allows, at most :data:`MAX_STRETCH` times its own.

    Args:
        limit: Seconds for the whole job.
        clock: When it began, and what follows the training.
        request: Recipe, with the epochs that it would have without a limit, initial weights, teacher and seed.
        network: The network to train.
        split: The images.
        context: Device, workers, progress and stop flag.

    Raises:
        RecipeError: Not even one epoch fits into the time.
        Interrupted: ``context.should_stop`` returned true.
    """
    recipe = request.recipe
    speed = measure_speed(network, request, split, context, evaluation=True)
    epoch = epoch_seconds(speed, recipe, split)
    rest = _rest_seconds(speed, request, network, split, clock)
    elapsed = time.monotonic() - clock.started
    epochs = min(MAX_STRETCH * recipe.epochs, math.floor((AIM * limit - elapsed - rest) / epoch))
    if epochs < 1:
        needed = (elapsed + rest + epoch) / AIM
        raise RecipeError(
            f"--time-limit {format_duration(limit)} is too short: one epoch takes about {format_duration(epoch)} and "
            f"everything else about {format_duration(elapsed + rest)}; give at least {math.ceil(needed)}s, or a "
            "smaller --budget"
        )
    context.progress.note(
        f"time limit {format_duration(limit)}: {epochs} epochs of about {epoch:.1f} s, and about "
        f"{format_duration(elapsed + rest)} for everything else"
    )
    # The minimum number of steps would repeat the images within an epoch, which then takes longer than was planned.
    return recipe.replace(epochs=epochs, min_steps=min(recipe.min_steps, epochs * speed.steps_per_epoch))


def epoch_seconds(speed: Speed, recipe: Recipe, split: Split) -> float:
    """Return the estimated duration of an epoch: steps, validation, and what is saved and reported."""
    step = max(statistics.median(speed.steps), statistics.fmean(speed.steps))
    evaluated = len(split.val)
    if recipe.norm_statistics == "reestimated":
        evaluated += min(REESTIMATED_IMAGES, len(split.train))
    seconds = step * speed.steps_per_epoch + (speed.eval_image or 0.0) * evaluated + EPOCH_OVERHEAD_SECONDS
    return seconds * (1 + LIVE_REPORT_SHARE)


def _rest_seconds(speed: Speed, request: Request, network: AnyNetwork, split: Split, clock: Clock) -> float:
    """Return the estimated seconds before the first and after the last epoch."""
    image, recipe = speed.eval_image or 0.0, request.recipe
    probed = request.start is not None and recipe.head_init == "probe" and len(split.train) <= MAX_IMAGES
    probe = image * min(PROBE_IMAGES, len(split.train)) + 2 if probed else 0.0
    taught = 0.0
    if request.teacher is not None and recipe.distillation.inputs == "original":
        taught = image * len(split.train) * max(1.0, cost_of(request.teacher.network).macs / cost_of(network).macs)
    return (
        probe + taught + image * (len(split.val) + len(split.test)) + (FIT_SECONDS if clock.exports else TRAIN_SECONDS)
    )
