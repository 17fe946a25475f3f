"""Training that knows of int8: what convolutions and classifier read is rounded to eight bits on the way forward.

Weights are rounded by channel, symmetric, as engines round them: a factor for each channel, such as that of batch norm,
changes nothing about it. Activations are rounded over the range of the batch. Gradients pass as if nothing had been
rounded (Jacob et al. 2018, arXiv 1712.05877). Nothing is remembered from step to step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triscale.nn.layers import SameConv2d, pad_same

LEVELS = 255
MAX_WEIGHT = 127
MIN_STEP = 1e-12


@contextmanager
def rounded(model: nn.Module, *, active: bool = True) -> Iterator[None]:
    """Let the convolutions and linear layers of a model compute with rounded values while the context lasts."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)] if active else []
    for layer in layers:
        # An attribute of the instance hides the method of its class.
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def round_weights(weights: Tensor) -> Tensor:
    """Return weights ``[outputs, ...]`` rounded to 255 levels around 0 for each output."""
    steps = weights.detach().flatten(1).abs().amax(1).clamp(min=MIN_STEP) / MAX_WEIGHT
    zeros = torch.zeros(len(steps), dtype=torch.int32, device=weights.device)
    return torch.fake_quantize_per_channel_affine(weights.float(), steps.float(), zeros, 0, -MAX_WEIGHT, MAX_WEIGHT).to(
        weights.dtype
    )


def round_activations(values: Tensor) -> Tensor:
    """Return values rounded to 256 levels over their range, of which 0 is one."""
    low, high = values.detach().aminmax()
    low, high = low.clamp(max=0).float(), high.clamp(min=0).float()
    step = ((high - low) / LEVELS).clamp(min=MIN_STEP)
    zero = (-low / step).round().clamp(0, LEVELS).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values.float(), step, zero, 0, LEVELS).to(values.dtype)


def _forward(layer: nn.Conv2d | nn.Linear, values: Tensor) -> Tensor:
    values, weights = round_activations(values), round_weights(layer.weight)
    if isinstance(layer, nn.Linear):
        return F.linear(values, weights, layer.bias)
    if isinstance(layer, SameConv2d):
        padded = pad_same(values, layer.kernel_size[0], layer.stride[0])
        return F.conv2d(padded, weights, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    found: Tensor = layer._conv_forward(values, weights, layer.bias)
    return found
