"""Train the network of a Run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from triscale.data.loader import TrainLoader, eval_batches
from triscale.errors import RecipeError, RunError
from triscale.jobs.run import Run
from triscale.jobs.watch import Watcher
from triscale.nn.build import build
from triscale.record import write_atomic
from triscale.training.checkpoint import Checkpoints, Epoch
from triscale.training.loop import Feed, Progress, seed_weights, train

EVAL_BATCH = 128


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one.

    Raises:
        RecipeError: a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    run: Run, watcher: Watcher, *, device: torch.device, workers: int, should_stop: Callable[[], bool]
) -> tuple[Epoch, ...]:
    """Train from nothing or from the newest checkpoint to the end, and write the best weights and the history.

    Raises:
        Interrupted: ``should_stop`` answered true; the same job goes on from there.
    """
    spec, split = run.spec, run.split
    if split.digest != spec.split:
        raise RunError(
            f"{run.split_file} was changed after the Run began; restore it, or start anew with another --out"
        )
    recipe, seed, preprocessing = spec.request.recipe, spec.request.seed, spec.preprocessing
    seed_weights(seed)
    model = build(spec.network)
    root = Path(split.root)
    with TrainLoader(
        split,
        preprocessing,
        recipe.augmentation,
        batch=recipe.batch,
        seed=seed,
        workers=workers,
        pin=device.type == "cuda",
    ) as loader:
        feed = Feed(
            steps_per_epoch=loader.num_steps,
            train=loader.epoch,
            val=lambda: eval_batches(split.val, root, preprocessing, batch=EVAL_BATCH, workers=0),
        )
        watcher.begin("train", loader.num_steps * recipe.epochs)
        checkpoints = Checkpoints(run.checkpoints)
        manifest = train(
            model,
            recipe,
            feed,
            preprocessing,
            checkpoints,
            network_digest=spec.network.structure,
            seed=seed,
            device=device,
            should_stop=should_stop,
            on_progress=lambda progress: watcher.advance(progress.step, _in_words(progress)),
            on_epoch=lambda history: _write_history(run, history),
        )
    assert manifest.best_file is not None
    run.save_weights(checkpoints.load(manifest.best_file))
    _write_history(run, manifest.history)
    return manifest.history


def _in_words(progress: Progress) -> str:
    accuracy = "" if progress.val_top1 is None else f"  val {progress.val_top1:.1%}"
    speed = f"{progress.images_per_second:.0f} img/s"
    return f"epoch {progress.epoch}/{progress.epochs}  loss {progress.loss:.3f}{accuracy}  {speed}"


def _write_history(run: Run, history: tuple[Epoch, ...]) -> None:
    lines = "".join(json.dumps(epoch.model_dump(mode="json")) + "\n" for epoch in history)
    write_atomic(run.history_file, lines.encode())
