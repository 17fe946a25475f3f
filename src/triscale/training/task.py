"""The inputs of a training: the task and the source of its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from triscale.network.contract import Preprocessing
from triscale.training.distillation import Teacher
from triscale.training.evaluate import LabeledBatch
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What to train. The task and the batch source determine the result.

    Attributes:
        model: The model with its initial weights.
        recipe: How to train.
        preprocessing: How images become model input.
        classes: Number of classes.
        objective: Loss, link and metric.
        network_digest: Digest of the network, stored in checkpoints.
        seed: Seed of everything random.
        is_pretrained: Whether the initial weights are evaluated, and kept if no epoch scores as high.
        teacher: What the model also learns from.
    """

    model: nn.Module
    recipe: Recipe
    preprocessing: Preprocessing
    classes: int
    objective: Objective
    network_digest: str
    seed: int
    is_pretrained: bool = False
    teacher: Teacher | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSource:
    """Functions that return batches.

    Attributes:
        steps_per_epoch: Number of batches of an epoch.
        count: Returns the number of images of a step of an epoch, over all processes.
        train: Returns the batches of an epoch from a step on, each with the images of this process's micro-batches.
        val: Returns the validation images in batches; with N processes, each receives every N-th batch.
        whole: Returns the batches of an epoch with the images of all processes; None if ``train`` already does.
        names: Returns the names of the images of a step, given epoch and step, for messages.
    """

    steps_per_epoch: int
    count: Callable[[int], int]
    train: Callable[[int, int], Iterator[LabeledBatch]]
    val: Callable[[], Iterable[LabeledBatch]]
    whole: Callable[[int], Iterator[LabeledBatch]] | None = None
    names: Callable[[int, int], Sequence[str]] = lambda epoch, step: ()
