"""The learning curve of a training: one record for each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from triscale.record import SparseRecord

KeptEpoch = Literal["one_standard_error", "highest", "last"]
"""Which epoch's weights are kept, see :func:`kept_epoch`."""


def evaluated_epochs(initial: Epoch | None, history: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """Return epoch 0, if the weights were pretrained, and all finished epochs."""
    return tuple(history) if initial is None else (initial, *history)


def best_epoch(evaluated: Sequence[Epoch]) -> Epoch:
    """Return the epoch with the highest validation score, of several that with the lowest loss, of these the first."""
    return max(evaluated, key=lambda epoch: (epoch.val_score, -epoch.val_loss))


def kept_epoch(evaluated: Sequence[Epoch], images: int, rule: KeptEpoch) -> Epoch:
    """Return the epoch whose weights are kept.

    Epoch 0 is kept if no later one scores as high, unless the rule is ``last``: then it is the last in any case.

    Of the later ones, ``highest`` is the one with the highest validation score. With few images it is a random one:
    of 40, one is 2.5 points. ``one_standard_error`` is the last epoch whose accuracy is at most one standard error
    below the highest, after the rule of Breiman et al. 1984 (Classification and Regression Trees, section 3.4.3), which
    prefers the simplest of the models that are not distinguishable, and here the one that trained longest. The standard
    error of k right answers of n is that of a share ``p = (k + 1) / (n + 2)``, so that it is not zero if all are right.
    A mean average precision has none that is as simple, so that its highest is kept.

    Args:
        evaluated: Epoch 0, if the weights were pretrained, and the finished epochs; at least one.
        images: Number of validation images.
        rule: The rule.

    Returns:
        One of ``evaluated``: with one more epoch, it is either the same or the new one.

    Example:
        >>> history = [
        ...     Epoch(epoch=i, step=i, learning_rate=0.1, train_loss=1, val_loss=1, val_top1=right / 40,
        ...           images_per_second=1, seconds=1)
        ...     for i, right in enumerate((30, 37, 36, 33), start=1)
        ... ]
        >>> [kept_epoch(history, 40, rule).epoch for rule in ("one_standard_error", "highest", "last")]
        [3, 2, 4]
    """
    if rule == "last":
        return evaluated[-1]
    learned = [epoch for epoch in evaluated if epoch.epoch > 0]
    if not learned:
        return evaluated[-1]
    best = best_epoch(learned)
    # A tie replaces pretrained weights: label smoothing alone raises the loss of whatever is trained with it.
    if best.val_score < evaluated[0].val_score:
        return evaluated[0]
    if rule == "highest" or best.val_map is not None:
        return best
    share = (best.val_score * images + 1) / (images + 2)
    least = best.val_score - math.sqrt(share * (1 - share) / images)
    return next(epoch for epoch in reversed(learned) if epoch.val_score >= least)


def kept_note(evaluated: Sequence[Epoch], kept: Epoch, rule: KeptEpoch) -> str:
    """Return a sentence on whose weights are kept, and why."""
    best = best_epoch(evaluated)
    score = f"{kept.val_score:.1%} on the validation images"
    if kept.val_score >= best.val_score:
        return f"The weights are those of epoch {kept.epoch}, the best on the validation images ({kept.val_score:.1%})."
    if rule == "last":
        return f"The weights are those of the last epoch, {score}; the highest is {best.val_score:.1%}."
    return (
        f"The weights are those of epoch {kept.epoch}, {score}: the last epoch within one standard error of the "
        f"highest, {best.val_score:.1%} of epoch {best.epoch}."
    )


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
        """The validation metric by which epochs are compared: top-1 accuracy, or mean average precision."""
        score = self.val_top1 if self.val_map is None else self.val_map
        return 0.0 if score is None else score
