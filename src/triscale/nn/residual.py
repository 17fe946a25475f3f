"""Residual blocks with stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triscale.nn.chain import run


class ResidualBlock(nn.Module):
    """``activation(shortcut(x) + body(x))`` with stochastic depth on the body (Huang et al. 2016), per sample.

    The modules of the body are children of the block itself, which keeps their names short.
    """

    def __init__(
        self, body: dict[str, nn.Module], shortcut: nn.Module | None, drop_rate: float, activation: nn.Module | None
    ) -> None:
        super().__init__()
        self.body_names = tuple(body)
        for name, module in body.items():
            self.add_module(name, module)
        self.shortcut = shortcut
        self.final = activation
        self.drop_rate = drop_rate

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C', H', W']``."""
        branch = run([getattr(self, name) for name in self.body_names], images)
        if self.training and self.drop_rate:
            branch = drop_samples(branch, self.drop_rate)
        total = branch + (images if self.shortcut is None else self.shortcut(images))
        return total if self.final is None else self.final(total)


def drop_samples(branch: Tensor, rate: float) -> Tensor:
    """Set whole samples of ``[N, C, H, W]`` to zero with probability ``rate``; scale the rest by ``1 / (1 - rate)``.

    Example:
        >>> drop_samples(torch.ones(2, 1, 1, 1), rate=0.0).flatten().tolist()
        [1.0, 1.0]
    """
    keep = 1.0 - rate
    mask = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) < keep
    return branch * (mask.to(branch.dtype) / keep)
