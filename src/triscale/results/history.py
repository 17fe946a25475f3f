"""The learning curve of a training: one record for each epoch."""

from __future__ import annotations

from triscale.record import Record


class Epoch(Record):
    """One finished epoch: mean training loss, validation loss and accuracy, and speed.

    ``learning_rate`` is that of the last step. ``val_top1`` is a share from 0 to 1. ``seconds`` is the time spent in
    the epoch since the job was last started. ``skipped_steps`` is the number of steps that were skipped because their
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
