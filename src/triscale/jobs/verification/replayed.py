"""Verify a training: repeat epochs or steps from a checkpoint or from the beginning, and compare with what was kept."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from torch import Tensor

from triscale.errors import CorruptionError, Interrupted, RecordError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.train import train_run
from triscale.jobs.verification.stored import judged, unchecked
from triscale.results.history import Epoch
from triscale.results.verification import VerifiedCheck
from triscale.training.context import ExecutionContext
from triscale.training.divergence import WINDOW
from triscale.training.engine import start_engine
from triscale.training.replay import differing
from triscale.training.state.checkpoint import Checkpoints, Manifest

LOSS_TOLERANCE = 0.05
"""Largest difference of the mean losses of an epoch, relative to 1 + loss, between machines."""
STEP_TOLERANCE = 0.01
"""The same for the losses of the first steps after a checkpoint."""
FIRST_STEPS = 8
_TIMES = {"images_per_second": 0.0, "seconds": 0.0}


def check_training(
    run: RunFolder, work: RunFolder, context: ExecutionContext, *, epochs: int, steps: int, exact: bool
) -> list[VerifiedCheck]:
    """Repeat a part of the training of a run.

    The last epoch is repeated from the checkpoint before it, and compared with the last checkpoint. Earlier ones are
    repeated from the beginning, whose weights depend on the seed, and compared with the digests in the history.

    Args:
        run: The run.
        work: A copy of it without checkpoints, to train in.
        context: Device, workers, progress and stop flag.
        epochs: Number of epochs to repeat: the last one, and the others from the first on.
        steps: Number of steps to repeat after the checkpoint instead.
        exact: Whether results must be equal; otherwise those that are not may differ by a tolerance.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    spec, found = run.spec, Checkpoints(run.checkpoints).undamaged()
    name = "training"
    if not spec.request.trains:
        return [unchecked(name, "the weights were not trained in this run")]
    if not found:
        return [unchecked(name, "there is no undamaged checkpoint")]
    if spec.machine.kernels == "xla":
        try:
            start_engine("xla", context.device.type, context.group)
        except UserError as error:
            return [unchecked(name, str(error))]
        context = replace(context, engine="xla")
    if not epochs and not steps:
        return [unchecked(name, "no epochs and no steps were asked for")]
    if "--compile" in spec.command:
        context = replace(context, compile=True)
    last = found[0]
    base = next((one for one in found if one.step < last.step), None)
    checks = []
    if steps:
        checks.append(_from_checkpoint(run, work, context, base, last, steps, exact=exact))
    if epochs >= len(last.history) > 0:
        checks.append(_from_start(run, work, context, last, last.history, exact=exact))
    elif epochs:
        if epochs > 1:
            checks.append(_from_start(run, work, context, last, last.history[: epochs - 1], exact=exact))
        checks.append(_from_checkpoint(run, work, context, base, last, None, exact=exact))
    return checks


def _from_checkpoint(
    run: RunFolder, work: RunFolder, context: ExecutionContext, base: Manifest | None, last: Manifest,
    steps: int | None, *, exact: bool,
) -> VerifiedCheck:  # fmt: skip
    """Repeat all steps between two checkpoints, or the first ones."""
    if base is None:
        return unchecked("training", "there is no undamaged checkpoint before the last one to repeat steps from")
    end = last.step if steps is None else min(last.step, base.step + steps)
    name = f"training, steps {base.step + 1} to {end}"
    _clear(work)
    for path in run.checkpoints.glob(f"step-{base.step:09d}-*.json"):
        shutil.copy2(path, work.checkpoints / path.name)
    for file in (base.state_file, base.best_file):
        if file is not None:
            shutil.copy2(run.checkpoints / file.name, work.checkpoints / file.name)
    made = _repeat(work, context, end, name)
    if isinstance(made, VerifiedCheck):
        return made
    theirs, ours = _tensors(run, last), _tensors(work, made)
    if end < last.step:
        return _compare_losses(name, theirs, ours, base.step, end, last.step, exact=exact)
    wrong = _differing_epochs(last.history, made.history)
    if not wrong and (made.best and made.best.epoch) != (last.best and last.best.epoch):
        wrong.append("another epoch is kept")
    wrong += [f"{tensor} differs" for tensor in differing(theirs, ours)]
    if not wrong:
        return judged(name, [], f"{len(theirs)} tensors, bit by bit, and the history")
    return judged(name, wrong, "") if exact else _nearly(name, last.history, made.history, theirs, ours, base.step)


def _from_start(
    run: RunFolder, work: RunFolder, context: ExecutionContext, last: Manifest, history: Sequence[Epoch], *, exact: bool
) -> VerifiedCheck:
    """Repeat the training from its initial weights to the end of an epoch."""
    end = last.step if len(history) == len(last.history) else history[-1].step
    name = f"training, steps 1 to {end}"
    _clear(work)
    made = _repeat(work, context, end, name)
    if isinstance(made, VerifiedCheck):
        return made
    wrong = _differing_epochs(history, made.history)
    if end == last.step:
        wrong += [f"{tensor} differs" for tensor in differing(_tensors(run, last), _tensors(work, made))]
    digests = sum(bool(epoch.state_sha256) for epoch in history)
    right = f"history of {len(history)} epochs, and SHA-256 of the state after {digests} of them"
    if not wrong:
        return judged(name, [], right)
    return judged(name, wrong, "") if exact else _nearly(name, history, made.history, {}, {}, 0)


def _clear(work: RunFolder) -> None:
    for path in (work.weights_file, work.history_file, work.decision_file):
        path.unlink(missing_ok=True)
    shutil.rmtree(work.checkpoints, ignore_errors=True)
    work.checkpoints.mkdir()


def _repeat(work: RunFolder, context: ExecutionContext, end: int, name: str) -> Manifest | VerifiedCheck:
    """Train in a copy of the run up to a step, and return the checkpoint of it."""
    checkpoints = Checkpoints(work.checkpoints)
    try:
        with suppress(Interrupted):
            train_run(work, work.spec, work.split, replace(context, stop_at=end))
    except (CorruptionError, RecordError) as error:
        return judged(name, [str(error)], "")
    except UserError as error:  # such as initial weights that are no longer there
        return unchecked(name, str(error))
    if context.should_stop():
        raise Interrupted("stopped while the training was repeated; the run is unchanged")
    made = checkpoints.newest()
    if made is None or made.step != end:
        reached = "no step" if made is None else f"step {made.step}"
        return judged(name, [f"the repeated training ended at {reached} instead of step {end}"], "")
    return made


def _tensors(run: RunFolder, manifest: Manifest) -> dict[str, Tensor]:
    return Checkpoints(run.checkpoints).load(manifest.state_file)


def _differing_epochs(theirs: Sequence[Epoch], ours: Sequence[Epoch]) -> list[str]:
    """Return what differs in the first epoch that does."""
    for one, other in zip(theirs, ours, strict=False):
        # Runs of earlier versions recorded no digest.
        other = other if one.state_sha256 else other.replace(state_sha256="")  # noqa: PLW2901
        if one.replace(**_TIMES) != other.replace(**_TIMES):
            fields = [
                key for key in type(one).model_fields if key not in _TIMES and getattr(one, key) != getattr(other, key)
            ]
            return [f"epoch {one.epoch} is the first that differs ({', '.join(fields)})"]
    return [] if len(ours) >= len(theirs) else [f"only {len(ours)} of {len(theirs)} epochs were repeated"]


def _losses(tensors: dict[str, Tensor], first: int, end: int) -> np.ndarray:
    recent = tensors["loss/recent"].numpy()
    return recent[[step % WINDOW for step in range(first, end)]]


def _compare_losses(
    name: str, theirs: dict[str, Tensor], ours: dict[str, Tensor], first: int, end: int, last: int, *, exact: bool
) -> VerifiedCheck:
    """Compare the losses of single steps, of which a checkpoint has the newest."""
    first = max(first, last - WINDOW, end - WINDOW)
    if first >= end:
        return unchecked(name, f"the losses of these steps are not kept: checkpoints have those of the last {WINDOW}")
    one, other = _losses(theirs, first, end), _losses(ours, first, end)
    same = one.view(np.int32) == other.view(np.int32)
    if same.all():
        return judged(name, [], f"losses of {end - first} steps, bit by bit")
    if exact:
        return judged(name, [f"the loss of step {first + int(np.argmin(same)) + 1} is the first that differs"], "")
    return _near_losses(name, one, other)


def _near_losses(name: str, one: np.ndarray, other: np.ndarray) -> VerifiedCheck:
    one, other = one[:FIRST_STEPS], other[:FIRST_STEPS]
    largest = float(np.nanmax(np.abs(one - other) / (1 + np.abs(one)), initial=0.0))
    detail = (
        f"losses of the first {len(one)} steps differ by up to {largest:.1e} of 1 + loss, {STEP_TOLERANCE:g} allowed"
    )
    return VerifiedCheck(
        name=name, outcome="within tolerance" if largest <= STEP_TOLERANCE else "failed", detail=detail
    )


def _nearly(
    name: str,
    theirs: Sequence[Epoch],
    ours: Sequence[Epoch],
    last: dict[str, Tensor],
    made: dict[str, Tensor],
    base: int,
) -> VerifiedCheck:
    """Compare the losses of the repeated epochs, and of the first steps if they are kept."""
    pairs = [(one, other) for one, other in zip(theirs, ours, strict=False) if one.step > base]
    if not pairs and not last:
        return judged(name, ["no epoch was repeated to its end"], "")
    largest = max((_distance(one, other) for one, other in pairs), default=0.0)
    if last and (end := theirs[-1].step if theirs else 0) - base <= WINDOW and end > base:
        steps = _near_losses(name, _losses(last, base, end), _losses(made, base, end))
        if steps.outcome == "failed":
            return steps
    detail = f"losses of {len(pairs)} epochs differ by up to {largest:.1e} of 1 + loss, {LOSS_TOLERANCE:g} allowed"
    return VerifiedCheck(
        name=name, outcome="within tolerance" if largest <= LOSS_TOLERANCE else "failed", detail=detail
    )


def _distance(one: Epoch, other: Epoch) -> float:
    pairs = [(one.val_loss, other.val_loss), (one.train_loss or 0.0, other.train_loss or 0.0)]
    return max(abs(a - b) / (1 + abs(a)) if math.isfinite(a) and math.isfinite(b) else math.inf for a, b in pairs)
