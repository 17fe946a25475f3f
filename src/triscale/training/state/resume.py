"""Resume a training from its newest checkpoint, or roll it back to one from before its losses diverged."""

from __future__ import annotations

from triscale.errors import JobError
from triscale.training.distributed.group import Group
from triscale.training.state.checkpoint import Checkpoints, Manifest
from triscale.training.state.state import State, restore
from triscale.training.task import BatchSource

MAX_ROLLBACKS = 3
_SHOWN_NAMES = 5


def resume_or_init(state: State, checkpoints: Checkpoints, group: Group, at_most: int | None = None) -> Manifest | None:
    """Restore the state from the newest undamaged checkpoint, and return its manifest, or None if there is none.

    Rank 0 reads the checkpoint and broadcasts it to the other processes.

    Args:
        state: The state of this process, restored in place.
        checkpoints: The checkpoints of the run; only rank 0 reads them.
        group: The process group.
        at_most: The latest step that the checkpoint may be from; None for no limit.
    """
    newest = checkpoints.newest(at_most) if group.is_writer else None
    text = group.share_text(newest.to_json() if newest else "")
    if not text:
        return None
    manifest = Manifest.from_json(text)
    device = next(state.model.parameters()).device
    tensors = group.share_tensors(checkpoints.load(manifest.state_file) if group.is_writer else None, device)
    restore(state, manifest, tensors)
    return manifest


def roll_back(state: State, since: int, source: BatchSource, checkpoints: Checkpoints, group: Group) -> str:
    """Roll back to before the losses diverged, mark the two steps where that began as skipped, and return a message.

    Args:
        state: The state of this process, restored in place.
        since: How many steps ago the losses started to diverge.
        source: The batch source, which knows the names of the images.
        checkpoints: The checkpoints of the run.
        group: The process group.

    Raises:
        JobError: :data:`MAX_ROLLBACKS` is exceeded, or no earlier checkpoint is left.
    """
    first = state.step - since
    # A loss is computed before its step's update: its cause is that batch, or the update of the step before.
    culprits = frozenset(step for step in (first - 1, first) if step >= 0)
    names = [name for step in sorted(culprits) for name in source.names(*divmod(step, source.steps_per_epoch))]
    shown = ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" if names[5:] else "")
    what = f"the losses diverged at step {first + 1}, after the batches of {shown or 'that step'}"
    skipped, rollbacks = state.skipped | culprits, state.rollbacks + 1
    if rollbacks > MAX_ROLLBACKS:
        raise JobError(
            f"{what}, after {MAX_ROLLBACKS} rollbacks; check these images, or start another run with a smaller "
            "learning rate"
        )
    restored = resume_or_init(state, checkpoints, group, at_most=min(culprits))
    if restored is None:
        raise JobError(f"{what}, and no earlier checkpoint is left; start another run with a smaller learning rate")
    state.skipped, state.rollbacks = skipped, rollbacks
    times = f"{rollbacks} of at most {MAX_ROLLBACKS} times"
    return f"{what}; rolled back to step {restored.step} ({times}), and these batches are skipped"
