"""The training images of progressive learning: a loader for each stage, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from triscale.data.pipeline.loader import Batch, TrainLoader


class StagedLoader:
    """Load training images, epoch after epoch, with the loader of the epoch's stage; the others are closed.

    All loaders have the same samples, batch size and seed, and thus the same order and steps.

    Args:
        make: Returns the loader of a stage.
        stage_of: Returns the stage of an epoch, both counted from 0.
    """

    def __init__(self, make: Callable[[int], TrainLoader], stage_of: Callable[[int], int]) -> None:
        self._make, self._stage_of = make, stage_of
        self._stage = stage_of(0)
        self._loader = make(self._stage)

    @property
    def num_steps(self) -> int:
        """The number of batches in an epoch."""
        return self._loader.num_steps

    def count(self, step: int) -> int:
        """Return the number of samples in a batch, the same in every epoch."""
        return self._loader.count(step)

    def indices(self, epoch: int, step: int) -> list[int]:
        """Return the positions of a batch's samples in the split."""
        return self._loader.indices(epoch, step)

    def epoch(self, epoch: int, first_step: int = 0, share: Callable[[int], slice] = slice) -> Iterator[Batch]:
        """Yield the batches of an epoch, see :meth:`triscale.data.pipeline.loader.TrainLoader.epoch`."""
        stage = self._stage_of(epoch)
        if stage != self._stage:
            self._loader.close()
            self._stage, self._loader = stage, self._make(stage)
        return self._loader.epoch(epoch, first_step, share)

    def close(self) -> None:
        """Stop the workers; the loader cannot be used afterwards."""
        self._loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
