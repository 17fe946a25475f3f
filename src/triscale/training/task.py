"""What a training is given: what to compute, from which batches, in what manner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from triscale.network.contract import Preprocessing
from triscale.results.history import Epoch
from triscale.training.distributed.group import ALONE, Group
from triscale.training.evaluate import LabeledBatch
from triscale.training.meter import Progress
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
        train: from an epoch and its first step to batches, each with the images of this process's shards.
        val: the held-out images in batches; of several processes, each has every so manieth batch.
        whole: from an epoch to batches with the images of all processes; None where ``train`` gives them.
        names: from an epoch and a step of it to the names of its images, for messages.
    """

    steps_per_epoch: int
    count: Callable[[int], int]
    train: Callable[[int, int], Iterator[LabeledBatch]]
    val: Callable[[], Iterable[LabeledBatch]]
    whole: Callable[[int], Iterator[LabeledBatch]] | None = None
    names: Callable[[int, int], Sequence[str]] = lambda epoch, step: ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a training is carried out; nothing here changes its result, apart from the device.

    Attributes:
        device: where it computes.
        group: the processes that train together.
        should_stop: polled at every step; true to save and end.
        save_seconds: a checkpoint is written after so many seconds, and after every epoch.
        compiled: whether the forward pass is compiled.
        on_progress: told a few times a second where the training stands.
        on_epoch: told the finished epochs after each.
        on_note: told in a sentence what the person should know.
    """

    device: torch.device
    group: Group = ALONE
    should_stop: Callable[[], bool] = lambda: False
    save_seconds: float = 600.0
    compiled: bool = False
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_epoch: Callable[[tuple[Epoch, ...]], None] = lambda history: None
    on_note: Callable[[str], None] = lambda text: None
