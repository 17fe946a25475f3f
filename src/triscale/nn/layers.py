"""The torch layers that an operation tree is built of."""

from __future__ import annotations

from typing import assert_never

import torch.nn.functional as F
from torch import Tensor, nn

from triscale.network.spec import ActivationKind
from triscale.network.tree import Convolution, same_pads


def activation(kind: ActivationKind, *, inplace: bool = True) -> nn.Module:
    """Return a module for an elementwise activation.

    Args:
        kind: The activation.
        inplace: Whether it may overwrite its input, if autograd allows that.

    Example:
        >>> activation(ActivationKind.RELU6)
        ReLU6(inplace=True)
    """
    match kind:
        case ActivationKind.RELU:
            return nn.ReLU(inplace=inplace)
        case ActivationKind.RELU6:
            return nn.ReLU6(inplace=inplace)
        case ActivationKind.SILU:
            return nn.SiLU(inplace=inplace)
        case ActivationKind.SIGMOID:
            return nn.Sigmoid()
        case ActivationKind.HARD_SWISH:
            return nn.Hardswish(inplace=inplace)
        case ActivationKind.HARD_SIGMOID:
            return nn.Hardsigmoid()
        case _:
            assert_never(kind)


def convolution(node: Convolution) -> nn.Conv2d:
    """Return the convolution of a node: ``nn.Conv2d`` unless SAME padding differs from symmetric padding."""
    same = node.padding == "same" and node.stride > 1
    return (SameConv2d if same else nn.Conv2d)(
        node.inputs,
        node.outputs,
        node.kernel,
        stride=node.stride,
        padding=0 if same else node.kernel // 2,
        groups=node.groups,
        bias=node.bias,
    )


def pad_same(images: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad ``[N, C, H, W]`` as TensorFlow's SAME does, so that the output's side is ceil(side / stride).

    An odd amount of padding puts the extra pixel at the bottom and right.
    """
    top, bottom, left, right = same_pads(images.shape[-2:], kernel, stride)
    return F.pad(images, (left, right, top, bottom), value=value)


class SameConv2d(nn.Conv2d):
    """Strided convolution with TensorFlow's SAME padding."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, outputs, ceil(H / stride), ceil(W / stride)]``."""
        padded = pad_same(input, self.kernel_size[0], self.stride[0])
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class SameMaxPool2d(nn.Module):
    """Strided max pool with TensorFlow's SAME padding."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, ceil(H / stride), ceil(W / stride)]``."""
        padded = pad_same(images, self.kernel, self.stride, value=float("-inf"))
        return F.max_pool2d(padded, self.kernel, self.stride)


class SameAveragePool2d(nn.Module):
    """Strided average pool with TensorFlow's SAME padding, which does not count towards the mean."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, ceil(H / stride), ceil(W / stride)]``."""
        # Pooling a map of ones gives the share of each window that is not padding.
        inside = images.new_ones(1, 1, *images.shape[-2:])
        sums, counts = (
            F.avg_pool2d(pad_same(maps, self.kernel, self.stride), self.kernel, self.stride)
            for maps in (images, inside)
        )
        return sums / counts


class GlobalAvgPool2d(nn.Module):
    """Global average pool to a vector, or to a map of one pixel."""

    def __init__(self, *, flat: bool = True) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C]``, or to ``[N, C, 1, 1]``."""
        return images.mean((2, 3), keepdim=not self.flat)


class SqueezeExcitation(nn.Sequential):
    """Squeeze-and-excitation (Hu et al. 2018): scales each channel by a function of all channel means."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        scale = input.mean((2, 3), keepdim=True)
        for module in self:
            scale = module(scale)
        return input * scale
