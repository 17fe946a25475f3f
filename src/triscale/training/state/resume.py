"""Where a training begins: at the newest checkpoint, or at one from before its losses rose for good."""

from __future__ import annotations

from triscale.errors import JobError
from triscale.training.distributed.group import Group
from triscale.training.state.checkpoint import Checkpoints, Manifest
from triscale.training.state.state import State, restore
from triscale.training.task import BatchSource

MAX_ROLLBACKS = 3
_SHOWN_NAMES = 5


def resume_or_init(state: State, checkpoints: Checkpoints, group: Group, at_most: int | None = None) -> Manifest | None:
    """Put the state back to the newest undamaged checkpoint, and return its manifest, or None if there is none.

    The first process reads; the others are sent what it has read.

    Args:
        state: of this process.
        checkpoints: of the run; only the first process needs them.
        group: the processes that train together.
        at_most: greatest step that the checkpoint may be from.
    """
    found = checkpoints.newest(at_most) if group.is_writer else None
    text = group.share_text(found.to_json() if found else "")
    if not text:
        return None
    manifest = Manifest.from_json(text)
    device = next(state.model.parameters()).device
    tensors = group.share_tensors(checkpoints.load(manifest.state_file) if group.is_writer else None, device)
    restore(state, manifest, tensors)
    return manifest


def roll_back(state: State, since: int, feed: BatchSource, checkpoints: Checkpoints, group: Group) -> str:
    """Go back to before the losses rose, pass over the two steps where that began, and return what to tell.

    Args:
        state: of this process.
        since: how many steps ago the losses rose.
        feed: gives the names of images.
        checkpoints: of the run.
        group: the processes that train together.

    Raises:
        JobError: it was done often enough, or there is no checkpoint from before.
    """
    first = state.step - since
    # A loss is taken before its step's update: what raised it is that batch or the update before it.
    culprits = frozenset(step for step in (first - 1, first) if step >= 0)
    names = [name for step in sorted(culprits) for name in feed.names(*divmod(step, feed.steps_per_epoch))]
    shown = ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" if names[5:] else "")
    what = f"the losses rose for good at step {first + 1}, after the batches of {shown or 'that step'}"
    skipped, rollbacks = state.skipped | culprits, state.rollbacks + 1
    if rollbacks > MAX_ROLLBACKS:
        raise JobError(
            f"{what}; this is the {rollbacks}th time, each from before the last one; look at these images, or begin "
            "another run with a smaller learning rate"
        )
    found = resume_or_init(state, checkpoints, group, at_most=min(culprits))
    if found is None:
        raise JobError(f"{what}, and no checkpoint from before is left; begin another run with a smaller learning rate")
    state.skipped, state.rollbacks = skipped, rollbacks
    return f"{what}; back to step {found.step} ({rollbacks} of at most {MAX_ROLLBACKS} times), passing over them"
