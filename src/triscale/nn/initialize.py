"""Random initial weights."""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def initialize(model: nn.Module) -> None:
    """Initialize weights in place as the official EfficientNet code does.

    Convolutions: normal with variance 2 / fan-out; the fan-out of a depthwise convolution is its kernel's area.
    Classifier: uniform within 1 / sqrt(outputs), bias 0. Batch norm keeps PyTorch's scale 1 and shift 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # fan_out = area * outputs / groups, the fan_out mode of He et al. 2015 (equation 14).
            area = module.kernel_size[0] * module.kernel_size[1]
            module.weight.normal_(0.0, math.sqrt(2.0 / (area * module.out_channels // module.groups)))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.out_features)
            module.weight.uniform_(-bound, bound)
            module.bias.zero_()
