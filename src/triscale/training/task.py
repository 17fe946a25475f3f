"""What a training computes, and where its batches come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from triscale.network.contract import Preprocessing
from triscale.training.evaluate import LabeledBatch
from triscale.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What a training computes: this and the feed decide about its result."""

    model: nn.Module
    recipe: Recipe
    preprocessing: Preprocessing
    classes: int
    network_digest: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSource:
    """Where batches come from.

    Attributes:
        steps_per_epoch: number of batches of an epoch.
        count: from a step of an epoch to the number of its images, over all processes.
        train: from an epoch and its first step to batches, each with the images of this process's micro-batches.
        val: the validation images in batches; with N processes, each receives every N-th batch.
        whole: from an epoch to batches with the images of all processes; None where ``train`` gives them.
        names: from an epoch and a step of it to the names of its images, for messages.
    """

    steps_per_epoch: int
    count: Callable[[int], int]
    train: Callable[[int, int], Iterator[LabeledBatch]]
    val: Callable[[], Iterable[LabeledBatch]]
    whole: Callable[[int], Iterator[LabeledBatch]] | None = None
    names: Callable[[int, int], Sequence[str]] = lambda epoch, step: ()
