"""Train the network of a Run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from triscale.data.images.transforms import DecodeJpeg, torchcodec_decoder
from triscale.data.pipeline.loader import Batch, TrainLoader, eval_batches
from triscale.data.pipeline.order import num_batches
from triscale.data.pipeline.split import Split
from triscale.errors import RecipeError, RunError
from triscale.jobs.core.progress import ProgressReporter
from triscale.jobs.core.run import Run, RunSpec
from triscale.jobs.training.initial_weights import load_initial_weights
from triscale.nn.build import build
from triscale.record import write_atomic
from triscale.results.history import Epoch
from triscale.training.distributed.group import ALONE, Group
from triscale.training.distributed.micro_batches import share_of
from triscale.training.loop import seed_weights, train
from triscale.training.meter import Progress
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints, Manifest
from triscale.training.task import BatchSource, Manner, TrainingTask

EVAL_BATCH = 128
HELD_BYTES = 512 << 20
"""Held-out images as small as this together stay decoded from the first evaluation on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrying:
    """How a Run is trained; nothing here changes its result, apart from the device.

    Attributes:
        device: where it computes.
        workers: processes that decode images, for each process that trains.
        group: the processes that train together.
        compiled: whether the forward pass is compiled.
        should_stop: polled; true to save and end.
        on_epoch: told after every epoch that the history has been written.
    """

    device: torch.device
    workers: int = 0
    group: Group = ALONE
    compiled: bool = False
    should_stop: Callable[[], bool] = lambda: False
    on_epoch: Callable[[], None] = lambda: None


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one, of several that of the process.

    Raises:
        RecipeError: a device that this machine does not have.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    if name == "cpu" or (name.startswith("cuda") and torch.cuda.is_available()):
        return torch.device(name)
    raise RecipeError(
        f'there is no device "{name}" here; use auto, cpu{" or cuda" if torch.cuda.is_available() else ""}'
    )


def limit_threads(threads: int | None) -> None:
    """Let torch compute with so many threads in this process; None leaves its own choice.

    Raises:
        RecipeError: less than one.
    """
    if threads is None:
        return
    if threads < 1:
        raise RecipeError(f"--threads {threads} computes nothing; give 1 or more")
    torch.set_num_threads(threads)


def train_run(
    run: Run, spec: RunSpec, split: Split, reporter: ProgressReporter, carrying: Carrying
) -> tuple[Epoch, ...]:
    """Train from nothing or from the newest checkpoint to the end, and write the best weights and the history.

    Only the first process of a group reads and writes the Run.

    Raises:
        RunError: the split is not that of the Run.
        Interrupted: ``should_stop`` answered true; the same job goes on from there.
    """
    if split.digest != spec.split:
        raise RunError(
            f"{run.split_file} was changed after the Run began; restore it, or start anew with another --out"
        )
    group, checkpoints = carrying.group, Checkpoints(run.checkpoints)
    seed_weights(spec.request.seed)
    model = build(spec.network)
    if group.is_writer and spec.request.start is not None and checkpoints.newest() is None:
        reporter.note(load_initial_weights(model, spec, spec.request.start, split, carrying.device))
    task = TrainingTask(
        model=model,
        recipe=spec.request.recipe,
        preprocessing=spec.preprocessing,
        classes=len(split.classes),
        network_digest=spec.network.structure,
        seed=spec.request.seed,
    )
    manifest = train_task(run, task, split, reporter, carrying)
    if group.is_writer:
        _finish(run, checkpoints, manifest)
    return manifest.history


def train_task(run: Run, task: TrainingTask, split: Split, reporter: ProgressReporter, carrying: Carrying) -> Manifest:
    """Train any model on a split in the folder of a Run, with checkpoints and a history, and return where it ended.

    Raises:
        Interrupted: ``should_stop`` answered true; the same task goes on from there.
    """
    recipe, group = task.recipe, carrying.group

    def on_epoch(history: tuple[Epoch, ...]) -> None:
        if group.is_writer:
            _write_along(run, history, reporter)
            carrying.on_epoch()

    split = repeat_small_dataset(split, recipe)
    with TrainLoader(
        split,
        task.preprocessing,
        recipe.augmentation,
        batch=recipe.batch,
        seed=task.seed,
        workers=carrying.workers,
        pin=carrying.device.type == "cuda",
        on_restart=reporter.note,
        decode_jpeg=decoder_of(recipe),
    ) as loader:
        reporter.begin("train", loader.num_steps * recipe.epochs)
        manner = Manner(
            device=carrying.device,
            group=group,
            should_stop=carrying.should_stop,
            compiled=carrying.compiled,
            on_progress=lambda progress: reporter.advance(progress.step, _describe(progress)),
            on_epoch=on_epoch,
            on_note=reporter.note,
        )
        return train(task, _feed(split, task, loader, carrying), Checkpoints(run.checkpoints), manner)


def repeat_small_dataset(split: Split, recipe: Recipe) -> Split:
    """Return a split whose training images stand in it as often as each is seen in an epoch.

    That is once, unless all epochs together would have fewer steps than the recipe wants. Each time an image is
    augmented anew.
    """
    steps = recipe.epochs * num_batches(len(split.train), recipe.batch)
    times = max(1, -(-recipe.min_steps // steps))
    return split if times == 1 else split.model_copy(update={"train": split.train * times})


def decoder_of(recipe: Recipe) -> DecodeJpeg | None:
    """Return what decodes JPEGs in place of Pillow, if the recipe wants it.

    Raises:
        DataError: it is not installed.
    """
    return torchcodec_decoder() if recipe.decoder == "torchcodec" else None


def eval_batch(recipe: Recipe) -> int:
    """Return the number of images that are evaluated at a time: never more than a training step holds in memory."""
    return max(1, min(EVAL_BATCH, recipe.batch // recipe.micro_batches))


def _feed(split: Split, task: TrainingTask, loader: TrainLoader, carrying: Carrying) -> BatchSource:
    recipe, group = task.recipe, carrying.group

    def held_out() -> Iterator[Batch]:
        return eval_batches(
            split.val,
            split.root,
            task.preprocessing,
            batch=eval_batch(recipe),
            workers=carrying.workers,
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


def _write_along(run: Run, history: tuple[Epoch, ...], reporter: ProgressReporter) -> None:
    """Write the history so far; a full disk must not end the training, and the next epoch writes it whole."""
    try:
        _write_history(run, history)
    except OSError as error:
        reporter.note(f"{run.history_file} cannot be written ({error.strerror}); make room; the training goes on")


def _write_history(run: Run, history: tuple[Epoch, ...]) -> None:
    lines = "".join(json.dumps(epoch.model_dump(mode="json")) + "\n" for epoch in history)
    write_atomic(run.history_file, lines.encode())


def read_history(run: Run) -> tuple[Epoch, ...]:
    """Return the finished epochs of a Run."""
    lines = run.history_file.read_text().splitlines() if run.history_file.is_file() else []
    return tuple(Epoch.parse(json.loads(line), str(run.history_file)) for line in lines)


def _describe(progress: Progress) -> str:
    accuracy = "" if progress.val_top1 is None else f"  val {progress.val_top1:.1%}"
    speed = f"{progress.images_per_second:.0f} img/s"
    return f"epoch {progress.epoch}/{progress.epochs}  loss {progress.loss:.3f}{accuracy}  {speed}"
