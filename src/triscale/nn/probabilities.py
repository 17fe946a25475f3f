"""From logits to probabilities."""

from __future__ import annotations

from torch import Tensor

from triscale.network.contract import Link


def probabilities(logits: Tensor, link: Link, temperature: float = 1.0) -> Tensor:
    """Return probabilities ``[N, classes]`` in float64: of exactly one class, or of each label on its own.

    Args:
        logits: ``[N, classes]``.
        link: How they become probabilities.
        temperature: What they are divided by before.

    Example:
        >>> import torch
        >>> probabilities(torch.zeros(1, 4), "softmax").tolist(), probabilities(torch.zeros(1, 2), "sigmoid").tolist()
        ([[0.25, 0.25, 0.25, 0.25]], [[0.5, 0.5]])
    """
    scaled = logits.double() / temperature
    return scaled.sigmoid() if link == "sigmoid" else scaled.softmax(1)
