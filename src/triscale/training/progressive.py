"""Progressive learning (Tan & Le 2021, section 4): image size and regularization grow over the stages of a training."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from triscale.data.images.transforms import Augmentation
from triscale.record import Record

SIZE_STEP = 8
"""Image sides of all stages but the last are multiples of it."""


class Progressive(Record):
    """Stages of equal length; what they begin with, as shares of what the last stage has.

    The shares grow linearly from stage to stage. Small images take less time, and need less regularization.

    Attributes:
        stages: Number of stages; 1 trains with full images throughout.
        size: Side of the training images.
        dropout: Rates of dropout.
        magnitude: Strength of RandAugment's operations.
        mixup: Alpha of mixup and of CutMix; 0 turns them off in the first stage.

    Example:
        >>> plan = Progressive(stages=4, size=128 / 300)
        >>> [plan.side(300, plan.stage(epoch, 350)) for epoch in (0, 87, 88, 175, 349)]
        [128, 128, 184, 240, 300]
    """

    stages: PositiveInt = 1
    size: float = Field(default=0.5, gt=0, le=1)
    dropout: float = Field(default=1 / 3, ge=0, le=1)
    magnitude: float = Field(default=1 / 3, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0, le=1)

    def stage(self, epoch: int, epochs: int) -> int:
        """Return the stage of an epoch, both counted from 0."""
        return min(self.stages - 1, epoch * self.stages // epochs)

    def grown(self, first: float, stage: int) -> float:
        """Return a share in a stage, from its value in the first stage."""
        return 1.0 if stage >= self.stages - 1 else first + (1 - first) * stage / (self.stages - 1)

    def side(self, full: int, stage: int) -> int:
        """Return the side of the training images in a stage, in pixels."""
        share = self.grown(self.size, stage)
        return full if share == 1 else min(full, max(SIZE_STEP, round(full * share / SIZE_STEP) * SIZE_STEP))

    def augmentation(self, full: Augmentation, stage: int) -> Augmentation:
        """Return the augmentation of a stage."""
        return full.replace(magnitude=full.magnitude * self.grown(self.magnitude, stage))
