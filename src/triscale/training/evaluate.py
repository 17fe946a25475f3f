"""Evaluation: the logits of a model for every image, each counted once, also over several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from triscale.data.images.transforms import normalize
from triscale.network.contract import Preprocessing
from triscale.training.losses import multi_hot
from triscale.training.multi_label import marks_of, mean_average_precision


class LabeledBatch(Protocol):
    """A batch of uint8 images ``[N, 3, S, S]`` with int64 labels ``[N]``, or ``[N, K]`` padded with -1.

    ``indices`` are the positions of its images, int64 ``[N]``. ``again`` is the same batch, read and decoded a second
    time, for a step that is replayed; None for others.
    """

    @property
    def images(self) -> Tensor: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102
    @property
    def indices(self) -> Tensor: ...  # noqa: D102
    @property
    def again(self) -> LabeledBatch | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class EvalOutput:
    """Logits ``[N, classes]`` and labels of all images, in dataset order.

    Labels are ``[N]``, or ``[N, K]`` padded with -1 if images have any number of them.

    Example:
        >>> EvalOutput(np.eye(2, dtype=np.float32), np.array([0, 0])).top1
        0.5
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def top1(self) -> float:
        """Top-1 accuracy, from 0 to 1."""
        return float((self.logits.argmax(1) == self.labels).mean())

    @property
    def multi_label(self) -> bool:
        """Whether images have any number of labels."""
        return self.labels.ndim > 1

    @property
    def score(self) -> float:
        """Top-1 accuracy, or mean average precision with several labels, from 0 to 1."""
        if not self.multi_label:
            return self.top1
        marks = marks_of(self.labels, self.logits.shape[1])
        return mean_average_precision(self.logits.astype(np.float64), marks)

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats; with several labels, the mean over images of the sum over classes."""
        if self.multi_label:
            logits = torch.from_numpy(self.logits).double()
            targets = multi_hot(torch.from_numpy(self.labels), self.logits.shape[1]).double()
            return float(F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")) / len(logits)
        return float(F.cross_entropy(torch.from_numpy(self.logits).double(), torch.from_numpy(self.labels)))


Batches = list[tuple[NDArray[np.float32], NDArray[np.int64]]]
"""One pair of logits and labels per batch."""


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[LabeledBatch],
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    on_images: Callable[[int], None] = lambda count: None,
    gather: Callable[[Batches], list[Batches]] = lambda local: [local],
) -> EvalOutput:
    """Run a model over batches in evaluation mode and float32.

    Args:
        model: The classifier; it is left in the mode, training or evaluation, that it was in.
        batches: The batches of this process; with N processes, rank r has batches r, r + N, r + 2N, ...
        preprocessing: How images become model input.
        device: The model's device.
        on_images: Called with the number of images done so far.
        gather: Exchanges the results of this process for those of all processes, by rank.
    """
    was_training = model.training
    model.eval()
    local: Batches = []
    done = 0
    for batch in batches:
        inputs = normalize(batch.images.to(device), preprocessing).contiguous(memory_format=torch.channels_last)
        local.append((model(inputs).float().cpu().numpy(), batch.labels.numpy()))
        done += len(batch.labels)
        on_images(done)
    model.train(was_training)
    # Batches were distributed round-robin; interleaving them restores the order of the data set.
    in_order = [batch for batches in zip_longest(*gather(local)) for batch in batches if batch is not None]
    return EvalOutput(
        np.concatenate([batch[0] for batch in in_order]), np.concatenate([batch[1] for batch in in_order])
    )
