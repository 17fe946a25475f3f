"""Exponential moving average of a model's weights and batch-norm statistics."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a model's state dict, kept as a second model.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> average = Average(model)
        >>> _ = model.weight.data.add_(1.0)
        >>> average.update(decay=0.75)
        >>> round((model.weight - average.model.weight).item(), 3)
        0.75
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        live, average = model.state_dict(), self.model.state_dict()
        smooth = [name for name, value in live.items() if value.is_floating_point()]
        self._live: list[Tensor] = [live[name] for name in smooth]
        self._average: list[Tensor] = [average[name] for name in smooth]
        counters = [name for name in live if name not in set(smooth)]
        self._counters = [(live[name], average[name]) for name in counters]

    @property
    def tensors(self) -> list[Tensor]:
        """The averaged tensors."""
        return list(self._average)

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Update the average: ``average = decay * average + (1 - decay) * value``; integer counters are copied."""
        torch._foreach_lerp_(self._average, self._live, 1.0 - decay)
        for live, average in self._counters:
            average.copy_(live)
