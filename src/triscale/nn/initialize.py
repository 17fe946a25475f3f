"""Random initial weights."""

from __future__ import annotations

import math

import torch
from torch import nn

IMAGENET_CLASSES = 1000
"""Classes that the official initialization of the classifier was made for."""


@torch.no_grad()
def initialize(model: nn.Module) -> None:
    """Initialize weights in place as the official EfficientNet code does.

    Convolutions: normal with variance 2 / fan-out; the fan-out of a depthwise convolution is its kernel's area.
    Classifier: uniform within 1 / sqrt(outputs), bias 0. Batch norm keeps PyTorch's scale 1 and shift 0.

    With fewer outputs than inputs and than the 1000 of ImageNet, the smaller of these two takes the place of the
    outputs. The loss of 12 classes otherwise begins at about 3.7 instead of ln 12 = 2.5, and the first epochs only undo
    that (docs/explanation/training.md has the measurements).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # fan_out = area * outputs / groups, the fan_out mode of He et al. 2015 (equation 14).
            area = module.kernel_size[0] * module.kernel_size[1]
            module.weight.normal_(0.0, math.sqrt(2.0 / (area * module.out_channels // module.groups)))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(max(module.out_features, min(module.in_features, IMAGENET_CLASSES)))
            module.weight.uniform_(-bound, bound)
            module.bias.zero_()
