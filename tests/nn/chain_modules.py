"""Modules that fused chains support, with generic values, for tests."""

from __future__ import annotations

import torch
from torch import nn

from triscale.network.tree import Convolution
from triscale.nn.layers import SqueezeExcitation, activation, convolution


def unit(inputs: int, outputs: int, kernel: int, stride: int, groups: int, padding: str, kind: str) -> list[nn.Module]:
    modules: list[nn.Module] = [
        convolution(Convolution(inputs, outputs, kernel, stride, groups, False, padding, 1)),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.1),
    ]
    return modules if kind == "none" else [*modules, activation(kind)]


def se(channels: int) -> SqueezeExcitation:
    return SqueezeExcitation(nn.Conv2d(channels, 3, 1), nn.SiLU(inplace=True), nn.Conv2d(3, channels, 1), nn.Sigmoid())


def hard_se(channels: int) -> SqueezeExcitation:
    return SqueezeExcitation(
        nn.Conv2d(channels, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, channels, 1), nn.Hardsigmoid()
    )


def drawn(modules: list[nn.Module], seed: int, *, frozen: bool = False) -> list[nn.Module]:
    """Set all parameters and statistics to generic random values, and every other norm to evaluation mode."""
    torch.manual_seed(seed)
    for module in modules:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for norm in [module for module in modules if isinstance(module, nn.BatchNorm2d)][:: 2 if frozen else None]:
        norm.train(not frozen)
    return modules
