"""Train the network of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from triscale.data.images.transforms import DecodeJpeg, torchcodec_decoder
from triscale.data.pipeline.loader import Batch, TrainLoader, eval_batches
from triscale.data.pipeline.order import num_batches
from triscale.data.pipeline.split import Split
from triscale.errors import RunError
from triscale.jobs.core.run import Run, RunSpec
from triscale.jobs.training.initial_weights import load_initial_weights
from triscale.nn.build import build
from triscale.record import write_atomic
from triscale.results.history import Epoch
from triscale.training.context import ExecutionContext
from triscale.training.distributed.micro_batches import share_of
from triscale.training.loop import seed_weights, train
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints, Manifest
from triscale.training.task import BatchSource, TrainingTask

EVAL_BATCH = 128
HELD_BYTES = 512 << 20
"""Held-out images as small as this together stay decoded from the first evaluation on."""


def train_run(
    run: Run,
    spec: RunSpec,
    split: Split,
    context: ExecutionContext,
    on_epoch: Callable[[], None] = lambda: None,
) -> tuple[Epoch, ...]:
    """Train from scratch or from the newest checkpoint to the end; write the best weights and the history.

    Only the first process of a group reads and writes the run.

    Args:
        run: Where checkpoints, history and weights are kept.
        spec: What to train.
        split: The images; it must be the one that the run began with.
        context: How to train.
        on_epoch: Called after each epoch, once the history has been written.

    Returns:
        The finished epochs.

    Raises:
        RunError: The split is not that of the run.
        Interrupted: ``context.should_stop`` returned true; the same call resumes from there.
    """
    if split.digest != spec.split:
        raise RunError(
            f"{run.split_file} was changed after the run began; restore it, or start from scratch with another --out"
        )
    group, checkpoints = context.group, Checkpoints(run.checkpoints)
    seed_weights(spec.request.seed)
    model = build(spec.network)
    if group.is_writer and spec.request.start is not None and checkpoints.newest() is None:
        context.progress.note(load_initial_weights(model, spec, spec.request.start, split, context.device))
    task = TrainingTask(
        model=model,
        recipe=spec.request.recipe,
        preprocessing=spec.preprocessing,
        classes=len(split.classes),
        network_digest=spec.network.structure,
        seed=spec.request.seed,
    )
    manifest = train_task(run, task, split, context, on_epoch)
    if group.is_writer:
        _finish(run, checkpoints, manifest)
    return manifest.history


def train_task(
    run: Run,
    task: TrainingTask,
    split: Split,
    context: ExecutionContext,
    on_epoch: Callable[[], None] = lambda: None,
) -> Manifest:
    """Train any model on a split in the directory of a run, with checkpoints and a history.

    Args:
        run: Where checkpoints and history are kept.
        task: What to compute.
        split: The images.
        context: How to train.
        on_epoch: Called after each epoch, once the history has been written.

    Returns:
        The last manifest.

    Raises:
        Interrupted: ``context.should_stop`` returned true; the same task resumes from there.
    """
    recipe = task.recipe

    def write_epoch(history: tuple[Epoch, ...]) -> None:
        if context.group.is_writer:
            _write_along(run, history, context)
            on_epoch()

    split = repeat_small_dataset(split, recipe)
    with TrainLoader(
        split,
        task.preprocessing,
        recipe.augmentation,
        batch=recipe.batch,
        seed=task.seed,
        workers=context.workers,
        pin=context.device.type == "cuda",
        on_restart=context.progress.note,
        decode_jpeg=decoder_of(recipe),
    ) as loader:
        context.progress.begin("train", loader.num_steps * recipe.epochs)
        source = _batch_source(split, task, loader, context)
        return train(task, source, Checkpoints(run.checkpoints), context, on_epoch=write_epoch)


def repeat_small_dataset(split: Split, recipe: Recipe) -> Split:
    """Return a split whose training images are listed as often as each is seen in an epoch.

    That is once, unless all epochs together would have fewer steps than the recipe's ``min_steps``. Each repetition of
    an image is augmented differently.
    """
    steps = recipe.epochs * num_batches(len(split.train), recipe.batch)
    times = max(1, -(-recipe.min_steps // steps))
    return split if times == 1 else split.replace(train=split.train * times)


def decoder_of(recipe: Recipe) -> DecodeJpeg | None:
    """Return what decodes JPEGs in place of Pillow, if the recipe wants it.

    Raises:
        DataError: it is not installed.
    """
    return torchcodec_decoder() if recipe.decoder == "torchcodec" else None


def eval_batch(recipe: Recipe) -> int:
    """Return the number of images that are evaluated at a time: never more than a training step holds in memory."""
    return max(1, min(EVAL_BATCH, recipe.batch // recipe.micro_batches))


def _batch_source(split: Split, task: TrainingTask, loader: TrainLoader, context: ExecutionContext) -> BatchSource:
    recipe, group = task.recipe, context.group

    def held_out() -> Iterator[Batch]:
        return eval_batches(
            split.val,
            split.root,
            task.preprocessing,
            batch=eval_batch(recipe),
            workers=context.workers,
            rank=group.rank,
            processes=group.size,
        )

    kept: list[Batch] = []
    few = 3 * task.preprocessing.resolution**2 * len(split.val) <= HELD_BYTES

    def val() -> Iterable[Batch]:
        if few and not kept:
            kept.extend(held_out())
        return kept if few else held_out()

    return BatchSource(
        steps_per_epoch=loader.num_steps,
        count=loader.count,
        train=lambda epoch, first: loader.epoch(
            epoch, first, lambda count: share_of(group.rank, group.size, recipe.micro_batches, count)
        ),
        val=val,
        whole=loader.epoch,
        names=lambda epoch, step: [split.train[index].path for index in loader.indices(epoch, step)],
    )


def _finish(run: Run, checkpoints: Checkpoints, manifest: Manifest) -> None:
    assert manifest.best_file is not None
    run.save_weights(checkpoints.load(manifest.best_file))
    _write_history(run, manifest.history)


def _write_along(run: Run, history: tuple[Epoch, ...], context: ExecutionContext) -> None:
    """Write the history so far; a full disk must not end the training, and the next epoch writes it whole."""
    try:
        _write_history(run, history)
    except OSError as error:
        context.progress.note(f"{run.history_file} cannot be written ({error.strerror}); make room; training continues")


def _write_history(run: Run, history: tuple[Epoch, ...]) -> None:
    lines = "".join(json.dumps(epoch.model_dump(mode="json")) + "\n" for epoch in history)
    write_atomic(run.history_file, lines.encode())


def read_history(run: Run) -> tuple[Epoch, ...]:
    """Return the finished epochs of a run."""
    lines = run.history_file.read_text().splitlines() if run.history_file.is_file() else []
    return tuple(Epoch.parse(json.loads(line), str(run.history_file)) for line in lines)
