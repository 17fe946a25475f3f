"""Verify a run: what it stores, what it was trained on, the training itself, its metrics and its exported files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import safetensors
import torch

from triscale.errors import RecordError, RunError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.data.moved_images import compare_images, move_images
from triscale.jobs.training.thread_choice import keep_threads
from triscale.jobs.verification.outputs import check_evaluation, check_exports
from triscale.jobs.verification.replayed import check_training
from triscale.jobs.verification.stored import (
    check_checkpoints,
    check_files,
    check_images,
    check_records,
    check_software,
    differences_of,
    judged,
    unchecked,
)
from triscale.measurement.device import machine
from triscale.results.verification import Verification, VerifiedCheck
from triscale.training.context import ExecutionContext


def verify_run(
    run: RunFolder, context: ExecutionContext, *, epochs: int = 1, steps: int = 0, images: str | None = None
) -> Verification:
    """Verify a run without changing it: everything is repeated in a copy.

    Args:
        run: The run.
        context: Device, workers, progress and stop flag.
        epochs: Number of epochs to train again: the last one, and more from the first one on.
        steps: Number of steps to train again from the checkpoint before the last one.
        images: Where the images of the run are now, if they have moved.

    Raises:
        UserError: ``epochs`` or ``steps`` is negative.
        RunError: The run is in use, or cannot be copied.
        Interrupted: ``context.should_stop`` returned true.
    """
    for name, number in (("epochs", epochs), ("steps", steps)):
        if number < 0:
            raise UserError(f"{name} {number} is negative; give 0 or more")
    threads = torch.get_num_threads()
    try:
        # A folder that cannot be written, such as an archive, has no other user.
        with run.lock() if os.access(run.folder, os.W_OK) else nullcontext():
            return _verify(run, context, epochs, steps, images)
    finally:
        torch.set_num_threads(threads)


def _verify(run: RunFolder, context: ExecutionContext, epochs: int, steps: int, images: str | None) -> Verification:
    checks = [check_files(run), check_checkpoints(run)]
    try:
        spec = run.spec
        checks.append(check_records(run))
    except RecordError as error:  # nothing can be repeated without them
        checks.append(judged("records", [str(error)], ""))
        return Verification(run=str(run.folder), differences=(), checks=tuple(checks), machine=machine())
    keep_threads(spec.machine.threads)
    now = machine()
    differences = differences_of(spec.machine, now)
    if context.device.type != "cpu":
        differences = (*differences, f"{context.device.type}, which does not repeat results bitwise")
    if spec.request.recipe.grad_reduction == "fast" and spec.request.recipe.micro_batches > 1:
        differences = (*differences, "one process, where the order of sums may have been that of several")
    exact = not differences
    checks.append(check_software(spec.machine, differences))
    with _copy_of(run) as (work, folder):
        checks.append(_check_data(run, work, context, images))
        if checks[-1].outcome == "failed":
            checks += [unchecked(name, "the images are not those of the run") for name in ("training", "evaluation")]
        else:
            # Before the training, which replaces the weights of the copy.
            outputs = _check_outputs(run, work, context, folder, exact=exact)
            checks += check_training(run, work, context, epochs=epochs, steps=steps, exact=exact)
            checks += outputs
    return Verification(run=str(run.folder), differences=differences, checks=tuple(checks), machine=now)


def _check_outputs(
    run: RunFolder, work: RunFolder, context: ExecutionContext, folder: Path, *, exact: bool
) -> list[VerifiedCheck]:
    if run.weights_file.is_file():
        try:
            finite = all(bool(value.isfinite().all()) for value in run.model().state_dict().values())
        except (safetensors.SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            return [judged("evaluation", [f"{run.weights_file.name} cannot be loaded: {reason}"], "")]
        if not finite:
            return [judged("evaluation", [f"{run.weights_file.name} has values that are not finite"], "")]
    checks = [check_evaluation(run, work, context, exact=exact)]
    return [*checks, *check_exports(run, work, context, folder)] if run.weights_file.is_file() else checks


def _check_data(run: RunFolder, work: RunFolder, context: ExecutionContext, images: str | None) -> VerifiedCheck:
    """Check the images of a run, and let its copy read them from another place if one is given."""
    if images is None:
        return check_images(run, context)
    differing, scanned = compare_images(run, images, context)
    if differing:
        return judged("images", [f"in {images}, {differing}"], "")
    move_images(work, scanned.root, images)
    return check_images(work, context)


@contextmanager
def _copy_of(run: RunFolder) -> Iterator[tuple[RunFolder, Path]]:
    """Yield a temporary copy of a run without its checkpoints, and a folder for other files."""
    with tempfile.TemporaryDirectory(prefix="triscale-verify-") as temporary:
        folder = Path(temporary)
        try:
            shutil.copytree(run.folder, folder / "run", ignore=shutil.ignore_patterns("checkpoints", ".lock", "wandb"))
        except (OSError, shutil.Error) as error:
            raise RunError(f"cannot copy {run.folder} to {temporary}: {error}; free some disk space there") from error
        (folder / "exports").mkdir()
        yield RunFolder(folder / "run"), folder / "exports"
