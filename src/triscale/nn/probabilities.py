"""From logits to probabilities, and to a value that is low for images of other things."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

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


def negative_energy(logits: Tensor, link: Link) -> Tensor:
    """Return the negative energy ``[N]`` in float64, which is lower for images unlike those of the training.

    For exactly one class it is the logarithm of the sum of the exponentials of the logits (Liu et al. 2020, arXiv
    2010.03759); for labels the sum over them of ``log(1 + exp(logit))`` (Wang et al. 2021, arXiv 2109.14162).

    Args:
        logits: ``[N, classes]``, not divided by a temperature.
        link: How they become probabilities.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 4)
        >>> [round(negative_energy(logits, link).exp().item(), 6) for link in ("softmax", "sigmoid")]
        [4.0, 16.0]
    """
    values = logits.double()
    return softplus(values).sum(1) if link == "sigmoid" else values.logsumexp(1)
