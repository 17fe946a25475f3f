"""RMSProp in TensorFlow's form, with which EfficientNet and MnasNet were trained.

It differs from PyTorch's in three ways, which together change accuracy by several points: epsilon is inside the square
root, the mean square starts at 1, and the learning rate is inside the momentum buffer, so that a new learning rate
affects only later gradients (https://github.com/rwightman/pytorch-image-models/issues/45).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class TensorFlowRMSprop(torch.optim.Optimizer):
    """RMSProp with TensorFlow's update rule.

    ``ms = decay * ms + (1 - decay) * g^2``, ``buffer = momentum * buffer + lr * g / sqrt(ms + eps)``,
    ``weight = weight - buffer``.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate.
        decay: Decay of the mean square.
        momentum: Momentum of the update.
        eps: Added inside the square root.
        weight_decay: Coupled weight decay (L2 penalty): added to the gradient.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> weight.grad = torch.tensor([1.0])
        >>> TensorFlowRMSprop([weight], lr=0.1, eps=0.0).step()
        >>> round(weight.item(), 3)
        0.9
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    # TensorFlow starts the mean square at 1, which damps the first updates.
                    self.state[parameter]["square_avg"] = torch.ones_like(parameter)
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            gradients: list[Tensor] = [parameter.grad for parameter in parameters]
            squares = [self.state[parameter]["square_avg"] for parameter in parameters]
            buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_addcdiv_(buffers, gradients, roots, group["lr"])
            torch._foreach_sub_(parameters, buffers)
