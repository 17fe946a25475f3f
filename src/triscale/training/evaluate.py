"""What a model says of images, each counted once."""

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


class LabeledBatch(Protocol):
    """Images ``[N, 3, S, S]`` of uint8 and labels ``[N]`` of int64."""

    @property
    def images(self) -> Tensor: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class EvalOutput:
    """Logits ``[N, classes]`` and labels ``[N]`` of all images in their order."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def top1(self) -> float:
        """Share of images whose largest logit is that of their label."""
        return float((self.logits.argmax(1) == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(F.cross_entropy(torch.from_numpy(self.logits).double(), torch.from_numpy(self.labels)))


Batches = list[tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Logits and labels of some batches."""


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[LabeledBatch],
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    on_images: Callable[[int], None] = lambda count: None,
    gather: Callable[[Batches], list[Batches]] = lambda own: [own],
) -> EvalOutput:
    """Run a model over batches in evaluation mode and float32.

    Args:
        model: returns logits.
        batches: of this process; of several processes, process r has batches r, r + n, r + 2 n, ...
        preprocessing: how images become input.
        device: where the model is.
        on_images: told the number of images done so far.
        gather: from the results of this process to those of all, by rank; each image counts once.
    """
    was_training = model.training
    model.eval()
    own: Batches = []
    done = 0
    for batch in batches:
        inputs = normalize(batch.images.to(device), preprocessing).contiguous(memory_format=torch.channels_last)
        own.append((model(inputs).float().cpu().numpy(), batch.labels.numpy()))
        done += len(batch.labels)
        on_images(done)
    model.train(was_training)
    in_order = [part for parts in zip_longest(*gather(own)) for part in parts if part is not None]
    return EvalOutput(np.concatenate([part[0] for part in in_order]), np.concatenate([part[1] for part in in_order]))
