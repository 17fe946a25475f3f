"""The losses of an objective, as sums over the images of a batch."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from triscale.training.objective import Asymmetric, CrossEntropy, Focal, Objective


def multi_hot(labels: Tensor, classes: int) -> Tensor:
    """Return targets ``[N, classes]`` of zeros and ones from the indices of the labels ``[N, K]``, padded with -1.

    Example:
        >>> multi_hot(torch.tensor([[0, 2], [1, -1]]), 3).tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    targets = torch.zeros(len(labels), classes + 1, device=labels.device)
    return targets.scatter_(1, labels.where(labels >= 0, classes), 1.0)[:, :classes]


def loss_of(objective: Objective, logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of the losses of the images.

    Args:
        objective: Gives loss, weights and label smoothing.
        logits: ``[N, classes]``; the mean over heads of ``[K, N, classes]``.
        targets: Classes ``[N]``, or probabilities ``[N, classes]``: those of mixed images, or of each label.

    Example:
        >>> float(loss_of(Objective(), torch.zeros(2, 4), torch.tensor([0, 3])) / 2) == torch.tensor(4.0).log().item()
        True
    """
    if logits.ndim > 2:
        return torch.stack([loss_of(objective, head, targets) for head in logits]).mean()
    if objective.offsets is not None:
        logits = logits + _constant(objective.offsets, logits.device)
    weights = None if objective.class_weights is None else _constant(objective.class_weights, logits.device)
    if objective.multi_label:
        return _sum_over_labels(objective, logits, targets, weights)
    if isinstance(objective.loss, CrossEntropy):
        return F.cross_entropy(
            logits, targets, weight=weights, label_smoothing=objective.label_smoothing, reduction="sum"
        )
    assert isinstance(objective.loss, Focal)
    return _focal(objective.loss.gamma, logits, _smooth(targets, logits.shape[1], objective.label_smoothing), weights)


@lru_cache(maxsize=8)
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return values as a tensor, which is copied to the device only once."""
    return torch.tensor(values, device=device)


def _smooth(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    shares = F.one_hot(targets, classes).float() if targets.ndim == 1 else targets
    return shares * (1 - smoothing) + smoothing / classes


def _focal(gamma: float, logits: Tensor, shares: Tensor, weights: Tensor | None) -> Tensor:
    log_p = F.log_softmax(logits, 1)
    terms = -shares * _power(1 - log_p.exp(), gamma) * log_p
    return (terms if weights is None else terms * weights).sum()


def _sum_over_labels(objective: Objective, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    loss = objective.loss
    if isinstance(loss, CrossEntropy):
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="sum")
    present, absent = (loss.gamma, loss.gamma) if isinstance(loss, Focal) else (loss.gamma_present, loss.gamma_absent)
    p = logits.sigmoid()
    positive = targets * _power(1 - p, present) * F.logsigmoid(logits)
    if isinstance(loss, Asymmetric) and loss.margin > 0:
        shifted = (p - loss.margin).clamp(min=0)
        negative = (1 - targets) * _power(shifted, absent) * torch.log1p(-shifted)
    else:
        negative = (1 - targets) * _power(p, absent) * F.logsigmoid(-logits)
    if weights is not None:
        positive = positive * weights
    return -(positive + negative).sum()


def _power(base: Tensor, exponent: float) -> Tensor:
    """Return ``base ** exponent`` with a finite gradient where the base is 0."""
    if exponent == 0:
        return torch.ones_like(base)
    return base.clamp(min=1e-8) ** exponent
