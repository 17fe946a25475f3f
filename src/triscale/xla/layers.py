"""The JAX functions that an operation tree is read as; feature maps are ``[N, H, W, C]``, kernels ``[O, I, H, W]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from triscale.network.spec import ActivationKind, Padding
from triscale.network.tree import AveragePool, Convolution, MaxPool, same_pads

_LAYOUT = ("NHWC", "OIHW", "NHWC")


def activate(kind: ActivationKind, maps: Array) -> Array:
    """Apply an elementwise activation.

    Example:
        >>> activate(ActivationKind.RELU6, jnp.array([-1.0, 7.0])).tolist()
        [0.0, 6.0]
    """
    match kind:
        case ActivationKind.RELU:
            return jax.nn.relu(maps)
        case ActivationKind.RELU6:
            return jax.nn.relu6(maps)
        case ActivationKind.SILU:
            return jax.nn.silu(maps)
        case ActivationKind.SIGMOID:
            return jax.nn.sigmoid(maps)
        case ActivationKind.HARD_SWISH:
            return jax.nn.hard_swish(maps)
        case ActivationKind.HARD_SIGMOID:
            return jax.nn.hard_sigmoid(maps)
        case _:
            assert_never(kind)


def convolve(node: Convolution, maps: Array, kernel: Array, bias: Array | None, dtype: jnp.dtype) -> Array:
    """Convolve ``[N, H, W, inputs]`` to ``[N, ceil(H / stride), ceil(W / stride), outputs]`` of type ``dtype``."""
    result = lax.conv_general_dilated(
        maps.astype(dtype),
        kernel.astype(dtype),
        (node.stride, node.stride),
        _pads(maps, node.kernel, node.stride, node.padding),
        dimension_numbers=_LAYOUT,
        feature_group_count=node.groups,
        precision=precision_of(dtype),
    )
    return result if bias is None else result + bias.astype(dtype)


def precision_of(dtype: jnp.dtype) -> lax.Precision:
    """Return the precision of matrix products: by default, TPUs and GPUs round the factors in float32."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


def max_pool(node: MaxPool, maps: Array) -> Array:
    """Return the maximum over windows of ``[N, H, W, C]``; padded values never win."""
    return _windows(maps, lax.max, -jnp.inf, node)


def average_pool(node: AveragePool, maps: Array) -> Array:
    """Return the mean over windows of ``[N, H, W, C]``; padded values are not counted."""
    inside = jnp.ones((1, *maps.shape[1:3], 1), maps.dtype)
    return _windows(maps, lax.add, 0.0, node) / _windows(inside, lax.add, 0.0, node)


def _windows(maps: Array, combine: Callable[..., Array], initial: float, node: MaxPool | AveragePool) -> Array:
    pads = ((0, 0), *_pads(maps, node.kernel, node.stride, node.padding), (0, 0))
    window, strides = (1, node.kernel, node.kernel, 1), (1, node.stride, node.stride, 1)
    # The constant has the type of the maps, or JAX does not know the gradient.
    reduced: Array = lax.reduce_window(maps, np.array(initial, maps.dtype), combine, window, strides, pads)
    return reduced


def _pads(maps: Array, kernel: int, stride: int, padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding at the top and bottom, and at the left and right, as :mod:`triscale.nn` pads."""
    if padding == "same" and stride > 1:
        top, bottom, left, right = same_pads(maps.shape[1:3], kernel, stride)
        return (top, bottom), (left, right)
    side = kernel // 2
    return (side, side), (side, side)
