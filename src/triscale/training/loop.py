"""The training loop.

A step is a pure function of recipe, seed, step number and state: the batch depends on (seed, epoch, step), and dropout
and stochastic depth are seeded with (seed, step, micro-batch). Checkpoints therefore hold no generator state, and a
resumed training is bitwise the same as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypedDict

import torch

from triscale.errors import Interrupted, JobError
from triscale.nn.chain import portable_only
from triscale.nn.library import library
from triscale.nn.map_memory import reusing_map_memory
from triscale.results.history import Epoch, kept_epoch
from triscale.training.context import ExecutionContext
from triscale.training.distributed.micro_batches import micro_batches_of
from triscale.training.divergence import diverging_since
from triscale.training.engine import TrainingEngine, make_engine
from triscale.training.evaluate import EvalOutput, evaluate
from triscale.training.meter import Meter
from triscale.training.replay import Replay, replay_interval
from triscale.training.schedule import learning_rate
from triscale.training.state.checkpoint import Checkpoints, Manifest, Stored
from triscale.training.state.resume import resume_or_init, roll_back
from triscale.training.state.saver import MakeManifest, Saver, Tensors
from triscale.training.state.state import State, digest_of, to_tensors
from triscale.training.step import seed_of
from triscale.training.task import BatchSource, TrainingTask
from triscale.training.transfer import REESTIMATED_IMAGES, has_frozen_norms, reestimate_norms, should_stop_early

MAX_SKIPPED_IN_A_ROW = 20
SAVE_SECONDS = 600.0


class _Validation(TypedDict):
    """The fields of an epoch that its validation gives."""

    val_loss: float
    val_top1: float | None
    val_map: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """Everything that the functions of the loop share."""

    task: TrainingTask
    source: BatchSource
    checkpoints: Checkpoints
    context: ExecutionContext
    on_epoch: Callable[[tuple[Epoch, ...]], None]
    save_seconds: float
    engine: TrainingEngine
    saver: Saver
    meter: Meter
    replay: Replay

    @property
    def state(self) -> State:
        return self.engine.state

    @property
    def tensors(self) -> Tensors:
        """The tensors of the state as it is now."""
        self.engine.read_state()
        return to_tensors(self.state)

    def loss(self) -> float:
        """Return the mean loss of the epoch so far."""
        self.engine.read_losses()
        return self.state.loss


def train(
    task: TrainingTask,
    source: BatchSource,
    checkpoints: Checkpoints,
    context: ExecutionContext,
    *,
    on_epoch: Callable[[tuple[Epoch, ...]], None] = lambda history: None,
    save_seconds: float = SAVE_SECONDS,
) -> Manifest:
    """Train to the end of the recipe, from the newest checkpoint if there is one.

    A checkpoint is committed after each epoch, every few minutes, and when ``context.should_stop`` returns true; it is
    written in the background. Only the first process of a group reads and writes checkpoints.

    Args:
        task: What to compute.
        source: Where batches come from.
        checkpoints: Where the state is kept.
        context: Device, processes, stop flag and progress.
        on_epoch: Called after each epoch with all that were evaluated: epoch 0 of pretrained weights and the finished
            ones.
        save_seconds: Time between two checkpoints within an epoch.

    Returns:
        The last manifest. It names the file with the averaged weights of the epoch that
        :func:`triscale.results.history.kept_epoch` chooses.

    Raises:
        RecipeError: The recipe's micro-batches cannot be distributed over the processes.
        Interrupted: ``context.should_stop`` returned true; everything is saved.
        CorruptionError: A step that was taken twice gave two results; the newest checkpoint is from before it.
        JobError: Losses stay non-finite or diverge repeatedly, memory or disk space runs out, or a process of the group
            is lost.
    """
    # Fail before any work if the micro-batches do not fit the number of processes.
    micro_batches_of(context.group.rank, context.group.size, task.recipe.micro_batches)
    engine = make_engine(task, context)
    note = context.progress.note
    saver = Saver(checkpoints, note, writes=context.group.is_writer)
    loop = _Loop(
        task=task,
        source=source,
        checkpoints=checkpoints,
        context=context,
        on_epoch=on_epoch,
        save_seconds=save_seconds,
        engine=engine,
        saver=saver,
        meter=Meter(source.steps_per_epoch * task.recipe.epochs, task.recipe.epochs, context.progress),
        replay=Replay(engine=engine, every=replay_interval(task.recipe, context), context=context),
    )
    try:
        with portable_only(active=_lacks_native(context)), reusing_map_memory():
            return _train(loop)
    finally:
        saver.close()


def _lacks_native(context: ExecutionContext) -> bool:
    """Return whether a process of the group lacks the native kernels; then no process uses them, for equal results."""
    group = context.group
    if group.size == 1 or context.device.type != "cpu":
        return False
    return int(group.add(torch.tensor([library() is not None], dtype=torch.int32))) < group.size


def _train(loop: _Loop) -> Manifest:
    task, state, saver, should_stop = loop.task, loop.state, loop.saver, loop.context.should_stop
    steps = loop.source.steps_per_epoch * task.recipe.epochs
    written = resume_or_init(state, loop.checkpoints, loop.context.group)
    if written is None:
        saver.save_now(to_tensors(state), _manifest(task, state), should_stop, wait=False)
        # Broadcast the initial weights of rank 0 to all processes.
        written = resume_or_init(state, loop.checkpoints, loop.context.group)
        assert written is not None
    loop.engine.write_state()
    saver.begin(written)

    def has_ended() -> bool:
        return state.step == steps or should_stop_early(state.evaluated, task.recipe)

    while not has_ended():
        # Also after a rollback to the first checkpoint, which is from before the evaluation.
        if task.is_pretrained and state.initial is None and state.step == 0:
            _evaluate_initial(loop)
        if not _train_epoch(loop):
            continue  # from the step of the checkpoint that was rolled back to
        finished = _finish_epoch(loop)
        if finished == state.best:
            _keep_best(loop)
        make = _manifest(task, state, finished=has_ended())
        if has_ended():
            written = saver.save_now(loop.tensors, make, should_stop, wait=True)
        else:
            saver.save(loop.tensors, make)
        loop.on_epoch(state.evaluated)
    return written


def _train_epoch(loop: _Loop) -> bool:
    """Take the remaining steps of an epoch; return false if a rollback cut it short."""
    task, source, context, state, saver = loop.task, loop.source, loop.context, loop.state, loop.saver
    recipe, group = task.recipe, context.group
    every = loop.engine.check_every
    epoch, first = divmod(state.step, source.steps_per_epoch)
    head_steps = recipe.head_epochs * source.steps_per_epoch
    loop.engine.begin_stage(recipe.progressive.stage(epoch, recipe.epochs))
    group.barrier(f"the start of epoch {epoch + 1}")
    loop.meter.start_epoch()
    saved_at = time.monotonic()
    loop.replay.keep()
    for batch in source.train(epoch, first):
        loop.replay.check_rest()  # before a checkpoint could be written of a state that changed meanwhile
        if state.step % every == 0 or group.size == 1:
            # All processes have to take the same decision, or some would wait for others that have stopped.
            stop, save = _synchronize_flags(context, save=time.monotonic() - saved_at > loop.save_seconds)
            if stop or state.step == context.stop_at:
                saver.save_now(loop.tensors, _manifest(task, state), context.should_stop, wait=False)
                raise Interrupted(f"stopped after step {state.step}; everything is saved")
            if save:
                saver.save(loop.tensors, _manifest(task, state))
                saved_at = time.monotonic()
        # Steps that made the losses diverge before the last rollback.
        if state.step in state.skipped:
            loop.engine.skip()
            loop.replay.keep()
            continue
        count = source.count(state.step - epoch * source.steps_per_epoch)
        rate, only_head = learning_rate(recipe, state.step, source.steps_per_epoch), state.step < head_steps
        frozen = has_frozen_norms(recipe, state.step, source.steps_per_epoch * recipe.epochs)
        take = partial(loop.engine.take, count=count, rate=rate, only_head=only_head, frozen_norms=frozen)
        loop.replay.take(batch, take)
        val_score = state.history[-1].val_score if state.history else None
        loop.meter.count(count, state.step, epoch + 1, val_score, loop.loss)
        if state.step % every == 0:
            loop.engine.read_losses()
            _check_skipped(state)
            if (since := diverging_since(state.recent_losses)) is not None:
                saver.settle()  # the newest checkpoint may still be being written
                context.progress.note(roll_back(state, since, source, loop.checkpoints, group))
                loop.engine.write_state()
                return False
        loop.replay.keep()
    return True


def seed_weights(seed: int) -> None:
    """Seed the initialization of a model, so that its initial weights depend on the seed only."""
    torch.manual_seed(seed_of(seed, 0, 0))


def _synchronize_flags(context: ExecutionContext, *, save: bool) -> tuple[bool, bool]:
    """Return whether to stop and whether to save: all processes do so as soon as one of them has to."""
    stop, group = context.should_stop(), context.group
    if group.size > 1:
        stop, save = group.add(torch.tensor([stop, save], dtype=torch.int32, device=context.device)).tolist()
    return bool(stop), bool(save)


def _finish_epoch(loop: _Loop) -> Epoch:
    """Evaluate the averaged weights on the validation images and record the epoch."""
    task, source, context, state, meter = loop.task, loop.source, loop.context, loop.state, loop.meter
    images_per_second, recipe = meter.images_per_second, task.recipe
    loop.engine.read_state()
    if recipe.norm_statistics == "reestimated":
        number = min(source.steps_per_epoch, math.ceil(REESTIMATED_IMAGES / recipe.batch))
        epoch = state.step // source.steps_per_epoch - 1
        batches = source.train(epoch, 0) if source.whole is None else source.whole(epoch)
        # There are few images, so every process computes the same statistics instead of exchanging them.
        reestimate_norms(state.average.model, islice(batches, number), task.preprocessing, context.device)
        loop.engine.write_state()
    outcome = _evaluate(loop)
    if not math.isfinite(outcome.loss):
        raise JobError(
            f"after step {state.step} the logits of the validation images are not finite; start another run with a "
            f"smaller learning rate than {recipe.peak_learning_rate:g}"
        )
    total, count, skipped_steps, _ = state.tally.tolist()
    loop.engine.reset_tally()
    finished = Epoch(
        epoch=state.step // source.steps_per_epoch,
        step=state.step,
        learning_rate=learning_rate(recipe, state.step - 1, source.steps_per_epoch),
        train_loss=total / max(1.0, count),
        **_validation(outcome, task),
        images_per_second=images_per_second,
        seconds=meter.epoch_seconds,
        skipped_steps=int(skipped_steps),
        state_sha256=digest_of(loop.tensors.values),
    )
    state.history.append(finished)
    state.best = kept_epoch(state.evaluated, len(outcome.labels), recipe.kept_epoch)
    return finished


def _evaluate_initial(loop: _Loop) -> None:
    """Evaluate pretrained weights as epoch 0, which is kept until another is."""
    state, outcome = loop.state, _evaluate(loop)
    if not math.isfinite(outcome.loss):
        return  # as with unsuitable batch-norm statistics, which training may mend
    state.initial = state.best = Epoch(
        epoch=0,
        step=0,
        learning_rate=0.0,
        train_loss=None,
        **_validation(outcome, loop.task),
        images_per_second=0.0,
        seconds=0.0,
    )
    _keep_best(loop)
    loop.on_epoch(state.evaluated)


def _keep_best(loop: _Loop) -> None:
    loop.saver.keep_best(Tensors(loop.state.step, loop.state.average.model.state_dict()))


def _evaluate(loop: _Loop) -> EvalOutput:
    """Return the logits of the averaged weights for the validation images."""
    model, context = loop.engine.averaged(), loop.context
    gather = context.group.share_objects
    return evaluate(model, loop.source.val(), loop.task.preprocessing, device=context.device, gather=gather)


def _validation(outcome: EvalOutput, task: TrainingTask) -> _Validation:
    """Return the fields of an epoch that its validation gives."""
    score, metric = outcome.score, task.objective.metric
    return {
        "val_loss": outcome.loss,
        "val_top1": score if metric == "top1" else None,
        "val_map": score if metric == "mean_average_precision" else None,
    }


def _check_skipped(state: State) -> None:
    """Raise a JobError if too many steps in a row were skipped."""
    if state.tally[3] >= MAX_SKIPPED_IN_A_ROW:
        raise JobError(
            f"the loss was not finite in {MAX_SKIPPED_IN_A_ROW} consecutive steps up to step {state.step}; the last "
            "checkpoint is from before them; start another run with a smaller learning rate"
        )


def _manifest(task: TrainingTask, state: State, *, finished: bool = False) -> MakeManifest:
    """Capture the current state; the returned function builds the manifest once the files have been written."""
    recipe, network, seed = task.recipe.digest, task.network_digest, task.seed
    step, skipped, rollbacks = state.step, tuple(sorted(state.skipped)), state.rollbacks
    initial, history, best = state.initial, tuple(state.history), state.best

    def build(state_file: Stored, best_file: Stored | None) -> Manifest:
        return Manifest(
            recipe=recipe,
            network=network,
            seed=seed,
            step=step,
            skipped=skipped,
            rollbacks=rollbacks,
            finished=finished,
            initial=initial,
            history=history,
            best=best,
            state_file=state_file,
            best_file=best_file,
        )

    return build
