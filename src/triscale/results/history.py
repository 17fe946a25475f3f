"""The learning curve of a training: one record for each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from triscale.record import SparseRecord


def evaluated_epochs(initial: Epoch | None, history: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """Return epoch 0, if the weights were pretrained, and all finished epochs."""
    return tuple(history) if initial is None else (initial, *history)


def kept_initial_note(evaluated: Sequence[Epoch], learning_rate: float) -> str:
    """Return a sentence if no epoch validates as well as epoch 0, so that the pretrained weights are kept; else "".

    Args:
        evaluated: Epoch 0, if the weights were pretrained, and the finished epochs.
        learning_rate: The learning rate of the recipe.
    """
    if len(evaluated) < 2 or evaluated[0].epoch != 0:
        return ""
    initial, best = evaluated[0].val_score, max(epoch.val_score for epoch in evaluated[1:])
    if best >= initial:
        return ""
    return (
        f"training did not help: on the validation images the best epoch scored {best:.1%}, the pretrained weights "
        f"before the first step {initial:.1%}, so those are kept; train again with another --out and a lower learning "
        f"rate, such as --lr {learning_rate / 4:.3g}"
    )


class Epoch(SparseRecord):
    """One finished epoch: mean training loss, validation loss and accuracy, and speed.

    Epoch 0 is the pretrained weights before the first step; its ``train_loss`` is None.

    ``learning_rate`` is that of the last step. ``val_top1`` is a share from 0 to 1; None for images with any number of
    labels, whose mean average precision is ``val_map``, left out of JSON otherwise. ``seconds`` is the time spent in
    the epoch since the job was last started. ``skipped_steps`` is the number of steps that were skipped because their
    loss or gradients were not finite. ``state_sha256`` is the digest of the state of the training after the epoch
    (weights, average, optimizer), by which ``triscale verify`` compares a replay; empty for epoch 0.
    """

    sparse: ClassVar[tuple[str, ...]] = ("val_map", "state_sha256")

    epoch: int
    step: int
    learning_rate: float
    train_loss: float | None
    val_loss: float
    val_top1: float | None
    images_per_second: float
    seconds: float
    skipped_steps: int = 0
    val_map: float | None = None
    state_sha256: str = ""

    @property
    def val_score(self) -> float:
        """The validation metric that chooses among epochs: top-1 accuracy, or mean average precision."""
        score = self.val_top1 if self.val_map is None else self.val_map
        return 0.0 if score is None else score

    def is_better_than(self, other: Epoch | None) -> bool:
        """Return whether the validation metric is higher, or equal with a lower loss."""
        return other is None or (self.val_score, -self.val_loss) > (other.val_score, -other.val_loss)
