"""Measure how fast a network trains and is evaluated, with a few real steps whose result is discarded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from triscale.data.pipeline.loader import Batch, TrainLoader, eval_batches
from triscale.data.pipeline.split import Split
from triscale.errors import Interrupted
from triscale.jobs.core.run import Request
from triscale.jobs.training.preprocessing import preprocessing_of
from triscale.jobs.training.teacher import matching_teacher
from triscale.jobs.training.train import decoder_of, eval_batch
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.nn.build import build
from triscale.training.accelerator import synchronize
from triscale.training.context import ExecutionContext
from triscale.training.distillation import Teacher
from triscale.training.distributed.group import ALONE
from triscale.training.evaluate import evaluate
from triscale.training.imbalance import objective_of
from triscale.training.loop import seed_weights
from triscale.training.recipe import Recipe
from triscale.training.state.state import State, new_state
from triscale.training.step import Stepper

STEPS = 5
"""Number of timed steps, after one warm-up step."""
_EVAL_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Speed:
    """The measured speed of a training.

    Attributes:
        steps: Duration of each timed step in seconds, data loading included.
        eval_image: Seconds to decode and evaluate one image; None if it was not measured.
        steps_per_epoch: Batches of an epoch.
        images_per_step: Images of its first batch.
    """

    steps: tuple[float, ...]
    eval_image: float | None
    steps_per_epoch: int
    images_per_step: int


def measure_speed(
    network: AnyNetwork, request: Request, split: Split, context: ExecutionContext, *, evaluation: bool = False
) -> Speed:
    """Time a few training steps, and on request the evaluation of a few images.

    Args:
        network: The network.
        request: Recipe, initial weights, seed, and the teacher if its forward pass is part of every step.
        split: The images.
        context: Device, workers, progress and stop flag.
        evaluation: Whether to time the evaluation too.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    recipe, seed, teacher = request.recipe, request.seed, None
    preprocessing = preprocessing_of(request.start, recipe, network, split.bit_depth)
    if request.teacher is not None and recipe.distillation.inputs == "augmented":
        teacher = matching_teacher(request.teacher, preprocessing, split.classes, context.device)
    with TrainLoader(
        split,
        preprocessing,
        recipe.augmentation,
        batch=recipe.batch,
        seed=seed,
        workers=context.workers,
        decode_jpeg=decoder_of(recipe),
    ) as loader:
        context.progress.begin("time steps", STEPS + 1)
        seed_weights(seed)
        state = new_state(build(network), recipe, context.device)
        steps = _step_seconds(state, recipe, preprocessing, split, seed, loader, context, teacher)
        return Speed(
            steps=tuple(steps),
            eval_image=_eval_seconds(state, recipe, preprocessing, split, context) if evaluation else None,
            steps_per_epoch=loader.num_steps,
            images_per_step=loader.count(0),
        )


def _step_seconds(
    state: State,
    recipe: Recipe,
    preprocessing: Preprocessing,
    split: Split,
    seed: int,
    loader: TrainLoader,
    context: ExecutionContext,
    teacher: Teacher | None,
) -> list[float]:
    """Return the duration of each timed step in seconds, data loading included."""
    stepper = Stepper(
        state=state,
        forward=state.model,
        recipe=recipe,
        preprocessing=preprocessing,
        classes=len(split.classes),
        objective=objective_of(recipe, split),
        seed=seed,
        device=context.device,
        group=ALONE,
        on_message=context.progress.note,
        teacher=teacher,
    )
    ended = []
    for number, batch in enumerate(islice(endless(loader), STEPS + 1)):
        if context.should_stop():
            raise Interrupted("stopped; nothing was written")
        stepper.take(batch, len(batch.labels), rate=1e-9)
        synchronize(context.device)
        ended.append(time.perf_counter())
        context.progress.advance(number + 1)
    return [after - before for before, after in pairwise(ended)]


def _eval_seconds(
    state: State, recipe: Recipe, preprocessing: Preprocessing, split: Split, context: ExecutionContext
) -> float:
    """Return the seconds that the evaluation of one image takes, decoding included."""
    samples = (split.val or split.train)[:_EVAL_IMAGES]
    batches = eval_batches(samples, split.root, preprocessing, batch=eval_batch(recipe))
    began = time.perf_counter()
    evaluate(state.average.model, batches, preprocessing, device=context.device)
    return (time.perf_counter() - began) / len(samples)


def endless(loader: TrainLoader) -> Iterator[Batch]:
    """Return the batches of all epochs, one after the other, without an end."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1
