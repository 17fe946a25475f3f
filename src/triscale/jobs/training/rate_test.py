"""Choose the learning rate of a run by a range test (``--lr auto``): a few real steps whose result is discarded."""

from __future__ import annotations

from triscale.data.pipeline.loader import TrainLoader
from triscale.data.pipeline.split import Split
from triscale.errors import Interrupted
from triscale.jobs.core.run import Request, RunSpec
from triscale.jobs.training.initial_weights import load_initial_weights
from triscale.jobs.training.speed import endless
from triscale.jobs.training.train import decoder_of
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.distributed.group import ALONE
from triscale.training.imbalance import image_weights, objective_of
from triscale.training.loop import seed_weights
from triscale.training.range_test import STEPS, has_diverged, range_rates, suggested_rate, with_rate
from triscale.training.state.state import new_state
from triscale.training.step import Stepper
from triscale.training.transfer import has_frozen_norms


def with_tested_rate(spec: RunSpec, split: Split, context: ExecutionContext) -> Request:
    """Return the request of a run with the learning rate of a range test on its network, images and initial weights.

    The test is as reproducible as a training. It does not follow a teacher.

    Args:
        spec: The run, whose recipe gives everything but the rate.
        split: The images.
        context: Device, workers, progress and stop flag.

    Raises:
        Interrupted: ``context.should_stop`` returned true; nothing was written yet.
    """
    peak = spec.request.recipe.peak_learning_rate
    rates = range_rates(peak)
    losses = range_losses(spec, split, context, rates)
    # Three digits, so that a rate can be given again by hand.
    recipe = with_rate(spec.request.recipe, float(f"{suggested_rate(rates, losses, peak):.3g}"))
    context.progress.note(
        f"learning rate {recipe.learning_rate:g} and weight decay {recipe.weight_decay:.3g} by a range test of "
        f"{len(losses)} steps up to {rates[len(losses) - 1]:.3g}; the recipe has {peak:.3g}"
    )
    return spec.request.replace(recipe=recipe)


def range_losses(spec: RunSpec, split: Split, context: ExecutionContext, rates: list[float]) -> list[float]:
    """Return the mean loss of each step at these learning rates, up to the one where the test can end.

    Args:
        spec: The run.
        split: The images.
        context: Device, workers, progress and stop flag.
        rates: The learning rate of each step.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    request, recipe = spec.request, spec.request.recipe
    seed_weights(request.seed)
    model = build(spec.network)
    if request.start is not None:
        load_initial_weights(model, spec, request.start, split, context.device, should_stop=context.should_stop)
    state = new_state(model, recipe, context.device)
    stepper = Stepper(
        state=state,
        forward=state.model,
        recipe=recipe,
        preprocessing=spec.preprocessing,
        classes=len(split.classes),
        objective=objective_of(recipe, split),
        seed=request.seed,
        device=context.device,
        group=ALONE,
        on_message=context.progress.note,
    )
    frozen = has_frozen_norms(recipe, 0, STEPS)
    losses: list[float] = []
    with TrainLoader(
        split,
        spec.preprocessing,
        recipe.augmentation,
        batch=recipe.batch,
        seed=request.seed,
        workers=context.workers,
        decode_jpeg=decoder_of(recipe),
        weights=image_weights(split) if recipe.sampling == "balanced" else None,
    ) as loader:
        context.progress.begin("test learning rates", len(rates))
        for rate, batch in zip(rates, endless(loader), strict=False):
            if context.should_stop():
                raise Interrupted("stopped while testing learning rates; the same command restarts the test")
            stepper.take(batch, len(batch.labels), rate, frozen_norms=frozen)
            losses.append(state.recent_losses[-1])
            context.progress.advance(len(losses), f"loss {losses[-1]:.3f}")
            if has_diverged(losses):
                break
    return losses
