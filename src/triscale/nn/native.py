"""The functions of a fused chain for float32 and bfloat16 on a CPU, by native kernels; maps are channels_last."""

from __future__ import annotations

import ctypes
from typing import Final, assert_never

import torch
from torch import Tensor

from triscale.network.spec import ActivationKind
from triscale.nn.library import library
from triscale.nn.map_memory import empty_map
from triscale.nn.operations import (
    AnyGradients,
    Geometry,
    Gradients,
    Normed,
    PendingGradients,
    convolution,
    convolution_backward,
)

DEPTHWISE_KERNELS: Final = (3, 5, 7)
DEPTHWISE_STRIDES: Final = (1, 2)


class _Depthwise(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_long)
        for name in (
            *("images", "height", "width", "channels", "out_height", "out_width"),
            *("kernel", "stride", "pad_top", "pad_left"),
        )
    ]


class _Source(ctypes.Structure):
    kept: tuple[Tensor, ...]

    _fields_ = [*((name, ctypes.c_void_p) for name in ("y", "mean", "scale", "shift")), ("kind", ctypes.c_long)]


class _Gradient(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("dz", "y", "mean", "factor", "offset", "tilt")]


class Native:
    """Operations on a CPU; deterministic for any number of threads, except torch's matmul.

    Maps and the matrix products of 1x1 convolutions are in ``dtype``, float32 or bfloat16. Statistics, depthwise
    convolutions, activations and their sums are computed in float32, and so are gradients of batch norms and depthwise
    weights. Weights are given in float32.
    """

    def __init__(self, kernels: ctypes.CDLL, dtype: torch.dtype = torch.float32) -> None:
        self._kernels = kernels
        self.dtype = dtype

    def convolve(self, source: Normed | Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Return the convolution."""
        if _is_depthwise(source, weight, geometry):
            return self._depthwise(source, weight, geometry)[0]
        x = source if isinstance(source, Tensor) else self.activate(source)
        if _is_pointwise(weight, geometry):
            y = self._empty(x.shape[0], weight.shape[0], *x.shape[2:])
            # In channels_last a 1x1 convolution is one matrix product over all pixels.
            torch.mm(_rows(x), weight.to(self.dtype).flatten(1).t(), out=_rows(y))
        else:
            y = convolution(x, weight.to(self.dtype), geometry).contiguous(memory_format=torch.channels_last)
        return y

    def convolve_with_moments(
        self, source: Normed | Tensor, weight: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the convolution with the mean and the biased variance ``[C]`` of each of its channels."""
        if _is_depthwise(source, weight, geometry):  # its kernel computes them in the same pass
            return self._depthwise(source, weight, geometry)
        y = self.convolve(source, weight, geometry)
        mean, variance = _floats(2, y.shape[1])
        self._call("moments", y, _pixels(y), y.shape[1], mean, variance)
        return y, mean, variance

    def activate(self, source: Normed) -> Tensor:
        """Return the map after norm, activation and SE."""
        out = self._like(source.y)
        self._call("activate", _source(source), source.se, *_sizes(source.y), out)
        return out

    def pixel_means(self, source: Normed) -> Tensor:
        """Return the means ``[N, C]`` of a map over its pixels, before the SE scales it."""
        return self._pixel_sums(source, None) / (source.y.shape[2] * source.y.shape[3])

    def se_scale_gradient(self, source: Normed, gradient: Tensor) -> Tensor:
        """Return the gradient ``[N, C]`` of the SE scale, given the gradient of the map."""
        return self._pixel_sums(source, gradient)

    def norm_backward(self, source: Normed, gradient: Tensor, of_means: Tensor | None, owned: bool) -> AnyGradients:
        """Return the gradients of a batch norm, given those of the map and of its pixel means ``[N, C]``."""
        # The kernel computes dz = (gradient * se + of_means) * act'(z), so a missing factor is 1 and a missing term 0.
        se = source.se
        if of_means is not None:
            of_means = (of_means / (source.y.shape[2] * source.y.shape[3])).contiguous()
            se = torch.ones_like(of_means) if se is None else se
        elif se is not None:
            of_means = torch.zeros_like(se)
        gradient = gradient.to(self.dtype).contiguous(memory_format=torch.channels_last)
        dz = gradient if owned else self._like(source.y)
        sums = _floats(2, source.y.shape[1])
        self._call("activation_backward", _source(source), gradient, se, of_means, *_sizes(source.y), dz, sums)
        return _pending(source, dz, sums)

    def convolve_backward(
        self, source: Normed | Tensor, weight: Tensor, geometry: Geometry, after: AnyGradients, needs_input: bool
    ) -> tuple[Tensor | AnyGradients | None, Tensor]:
        """Return the gradients of the source (or of its batch norm, if computed in the same pass) and of the weight."""
        assert isinstance(after, PendingGradients)
        if _is_depthwise(source, weight, geometry):
            return self._depthwise_backward(source, weight, geometry, after)
        dy, x = self.finish(after).y, source if isinstance(source, Tensor) else self.activate(source)
        if not _is_pointwise(weight, geometry):
            return convolution_backward(dy, x, weight, geometry, needs_input)
        dw = self._product_over_pixels(_rows(dy), _rows(x)).reshape(weight.shape).to(weight.dtype)
        if not needs_input:
            return None, dw
        dx = x if x is not source else self._like(x)  # reuse the memory of a map that was recomputed here
        torch.mm(_rows(dy), weight.to(self.dtype).flatten(1), out=_rows(dx))
        return dx, dw

    def finish(self, pending: PendingGradients) -> Gradients:
        """Compute the gradient of ``y`` in place of the gradient ``dz``."""
        channels = pending.dz.shape[1]
        coefficients = _coefficients(pending)
        gradient = _gradient(pending, coefficients)
        self._call("norm_backward", gradient, _pixels(pending.dz), channels, pending.dz)
        return Gradients(pending.dz, pending.weight, pending.bias)

    def _pixel_sums(self, source: Normed, gradient: Tensor | None) -> Tensor:
        images, channels = source.y.shape[:2]
        sums = _floats(images, channels)
        dense = None if gradient is None else gradient.to(self.dtype).contiguous(memory_format=torch.channels_last)
        self._call("pixel_sums", _source(source), dense, *_sizes(source.y), sums)
        return sums

    def _depthwise(self, source: Normed | Tensor, weight: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
        shape = _depthwise_shape(source, weight, geometry)
        y = self._empty(shape.images, shape.channels, shape.out_height, shape.out_width)
        mean, variance = _floats(2, shape.channels)
        self._call("depthwise", shape, _source(source), _taps(weight), y, mean, variance)
        return y, mean, variance

    def _depthwise_backward(
        self, source: Normed | Tensor, weight: Tensor, geometry: Geometry, after: PendingGradients
    ) -> tuple[Tensor | AnyGradients, Tensor]:
        shape = _depthwise_shape(source, weight, geometry)
        y = source if isinstance(source, Tensor) else source.y
        dz, sums, taps = self._like(y), _floats(2, shape.channels), _taps(weight)
        by_tap = torch.empty_like(taps)  # gradient of the weight, in the layout of the taps
        coefficients = _coefficients(after)
        gradient = _gradient(after, coefficients)
        self._call("depthwise_backward", shape, _source(source), gradient, taps, dz, by_tap, sums)
        dw = by_tap.t().reshape(weight.shape)
        return dz if isinstance(source, Tensor) else _pending(source, dz, sums), dw

    def _product_over_pixels(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left.t() @ right``; in bfloat16 torch is faster with the narrower matrix first."""
        if self.dtype == torch.bfloat16 and left.shape[1] > right.shape[1]:
            return torch.mm(right.t(), left).t()
        return torch.mm(left.t(), right)

    def _call(self, name: str, *arguments: Tensor | ctypes.Structure | int | None) -> None:
        """Call a kernel; tensors are passed by address and stay alive until it returns.

        Raises:
            RuntimeError: Memory has run out; torch's own operations raise the same type.
        """
        function = getattr(self._kernels, f"triscale_{name}")
        half = int(self.dtype == torch.bfloat16)
        if function(*map(_argument, (*arguments, half, torch.get_num_threads()))):
            raise RuntimeError(f"not enough memory for triscale's {name} kernel")

    def _empty(self, images: int, channels: int, height: int, width: int) -> Tensor:
        return empty_map((images, height, width, channels), self.dtype).permute(0, 3, 1, 2)

    def _like(self, maps: Tensor) -> Tensor:
        return self._empty(*maps.shape)


def native(dtype: torch.dtype = torch.float32) -> Native | None:
    """Return the native functions for maps of a type, or None if their kernels are not available."""
    kernels = library()
    return None if kernels is None else Native(kernels, dtype)


def is_faster_in_bfloat16() -> bool:
    """Return whether training in bfloat16 is faster on this CPU: it has the instructions, and the kernels are there."""
    kernels = library()
    return kernels is not None and _has_onednn() and bool(kernels.triscale_has_bfloat16())


def _has_onednn() -> bool:
    """Return whether torch has the library that multiplies matrices in bfloat16."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _argument(value: Tensor | ctypes.Structure | int | None) -> object:
    match value:
        case Tensor():
            assert value.is_contiguous() or value.is_contiguous(memory_format=torch.channels_last)
            return ctypes.c_void_p(value.data_ptr())
        case int():
            return ctypes.c_long(value)
        case ctypes.Structure():
            return ctypes.byref(value)
        case _:
            return None


def activation_code(kind: ActivationKind | None) -> int:
    """Return the number of an activation in ``kernels.cpp`` (its ``enum Activation``)."""
    match kind:
        case None:
            return 0
        case ActivationKind.RELU:
            return 1
        case ActivationKind.RELU6:
            return 2
        case ActivationKind.SILU:
            return 3
        case ActivationKind.SIGMOID:
            return 4
        case ActivationKind.HARD_SWISH:
            return 5
        case ActivationKind.HARD_SIGMOID:
            return 6
        case _:
            assert_never(kind)


def _source(source: Normed | Tensor) -> _Source:
    """Return the C struct of a source, which keeps its tensors alive."""
    if isinstance(source, Tensor):
        return _Source(source.data_ptr(), None, None, None, activation_code(None))
    kept = source.mean.contiguous(), source.weight * source.inverse, source.bias.contiguous()
    struct = _Source(source.y.data_ptr(), *(value.data_ptr() for value in kept), activation_code(source.activation))
    struct.kept = kept  # ctypes stores bare addresses: the tensors must outlive the call
    return struct


def _pending(source: Normed, dz: Tensor, sums: Tensor) -> PendingGradients:
    """Return the gradients of a batch norm from the sums of dz and of dz * (y - mean)."""
    return PendingGradients(source, dz, weight=sums[1] * source.inverse, bias=sums[0])


def _coefficients(pending: PendingGradients) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coefficients of ``dy = factor * (dz - offset - (y - mean) * tilt)`` (Ioffe & Szegedy 2015).

    The last two terms are the gradients that flow through the mean and the variance of a batch.
    """
    source, count = pending.source, _pixels(pending.dz)
    inverse = source.inverse
    if source.frozen:
        zeros = torch.zeros_like(inverse)
        return source.weight * inverse, zeros, zeros
    return source.weight * inverse, pending.bias / count, pending.weight * inverse / count


def _gradient(pending: PendingGradients, coefficients: tuple[Tensor, Tensor, Tensor]) -> _Gradient:
    source = pending.source
    return _Gradient(
        pending.dz.data_ptr(),
        source.y.data_ptr(),
        source.mean.data_ptr(),
        *(coefficient.data_ptr() for coefficient in coefficients),
    )


def _depthwise_shape(source: Normed | Tensor, weight: Tensor, geometry: Geometry) -> _Depthwise:
    images, channels, height, width = (source if isinstance(source, Tensor) else source.y).shape
    top, bottom, left, right = geometry.pads
    kernel, stride = weight.shape[2], geometry.stride
    out_height = (height + top + bottom - kernel) // stride + 1
    out_width = (width + left + right - kernel) // stride + 1
    return _Depthwise(images, height, width, channels, out_height, out_width, kernel, stride, top, left)


def _is_depthwise(source: Normed | Tensor, weight: Tensor, geometry: Geometry) -> bool:
    return (
        geometry.groups == weight.shape[0]
        and weight.shape[1] == 1
        and weight.shape[2] in DEPTHWISE_KERNELS
        and geometry.stride in DEPTHWISE_STRIDES
        and (isinstance(source, Tensor) or source.se is None)
    )


def _is_pointwise(weight: Tensor, geometry: Geometry) -> bool:
    return weight.shape[2:] == (1, 1) and geometry.stride == geometry.groups == 1


def _taps(weight: Tensor) -> Tensor:
    """Return depthwise weights as ``[kernel * kernel, C]``."""
    return weight.flatten(1).t().contiguous()


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _rows(maps: Tensor) -> Tensor:
    """Return ``[N, C, H, W]`` in channels_last as a matrix ``[N * H * W, C]``, a view of the same memory."""
    return maps.permute(0, 2, 3, 1).view(-1, maps.shape[1])


def _pixels(maps: Tensor) -> int:
    return maps.numel() // maps.shape[1]


def _sizes(maps: Tensor) -> tuple[int, int, int]:
    """Return the number of images, of pixels per image, and of channels."""
    return maps.shape[0], maps.shape[2] * maps.shape[3], maps.shape[1]
