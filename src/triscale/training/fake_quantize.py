"""Quantization-aware training: convolutions and linear layers compute with weights and inputs rounded to int8.

Weights are quantized per output channel and symmetrically, as inference engines do. Folding batch norm into a
convolution multiplies each channel by a factor, which does not change the rounding. Activations are quantized over the
range of the batch. Gradients use the straight-through estimator (Jacob et al. 2018, arXiv 1712.05877). There are no
observers, hence no state between steps.
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
def fake_quantized(model: nn.Module, *, active: bool = True) -> Iterator[None]:
    """Make the convolutions and linear layers of a model compute with fake-quantized values inside the context.

    Args:
        model: The model, changed in place and restored at the end.
        active: If false, the model is not changed.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)] if active else []
    for layer in layers:
        # An instance attribute shadows the method of its class.
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def round_weights(weights: Tensor) -> Tensor:
    """Fake-quantize weights ``[outputs, ...]`` symmetrically per output channel: 255 levels, -127 to 127.

    Example:
        >>> round_weights(torch.tensor([[1.0, 0.5]])).mul(127).round().tolist()
        [[127.0, 64.0]]
    """
    steps = weights.detach().flatten(1).abs().amax(1).clamp(min=MIN_STEP) / MAX_WEIGHT
    zeros = torch.zeros(len(steps), dtype=torch.int32, device=weights.device)
    return torch.fake_quantize_per_channel_affine(weights.float(), steps.float(), zeros, 0, -MAX_WEIGHT, MAX_WEIGHT).to(
        weights.dtype
    )


def round_activations(values: Tensor) -> Tensor:
    """Fake-quantize values to 256 levels over their range; 0 is always one of the levels."""
    low, high = values.detach().aminmax()
    # The range includes 0, so that zero padding is represented exactly.
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
    output: Tensor = layer._conv_forward(values, weights, layer.bias)
    return output
