"""The torch layers that an operation tree is built of."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triscale.network.tree import Convolution

ActivationKind = Literal["relu", "relu6", "silu", "sigmoid"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


def activation(kind: ActivationKind) -> nn.Module:
    """Return a module for an elementwise activation; it writes over its input where autograd allows that."""
    cls = _ACTIVATIONS[kind]
    return cls() if kind == "sigmoid" else cls(inplace=True)


def convolution(node: Convolution) -> nn.Conv2d:
    """Return the convolution of a node; where both paddings agree it is torch's own."""
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
    """Pad ``[N, C, H, W]`` as TensorFlow's SAME does: the output's side is ceil(side / stride), surplus at the end."""
    height = max(0, (-(-images.shape[-2] // stride) - 1) * stride + kernel - images.shape[-2])
    width = max(0, (-(-images.shape[-1] // stride) - 1) * stride + kernel - images.shape[-1])
    return F.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)


class SameConv2d(nn.Conv2d):
    """Strided convolution with TensorFlow's SAME padding."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, outputs, ceil(H / stride), ceil(W / stride)]``."""
        padded = pad_same(input, self.kernel_size[0], self.stride[0])
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class SameMaxPool2d(nn.Module):
    """Strided maximum over windows with TensorFlow's SAME padding."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, ceil(H / stride), ceil(W / stride)]``."""
        padded = pad_same(images, self.kernel, self.stride, value=float("-inf"))
        return F.max_pool2d(padded, self.kernel, self.stride)


class GlobalPool(nn.Module):
    """Mean over the map."""

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C]``."""
        return images.mean((2, 3))


class Gate(nn.Sequential):
    """Squeeze-excite: scales each channel by a function of the means of all."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        scale = input.mean((2, 3), keepdim=True)
        for module in self:
            scale = module(scale)
        return input * scale


class Residual(nn.Module):
    """``activation(shortcut(x) + body(x))`` with stochastic depth on the body (Huang et al. 2016), per sample.

    The parts of the body are children of the block itself, so that their names stay short.
    """

    def __init__(
        self, body: dict[str, nn.Module], shortcut: nn.Module | None, drop_rate: float, activation: nn.Module | None
    ) -> None:
        super().__init__()
        self.body_names = tuple(body)
        for name, module in body.items():
            self.add_module(name, module)
        self.shortcut = shortcut
        self.activation = activation
        self.drop_rate = drop_rate

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C', H', W']``."""
        branch = images
        for name in self.body_names:
            branch = getattr(self, name)(branch)
        if self.training and self.drop_rate:
            branch = drop_samples(branch, self.drop_rate)
        total = branch + (images if self.shortcut is None else self.shortcut(images))
        return total if self.activation is None else self.activation(total)


def drop_samples(branch: Tensor, rate: float) -> Tensor:
    """Set whole samples of ``[N, ...]`` to zero with probability ``rate`` and scale the rest by ``1 / (1 - rate)``."""
    keep = 1.0 - rate
    mask = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) < keep
    return branch * (mask.to(branch.dtype) / keep)
