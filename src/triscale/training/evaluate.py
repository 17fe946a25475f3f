"""What a model says of images, each counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from triscale.data.transforms import normalize
from triscale.network.contract import Preprocessing


class Batch(Protocol):
    """Images ``[N, 3, S, S]`` of uint8 and labels ``[N]`` of int64."""

    @property
    def images(self) -> Tensor: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Outcome:
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


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    on_images: Callable[[int], None] = lambda count: None,
) -> Outcome:
    """Run a model over batches in evaluation mode and float32; ``on_images`` is told the number done so far."""
    was_training = model.training
    model.eval()
    logits, labels, done = [], [], 0
    for batch in batches:
        inputs = normalize(batch.images.to(device), preprocessing).contiguous(memory_format=torch.channels_last)
        logits.append(model(inputs).float().cpu())
        labels.append(batch.labels)
        done += len(batch.labels)
        on_images(done)
    model.train(was_training)
    return Outcome(torch.cat(logits).numpy(), torch.cat(labels).numpy())
