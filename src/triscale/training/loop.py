"""The training loop: read it from top to bottom.

A step is a pure function of recipe, seed, step number and state: the batch is one of (seed, epoch, step), dropout and
stochastic depth are drawn from (seed, step, shard). No random state is saved, and none is relied upon.
"""

from __future__ import annotations

import math
import time
from itertools import islice

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from triscale.errors import Interrupted, JobError, RecipeError
from triscale.results.history import Epoch
from triscale.training.distributed.group import Group
from triscale.training.distributed.micro_batches import micro_batches_of
from triscale.training.distributed.sync_norm import sync_batch_norm
from triscale.training.divergence import WINDOW, diverging_since
from triscale.training.evaluate import evaluate
from triscale.training.meter import Meter
from triscale.training.recipe import Recipe
from triscale.training.schedule import learning_rate
from triscale.training.state.checkpoint import Checkpoints, Manifest, Stored
from triscale.training.state.resume import resume_or_init, roll_back
from triscale.training.state.saver import MakeManifest, Saver, Tensors
from triscale.training.state.state import State, new_state, to_tensors
from triscale.training.step import Stepper, seed_of
from triscale.training.task import BatchSource, Manner, TrainingTask
from triscale.training.transfer import REESTIMATED_IMAGES, reestimate_norms, should_stop_early

MAX_UNDONE_IN_A_ROW = 20
CHECK_EVERY_ON_DEVICE = 16
"""Steps between two looks at figures that lie on a GPU; each look waits for it."""


def train(task: TrainingTask, feed: BatchSource, checkpoints: Checkpoints, manner: Manner) -> Manifest:
    """Train to the end of the recipe, from the newest checkpoint if there is one.

    A checkpoint is committed after each epoch, every few minutes, and when ``should_stop`` answers true; it is written
    beside the training. Only the first process of a group reads and writes checkpoints. The returned manifest names
    the file with the best averaged weights, by accuracy on the held-out images, then by their loss.

    Raises:
        RecipeError: the recipe's shards cannot be dealt out to the processes.
        Interrupted: ``should_stop`` answered true; everything is saved.
        JobError: steps that are never finite, losses that diverge again and again, no memory, no room on the disk at
            the end, or a process that was lost.
    """
    micro_batches_of(manner.group.rank, manner.group.size, task.recipe.micro_batches)
    model = sync_batch_norm(task.model, task.recipe, manner.group)
    state = new_state(model, task.recipe, manner.device)
    stepper = Stepper(
        state=state,
        forward=_forward(state.model, task.recipe, manner),
        recipe=task.recipe,
        preprocessing=task.preprocessing,
        classes=task.classes,
        seed=task.seed,
        device=manner.device,
        group=manner.group,
        told=manner.on_note,
    )
    saver = Saver(checkpoints, manner.on_note, writes=manner.group.is_writer)
    try:
        return _train(task, feed, checkpoints, manner, stepper, saver)
    finally:
        saver.close()


def _train(
    task: TrainingTask, feed: BatchSource, checkpoints: Checkpoints, manner: Manner, stepper: Stepper, saver: Saver
) -> Manifest:
    recipe, state, group = task.recipe, stepper.state, manner.group
    steps = feed.steps_per_epoch * recipe.epochs
    meter = Meter(steps, recipe.epochs, manner.on_progress)
    written = resume_or_init(state, checkpoints, group)
    if written is None:
        saver.save_now(to_tensors(state), _manifest(task, state), manner.should_stop, wait=False)
        written = resume_or_init(state, checkpoints, group)  # so that all processes begin with the weights of the first
        assert written is not None
    saver.begin(written)

    def has_ended() -> bool:
        return state.step == steps or should_stop_early(state.history, state.best, recipe)

    while not has_ended():
        if not _train_epoch(task, feed, checkpoints, manner, stepper, saver, meter):
            continue  # from where it was rolled back to
        finished = _finish_epoch(task, feed, manner, state, meter)
        if finished == state.best:
            saver.keep_best(Tensors(state.step, state.average.model.state_dict()))
        make = _manifest(task, state, finished=has_ended())
        if has_ended():
            written = saver.save_now(to_tensors(state), make, manner.should_stop, wait=True)
        else:
            saver.save(to_tensors(state), make)
        manner.on_epoch(tuple(state.history))
    return written


def _train_epoch(
    task: TrainingTask,
    feed: BatchSource,
    checkpoints: Checkpoints,
    manner: Manner,
    stepper: Stepper,
    saver: Saver,
    meter: Meter,
) -> bool:
    """Take the steps of an epoch that are left, and return whether they were taken: false after a rollback."""
    recipe, state, group = task.recipe, stepper.state, manner.group
    every = 1 if manner.device.type == "cpu" else CHECK_EVERY_ON_DEVICE
    epoch, first = divmod(state.step, feed.steps_per_epoch)
    head_steps = recipe.head_epochs * feed.steps_per_epoch
    group.barrier(f"the start of epoch {epoch + 1}")
    meter.start_epoch()
    saved_at = time.monotonic()
    for batch in feed.train(epoch, first):
        if state.step % every == 0 or group.size == 1:
            stop, save = _agree(group, manner, time.monotonic() - saved_at)
            if stop:
                saver.save_now(to_tensors(state), _manifest(task, state), manner.should_stop, wait=False)
                raise Interrupted(f"stopped after step {state.step}; everything is saved")
            if save:
                saver.save(to_tensors(state), _manifest(task, state))
                saved_at = time.monotonic()
        if state.step in state.skipped:
            state.recent[state.step % WINDOW] = float("nan")
            state.step += 1
            continue
        count = feed.count(state.step - epoch * feed.steps_per_epoch)
        rate, only_head = learning_rate(recipe, state.step, feed.steps_per_epoch), state.step < head_steps
        stepper.take(batch, count, rate, only_head=only_head)
        val_top1 = state.history[-1].val_top1 if state.history else None
        meter.count(count, state.step, epoch + 1, val_top1, lambda: state.loss)
        if state.step % every == 0:
            _refuse_undone(state)
            if (since := diverging_since(state.recent_losses)) is not None:
                saver.settle()
                manner.on_note(roll_back(state, since, feed, checkpoints, group))
                return False
    return True


def seed_weights(seed: int) -> None:
    """Seed the drawing of a model's first weights, so that they are a function of the seed alone."""
    torch.manual_seed(seed_of(seed, 0, 0))


def _forward(model: nn.Module, recipe: Recipe, manner: Manner) -> nn.Module:
    """Return the model as it is called in a step."""
    if manner.compiled and recipe.quantization != "none":
        raise RecipeError("--compile does not see what quantization int8 rounds layer by layer; leave one of them out")
    called: nn.Module = torch.compile(model, dynamic=False) if manner.compiled else model  # type: ignore[assignment]
    if manner.group.size > 1 and recipe.grad_reduction == "fast":
        devices = [manner.device.index or 0] if manner.device.type == "cuda" else None
        called = DistributedDataParallel(called, device_ids=devices, broadcast_buffers=False)
    return called


def _agree(group: Group, manner: Manner, seconds: float) -> tuple[bool, bool]:
    """Return whether all processes stop, and whether they save, if any of them wants it."""
    stop, save = manner.should_stop(), seconds > manner.save_seconds
    if group.size > 1:
        stop, save = group.add(torch.tensor([stop, save], dtype=torch.int32, device=manner.device)).tolist()
    return bool(stop), bool(save)


def _finish_epoch(task: TrainingTask, feed: BatchSource, manner: Manner, state: State, meter: Meter) -> Epoch:
    """Evaluate the average on the held-out images and write down the epoch."""
    images_per_second, recipe = meter.images_per_second, task.recipe
    if recipe.norm_statistics == "reestimated":
        number = min(feed.steps_per_epoch, math.ceil(REESTIMATED_IMAGES / recipe.batch))
        epoch = state.step // feed.steps_per_epoch - 1
        seen = feed.train(epoch, 0) if feed.whole is None else feed.whole(epoch)
        # Every process does the same: the images are few, and all come to the same statistics.
        reestimate_norms(state.average.model, islice(seen, number), task.preprocessing, manner.device)
    outcome = evaluate(
        state.average.model, feed.val(), task.preprocessing, device=manner.device, gather=manner.group.share_objects
    )
    if not math.isfinite(outcome.loss):
        raise JobError(
            f"after step {state.step} the network answers the held-out images with numbers that are not finite; begin "
            f"another Run with a smaller learning rate than {recipe.peak_learning_rate:g}"
        )
    total, count, skipped_steps, _ = state.tally.tolist()
    finished = Epoch(
        epoch=state.step // feed.steps_per_epoch,
        step=state.step,
        learning_rate=learning_rate(recipe, state.step - 1, feed.steps_per_epoch),
        train_loss=total / max(1.0, count),
        val_loss=outcome.loss,
        val_top1=outcome.top1,
        images_per_second=images_per_second,
        seconds=meter.epoch_seconds,
        skipped_steps=int(skipped_steps),
    )
    state.history.append(finished)
    state.tally[:3] = 0
    if state.best is None or (outcome.top1, -outcome.loss) > (state.best.val_top1, -state.best.val_loss):
        state.best = finished
    return finished


def _refuse_undone(state: State) -> None:
    if state.tally[3] >= MAX_UNDONE_IN_A_ROW:
        raise JobError(
            f"the loss was not finite in {MAX_UNDONE_IN_A_ROW} steps in a row up to step {state.step}; the "
            "last checkpoint is from before them; try a smaller learning rate in another Run"
        )


def _manifest(task: TrainingTask, state: State, *, finished: bool = False) -> MakeManifest:
    """Describe the state as it is now; the files that hold it are named when they have been written."""
    recipe, network, seed = task.recipe.digest, task.network_digest, task.seed
    step, skipped, rollbacks = state.step, tuple(sorted(state.skipped)), state.rollbacks
    history, best = tuple(state.history), state.best

    def made(state_file: Stored, best_file: Stored | None) -> Manifest:
        return Manifest(
            recipe=recipe,
            network=network,
            seed=seed,
            step=step,
            skipped=skipped,
            rollbacks=rollbacks,
            finished=finished,
            history=history,
            best=best,
            state_file=state_file,
            best_file=best_file,
        )

    return made
