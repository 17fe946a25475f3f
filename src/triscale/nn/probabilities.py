"""From logits to probabilities."""

from __future__ import annotations

from torch import Tensor

from triscale.network.contract import Link


def probabilities(logits: Tensor, link: Link) -> Tensor:
    """Return probabilities ``[N, classes]`` in float64: of exactly one class, or of each label on its own.

    Example:
        >>> import torch
        >>> probabilities(torch.zeros(1, 4), "softmax").tolist(), probabilities(torch.zeros(1, 2), "sigmoid").tolist()
        ([[0.25, 0.25, 0.25, 0.25]], [[0.5, 0.5]])
    """
    return logits.double().sigmoid() if link == "sigmoid" else logits.double().softmax(1)
