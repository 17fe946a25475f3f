"""Train the network of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator

import torch

from triscale.data.images.transforms import DecodeJpeg, torchcodec_decoder
from triscale.data.pipeline.loader import Batch, TrainLoader, eval_batches
from triscale.data.pipeline.split import Split
from triscale.errors import RunError
from triscale.jobs.core.hosts import check_same_images
from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.jobs.training.initial_weights import load_initial_weights
from triscale.jobs.training.staged_loader import StagedLoader
from triscale.jobs.training.teacher import load_teacher
from triscale.network.contract import Decision
from triscale.nn.build import build
from triscale.record import write_atomic
from triscale.results.history import Epoch, kept_initial_note
from triscale.training.accelerator import is_pinned_source
from triscale.training.context import ExecutionContext
from triscale.training.distributed.micro_batches import share_of
from triscale.training.evaluate import evaluate
from triscale.training.imbalance import image_weights, objective_of
from triscale.training.loop import seed_weights, train
from triscale.training.multi_label import choose_thresholds
from triscale.training.recipe import Recipe
from triscale.training.replay import replay_interval
from triscale.training.state.checkpoint import Checkpoints, Manifest
from triscale.training.task import BatchSource, TrainingTask

EVAL_BATCH = 128
MAX_CACHED_BYTES = 512 << 20
"""If all validation images together need at most this memory, they are decoded once and kept."""


def train_run(
    run: RunFolder,
    spec: RunSpec,
    split: Split,
    context: ExecutionContext,
    on_epoch: Callable[[], None] = lambda: None,
) -> tuple[Epoch, ...]:
    """Train from scratch or from the newest checkpoint to the end; write the best weights and the history.

    In a process group, only rank 0 reads and writes the run.

    Args:
        run: The run that holds checkpoints, history and weights.
        spec: Network, recipe and preprocessing.
        split: The images; must equal the split that the run started with.
        context: Device, workers, process group, progress and stop flag.
        on_epoch: Called after each epoch, once the history has been written.

    Returns:
        The finished epochs.

    Raises:
        RunError: The split is not that of the run.
        JobError: The processes have different images.
        Interrupted: ``context.should_stop`` returned true; the same call resumes the training.
        CorruptionError: A step that was taken twice gave two results.
    """
    if split.digest != spec.split:
        raise RunError(
            f"{run.split_file} was changed after the run started; restore it, or start again with another --out"
        )
    group, checkpoints = context.group, Checkpoints(run.checkpoints)
    check_same_images(split, group)
    seed_weights(spec.request.seed)
    model = build(spec.network)
    if group.is_writer and spec.request.start is not None and checkpoints.newest() is None:
        loaded = load_initial_weights(
            model, spec, spec.request.start, split, context.device, should_stop=context.should_stop
        )
        context.progress.note(loaded)
    task = TrainingTask(
        model=model,
        recipe=spec.request.recipe,
        preprocessing=spec.preprocessing,
        classes=len(split.classes),
        objective=objective_of(spec.request.recipe, split),
        network_digest=spec.network.structure,
        seed=spec.request.seed,
        # With fake quantization, weights that were not trained for it are judged by what they do without it.
        is_pretrained=spec.request.start is not None and spec.request.recipe.quantization == "none",
        teacher=load_teacher(run, spec, split, context),
    )
    manifest = train_task(run, task, split, context, on_epoch)
    if group.is_writer:
        _finish(run, checkpoints, manifest)
        if note := kept_initial_note(manifest.evaluated, task.recipe.learning_rate):
            context.progress.note(note)
        if task.objective.decision == "thresholds":
            _choose_thresholds(run, task, split, context)
    return manifest.history


def train_task(
    run: RunFolder,
    task: TrainingTask,
    split: Split,
    context: ExecutionContext,
    on_epoch: Callable[[], None] = lambda: None,
) -> Manifest:
    """Train any model on a split in the directory of a run, with checkpoints and a history.

    Args:
        run: The run that holds checkpoints and history.
        task: Model, recipe and preprocessing.
        split: The images.
        context: Device, workers, process group, progress and stop flag.
        on_epoch: Called after each epoch, once the history has been written.

    Returns:
        The last checkpoint manifest.

    Raises:
        Interrupted: ``context.should_stop`` returned true; the same call resumes the training.
    """
    recipe = task.recipe

    def write_epoch(history: tuple[Epoch, ...]) -> None:
        if context.group.is_writer:
            _write_history_or_note(run, history, context)
            on_epoch()

    split = repeat_small_dataset(split, recipe)
    weights, decode_jpeg = image_weights(split) if recipe.sampling == "balanced" else None, decoder_of(recipe)

    def loader_of(stage: int) -> TrainLoader:
        plan = recipe.progressive
        return TrainLoader(
            split,
            task.preprocessing.replace(resolution=plan.side(task.preprocessing.resolution, stage)),
            plan.augmentation(recipe.augmentation, stage),
            batch=recipe.batch,
            seed=task.seed,
            workers=context.workers,
            pin=is_pinned_source(context.device),
            on_restart=context.progress.note,
            decode_jpeg=decode_jpeg,
            weights=weights,
            replay_every=replay_interval(recipe, context),
        )

    with StagedLoader(loader_of, lambda epoch: recipe.progressive.stage(epoch, recipe.epochs)) as loader:
        context.progress.begin("train", loader.num_steps * recipe.epochs)
        source = _batch_source(split, task, loader, context)
        return train(task, source, Checkpoints(run.checkpoints), context, on_epoch=write_epoch)


def repeat_small_dataset(split: Split, recipe: Recipe) -> Split:
    """Repeat the training images of a small data set so that the training has at least ``recipe.min_steps`` steps.

    A data set with enough steps is returned unchanged. Each repetition of an image is augmented differently.
    """
    steps_of_epoch = -(-recipe.min_steps // recipe.epochs)
    fewest_images = recipe.batch * (steps_of_epoch - 1) + 1  # the last batch may have a single image
    times = max(1, -(-fewest_images // len(split.train)))
    return split if times == 1 else split.replace(train=split.train * times)


def decoder_of(recipe: Recipe) -> DecodeJpeg | None:
    """Return the JPEG decoder of the recipe; None for Pillow.

    Raises:
        DataError: The decoder is not installed.
    """
    return torchcodec_decoder() if recipe.decoder == "torchcodec" else None


def eval_batch(recipe: Recipe) -> int:
    """Return the batch size for evaluation: at most the micro-batch of training, so that evaluation fits in memory."""
    return max(1, min(EVAL_BATCH, recipe.batch // recipe.micro_batches))


def _batch_source(split: Split, task: TrainingTask, loader: StagedLoader, context: ExecutionContext) -> BatchSource:
    recipe, group = task.recipe, context.group

    def val_batches() -> Iterator[Batch]:
        return eval_batches(
            split.val,
            split.root,
            task.preprocessing,
            batch=eval_batch(recipe),
            workers=context.workers,
            rank=group.rank,
            processes=group.size,
        )

    cached: list[Batch] = []
    fits_in_memory = math.prod(task.preprocessing.input_shape) * len(split.val) <= MAX_CACHED_BYTES

    def val() -> Iterable[Batch]:
        if fits_in_memory and not cached:
            cached.extend(val_batches())
        return cached if fits_in_memory else val_batches()

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


def _finish(run: RunFolder, checkpoints: Checkpoints, manifest: Manifest) -> None:
    assert manifest.best_file is not None
    run.save_weights(checkpoints.load(manifest.best_file))
    _write_history(run, manifest.evaluated)


def _choose_thresholds(run: RunFolder, task: TrainingTask, split: Split, context: ExecutionContext) -> None:
    """Choose the probability from which an image is given a label, by the validation images."""
    model = run.model().to(context.device).to(memory_format=torch.channels_last)
    batches = eval_batches(
        split.val, split.root, task.preprocessing, batch=eval_batch(task.recipe), workers=context.workers
    )
    outcome = evaluate(model, batches, task.preprocessing, device=context.device)
    Decision(link=task.objective.link, thresholds=choose_thresholds(outcome.logits, outcome.labels)).save(
        run.decision_file
    )


def _write_history_or_note(run: RunFolder, history: tuple[Epoch, ...], context: ExecutionContext) -> None:
    """Write the history; a full disk must not stop the training, since the next epoch writes the whole file again."""
    try:
        _write_history(run, history)
    except OSError as error:
        context.progress.note(
            f"cannot write {run.history_file} ({error.strerror}); free some disk space; the training continues"
        )


def _write_history(run: RunFolder, history: tuple[Epoch, ...]) -> None:
    lines = "".join(json.dumps(epoch.model_dump(mode="json")) + "\n" for epoch in history)
    write_atomic(run.history_file, lines.encode())


def read_history(run: RunFolder) -> tuple[Epoch, ...]:
    """Return the finished epochs of a run."""
    return tuple(epoch for epoch in read_evaluated(run) if epoch.epoch > 0)


def read_evaluated(run: RunFolder) -> tuple[Epoch, ...]:
    """Return epoch 0 of a run, if its weights were pretrained, and the finished epochs."""
    lines = run.history_file.read_text().splitlines() if run.history_file.is_file() else []
    return tuple(Epoch.parse(json.loads(line), str(run.history_file)) for line in lines)
