"""Mixup and CutMix in JAX, as ``torchvision.transforms.v2`` does them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Mixing(NamedTuple):
    """The parameters of the Beta distributions of mixup and CutMix; 0 turns one off, and with both, one is drawn."""

    mixup: float = 0.0
    cutmix: float = 0.0


def mixed(key: Array, images: Array, targets: Array, count: Array, alphas: Mixing) -> tuple[Array, Array]:
    """Mix each image and its targets with those of the previous image, the first with the last.

    Args:
        key: Random key.
        images: ``[N, H, W, C]``.
        targets: ``[N, classes]``.
        count: How many of the images, from the first on, are not padding.
        alphas: What is turned on.

    Returns:
        Images and targets.

    Example:
        >>> images, targets = jnp.zeros((2, 4, 4, 1)).at[0].set(1.0), jnp.eye(2)
        >>> given, shares = mixed(jax.random.key(0), images, targets, jnp.array(2), Mixing(mixup=0.5))
        >>> bool(jnp.allclose(given[:, 0, 0, 0], shares[:, 0]))
        True
    """
    ways = [way for way, alpha in ((_mixup, alphas.mixup), (_cutmix, alphas.cutmix)) if alpha]
    if not ways:
        return images, targets
    number = jnp.arange(len(images))
    previous = jnp.where(number == 0, jnp.maximum(count - 1, 0), number - 1)
    chosen, drawn = jax.random.split(key)
    results = [
        way(drawn, alpha, images, targets, previous)
        for way, alpha in zip(ways, (alpha for alpha in alphas if alpha), strict=True)
    ]
    if len(results) == 1:
        return results[0]
    first = jax.random.bernoulli(chosen)
    return tuple(jnp.where(first, one, other) for one, other in zip(*results, strict=True))  # type: ignore[return-value]


_Way = Callable[[Array, float, Array, Array, Array], tuple[Array, Array]]


def _mixup(key: Array, alpha: float, images: Array, targets: Array, previous: Array) -> tuple[Array, Array]:
    share = jax.random.beta(key, alpha, alpha)
    return _blend(images, images[previous], share), _blend(targets, targets[previous], share)


def _cutmix(key: Array, alpha: float, images: Array, targets: Array, previous: Array) -> tuple[Array, Array]:
    of_share, of_row, of_column = jax.random.split(key, 3)
    height, width = images.shape[1:3]
    half = 0.5 * jnp.sqrt(1 - jax.random.beta(of_share, alpha, alpha))
    inside = [
        _window(jax.random.randint(place, (), 0, side), (half * side).astype(int), side)
        for place, side in ((of_row, height), (of_column, width))
    ]
    pasted = inside[0][:, None] & inside[1][None, :]
    share = 1 - pasted.sum() / (height * width)  # of the window as it was cut off at the border
    return jnp.where(pasted[None, :, :, None], images[previous], images), _blend(targets, targets[previous], share)


def _window(center: Array, half: Array, side: int) -> Array:
    """Return which of ``side`` pixels are from ``center - half`` up to but not including ``center + half``."""
    pixel = jnp.arange(side)
    return (pixel >= center - half) & (pixel < center + half)


def _blend(first: Array, second: Array, share: Array) -> Array:
    return first * share + second * (1 - share)
