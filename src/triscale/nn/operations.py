"""The forward and backward functions of a fused chain, with torch operations.

Feature maps between convolutions are not stored. A :class:`Normed` holds the output of a convolution and the parameters
that turn it into the next convolution's input. :mod:`triscale.nn.native` implements the same functions for float32 on a
CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from triscale.network.spec import ActivationKind


@dataclass(frozen=True, slots=True)
class Geometry:
    """The geometry of a 2-d convolution without bias; ``pads`` are top, bottom, left and right."""

    stride: int
    pads: tuple[int, int, int, int]
    groups: int


@dataclass(frozen=True, slots=True)
class Normed:
    """``act((y - mean) * weight / sqrt(variance + eps) + bias) * se`` of a convolution's output ``y [N, C, H, W]``.

    All other tensors are ``[C]``, except ``se``, which is ``[N, C]`` or None. The statistics are those of the batch, or
    ``frozen``: constants, through which no gradient flows.
    """

    y: Tensor
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float
    activation: ActivationKind | None
    se: Tensor | None = None
    frozen: bool = False

    @property
    def inverse(self) -> Tensor:
        """One over the standard deviation."""
        return (self.variance + self.eps).rsqrt()


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of a batch norm: of its input ``[N, C, H, W]``, weight and bias."""

    y: Tensor
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class PendingGradients:
    """Gradients of a batch norm whose input gradient is still to be computed from its output gradient ``dz``."""

    source: Normed
    dz: Tensor
    weight: Tensor
    bias: Tensor


AnyGradients = Gradients | PendingGradients


class Operations(Protocol):
    """The functions of a chain; maps are ``[N, C, H, W]``."""

    def convolve(self, source: Normed | Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Return the convolution."""
        ...

    def convolve_with_moments(
        self, source: Normed | Tensor, weight: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the convolution with the mean and the biased variance ``[C]`` of each of its channels."""
        ...

    def activate(self, source: Normed) -> Tensor:
        """Return the map after norm, activation and SE."""
        ...

    def pixel_means(self, source: Normed) -> Tensor:
        """Return the means ``[N, C]`` of a map over its pixels, before the SE scales it."""
        ...

    def se_scale_gradient(self, source: Normed, gradient: Tensor) -> Tensor:
        """Return the gradient ``[N, C]`` of the SE scale, given the gradient of the map."""
        ...

    def norm_backward(self, source: Normed, gradient: Tensor, of_means: Tensor | None, owned: bool) -> AnyGradients:
        """Return the gradients of a batch norm, given those of the map and of its pixel means ``[N, C]``.

        ``gradient`` may be overwritten if it is ``owned``.
        """
        ...

    def convolve_backward(
        self, source: Normed | Tensor, weight: Tensor, geometry: Geometry, after: AnyGradients, needs_input: bool
    ) -> tuple[Tensor | AnyGradients | None, Tensor]:
        """Return the gradients of the source (or of its batch norm, if computed in the same pass) and of the weight."""
        ...


class Portable:
    """Operations for any device and dtype; normalizes in the dtype of the map, accumulates in float32 or float64."""

    def convolve(self, source: Normed | Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Return the convolution."""
        x = source if isinstance(source, Tensor) else self.activate(source)
        return convolution(x, weight, geometry)

    def convolve_with_moments(
        self, source: Normed | Tensor, weight: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the convolution with the mean and the biased variance ``[C]`` of each of its channels."""
        y = self.convolve(source, weight, geometry)
        # Statistics in half precision would be too coarse, so they are float32 at least.
        wide = y if y.dtype == torch.float64 else y.float()
        variance, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        return y, mean, variance

    def activate(self, source: Normed) -> Tensor:
        """Return the map after norm, activation and SE."""
        x = _activated(_normalized(source), source.activation)
        return x if source.se is None else x * source.se[:, :, None, None].to(x.dtype)

    def pixel_means(self, source: Normed) -> Tensor:
        """Return the means ``[N, C]`` of a map over its pixels, before the SE scales it."""
        return _activated(_normalized(source), source.activation).mean((2, 3))

    def se_scale_gradient(self, source: Normed, gradient: Tensor) -> Tensor:
        """Return the gradient ``[N, C]`` of the SE scale, given the gradient of the map."""
        return (gradient * _activated(_normalized(source), source.activation)).sum((2, 3))

    def norm_backward(self, source: Normed, gradient: Tensor, of_means: Tensor | None, owned: bool) -> AnyGradients:
        """Return the gradients of a batch norm, given those of the map and of its pixel means ``[N, C]``."""
        del owned
        if source.se is not None:
            gradient = gradient * source.se[:, :, None, None].to(gradient.dtype)
        if of_means is not None:
            # Each pixel contributes 1 / area to the mean that the SE reads.
            area = gradient.shape[2] * gradient.shape[3]
            gradient = gradient + (of_means / area)[:, :, None, None].to(gradient.dtype)
        dz = _activation_backward(gradient, _normalized(source), source.activation)
        running = (source.mean, source.variance) if source.frozen else (None, None)
        of_batch = (None, None) if source.frozen else (source.mean, source.inverse)
        dy, weight, bias = torch.ops.aten.native_batch_norm_backward(
            dz, source.y, source.weight, *running, *of_batch, not source.frozen, source.eps, [True, True, True]
        )
        return Gradients(dy, weight, bias)

    def convolve_backward(
        self, source: Normed | Tensor, weight: Tensor, geometry: Geometry, after: AnyGradients, needs_input: bool
    ) -> tuple[Tensor | AnyGradients | None, Tensor]:
        """Return the gradients of the source and of the weight."""
        assert isinstance(after, Gradients)
        x = source if isinstance(source, Tensor) else self.activate(source)
        return convolution_backward(after.y, x, weight, geometry, needs_input)


def convolution(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute a convolution with torch."""
    padded, padding = _padded(x, geometry)
    return F.conv2d(padded, weight, stride=geometry.stride, padding=padding, groups=geometry.groups)


def convolution_backward(
    dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, needs_input: bool
) -> tuple[Tensor | None, Tensor]:
    """Compute the gradients of a convolution's input and weight with torch; the latter has the weight's dtype."""
    padded, padding = _padded(x.to(dy.dtype), geometry)
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy,
        padded,
        weight.to(dy.dtype),
        None,
        [geometry.stride] * 2,
        [padding] * 2,
        [1, 1],
        False,
        [0, 0],
        geometry.groups,
        [needs_input, True, False],
    )
    if not needs_input:
        return None, dw.to(weight.dtype)
    # Crop the gradient of explicitly padded pixels; torch's own padding is already excluded.
    top, _, left, _ = geometry.pads
    top, left = top - padding, left - padding
    return dx[:, :, top : top + x.shape[2], left : left + x.shape[3]], dw.to(weight.dtype)


def _padded(x: Tensor, geometry: Geometry) -> tuple[Tensor, int]:
    """Return the map with any asymmetric padding applied, and the padding left to torch's convolution."""
    top, bottom, left, right = geometry.pads
    if top == bottom == left == right:
        return x, top
    return F.pad(x, (left, right, top, bottom)), 0


def _normalized(source: Normed) -> Tensor:
    """Return the normalized map before its activation; torch computes it in one pass as inference-mode batch norm."""
    return F.batch_norm(
        source.y, source.mean, source.variance, source.weight, source.bias, training=False, eps=source.eps
    )


def _activated(z: Tensor, kind: ActivationKind | None) -> Tensor:
    match kind:
        case None:
            return z
        case ActivationKind.RELU:
            return F.relu(z, inplace=True)
        case ActivationKind.RELU6:
            return F.relu6(z, inplace=True)
        case ActivationKind.SILU:
            return F.silu(z, inplace=True)
        case ActivationKind.SIGMOID:
            return z.sigmoid_()
        case ActivationKind.HARD_SWISH:
            return F.hardswish(z, inplace=True)
        case ActivationKind.HARD_SIGMOID:
            return F.hardsigmoid(z, inplace=True)
        case _:
            assert_never(kind)


def _activation_backward(gradient: Tensor, z: Tensor, kind: ActivationKind | None) -> Tensor:
    # gradient * act'(z), by the kernels that autograd uses itself.
    dz: Tensor
    match kind:
        case None:
            dz = gradient
        case ActivationKind.RELU:
            dz = torch.ops.aten.threshold_backward(gradient, z, 0)
        case ActivationKind.RELU6:
            dz = torch.ops.aten.hardtanh_backward(gradient, z, 0.0, 6.0)
        case ActivationKind.SILU:
            dz = torch.ops.aten.silu_backward(gradient, z)
        case ActivationKind.SIGMOID:
            dz = torch.ops.aten.sigmoid_backward(gradient, z.sigmoid())
        case ActivationKind.HARD_SWISH:
            dz = torch.ops.aten.hardswish_backward(gradient, z)
        case ActivationKind.HARD_SIGMOID:
            dz = torch.ops.aten.hardsigmoid_backward(gradient, z)
        case _:
            assert_never(kind)
    return dz
