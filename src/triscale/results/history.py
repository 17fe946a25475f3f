"""The learning curve of a training: one record for each epoch."""

from __future__ import annotations

from triscale.record import Record


class Epoch(Record):
    """One finished epoch: mean training loss, figures on the held-out images, and its speed.

    ``learning_rate`` is that of its last step. ``val_top1`` is a share in 0..1. ``seconds`` is the time
    spent in the epoch since the job was last started. ``skipped_steps`` counts the steps that were undone because their
    loss or gradients were not finite.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_top1: float
    images_per_second: float
    seconds: float
    skipped_steps: int = 0
