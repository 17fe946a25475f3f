"""Compute a network as a pure JAX function by interpreting its operation tree.

Parameters and statistics are dictionaries from the names of the torch module's state dict to arrays of the same shapes,
so that weights and checkpoints pass between both engines unchanged. Departures from the torch module:

- feature maps are ``[N, H, W, C]``, the layout of TPUs; kernels stay ``[O, I, H, W]``;
- batch norm can leave out padded images, since XLA compiles for fixed shapes and the last batch may be smaller;
- dropout and stochastic depth draw from a key instead of a global generator, hence other numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, assert_never
from zlib import crc32

import jax
import jax.numpy as jnp
from jax import Array, lax

from triscale.network import tree
from triscale.network.tree import join
from triscale.xla.layers import activate, average_pool, convolve, max_pool, precision_of

Arrays = Mapping[str, Array]
"""Arrays by the names of the torch module's state dict."""


class Pass(NamedTuple):
    """How a network is computed.

    Attributes:
        training: Whether dropout and stochastic depth are active.
        batch_norms: Whether batch norm takes the statistics of the batch, and updates its running ones.
        dropout: Factor on the rates of dropout, for progressive learning.
        dtype: Type of the operands of convolutions and matrix products; statistics are float32.
        axis: Mesh axis over which batch norm takes its statistics; None for the images at hand.
    """

    training: bool = False
    batch_norms: bool = False
    dropout: float = 1.0
    dtype: jnp.dtype = jnp.dtype("float32")
    axis: str | None = None


EVALUATION = Pass()


class Outcome(NamedTuple):
    """Logits ``[N, classes]``, float32, and the running statistics of batch norm after a pass."""

    logits: Array
    statistics: dict[str, Array]


def classify(
    root: tree.Root,
    params: Arrays,
    statistics: Arrays,
    images: Array,
    *,
    key: Array | None = None,
    present: Array | None = None,
    how: Pass = EVALUATION,
) -> Outcome:
    """Compute the logits of normalized images.

    Args:
        root: The operation tree of the network.
        params: Its parameters.
        statistics: Running means and variances of batch norm.
        images: ``[N, H, W, in_channels]``, normalized, float32.
        key: Random key of dropout and stochastic depth; needed in training.
        present: Booleans ``[N]``: which images are not padding; None for all.
        how: Evaluation (the default) or training.

    Returns:
        The logits and the running statistics, which evaluation returns unchanged.

    Example:
        >>> from triscale.families import get
        >>> from triscale.network.lower import lower
        >>> root = lower(get("mobilenet_v1@32"))
        >>> outcome = classify(root, *random_arrays(root), jnp.zeros((2, 32, 32, 3)))
        >>> outcome.logits.shape
        (2, 1000)
    """
    logits, new = compute_part(root, "", params, statistics, images, key=key, present=present, how=how)
    return Outcome(logits.astype(jnp.float32), new)


def compute_part(
    node: tree.Node,
    path: str,
    params: Arrays,
    statistics: Arrays,
    maps: Array,
    *,
    key: Array | None = None,
    present: Array | None = None,
    how: Pass = EVALUATION,
) -> tuple[Array, dict[str, Array]]:
    """Compute a part of a network, such as a stage.

    Args:
        node: The node of the operation tree.
        path: Where it is in the tree, such as ``stages.0``; empty for the root.
        params: Its parameters, by their names in the network.
        statistics: Likewise.
        maps: ``[N, H, W, C]``, its input.
        key: As for :func:`classify`; parts of a network are given the same.
        present: Likewise.
        how: Likewise.

    Returns:
        Its output and the running statistics.
    """
    reader = _Reader(params, dict(statistics), how, key, present)
    return reader.compute(node, path, maps), reader.statistics


def features(root: tree.Root, params: Arrays, statistics: Arrays, images: Array) -> list[Array]:
    """Compute the feature maps of the stem and of each stage, and last the map that the head pools.

    Args:
        root: The operation tree of the network.
        params: Its parameters.
        statistics: Running means and variances of batch norm.
        images: ``[N, H, W, in_channels]``, normalized.

    Returns:
        Maps ``[N, h, w, channels]``.
    """
    reader, maps = _Reader(params, dict(statistics), EVALUATION, None, None), [images]
    for name, part in tree.children(root):
        if part is not root.head:
            maps.append(reader.compute(part, name, maps[-1]))
    pooled = [isinstance(node, tree.GlobalPool) for _, node in root.head.nodes].index(True)
    last = maps[-1]
    for name, node in root.head.nodes[:pooled]:
        last = reader.compute(node, join("head", name), last)
    return [*maps[1:], last]


def random_arrays(root: tree.Root) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return random parameters and fresh statistics, for shapes and timings; trainings take those of torch."""
    params: dict[str, Array] = {}
    statistics: dict[str, Array] = {}
    keys = (jax.random.key(number) for number in count())
    for path, node, _ in tree.walk(root):
        match node:
            case tree.Convolution():
                shape = (node.outputs, node.inputs // node.groups, node.kernel, node.kernel)
                params[f"{path}.weight"] = jax.random.normal(next(keys), shape) * 0.1
                if node.bias:
                    params[f"{path}.bias"] = jnp.zeros(node.outputs)
            case tree.Linear():
                params[f"{path}.weight"] = jax.random.normal(next(keys), (node.outputs, node.inputs)) * 0.1
                params[f"{path}.bias"] = jnp.zeros(node.outputs)
            case tree.Normalization():
                params |= {f"{path}.weight": jnp.ones(node.channels), f"{path}.bias": jnp.zeros(node.channels)}
                statistics[f"{path}.running_mean"] = jnp.zeros(node.channels)
                statistics[f"{path}.running_var"] = jnp.ones(node.channels)
    return params, statistics


@dataclass(slots=True)
class _Reader:
    """One pass over a tree; ``statistics`` are replaced as batch norm updates them."""

    params: Arrays
    statistics: dict[str, Array]
    how: Pass
    key: Array | None
    present: Array | None

    def compute(self, node: tree.Node, path: str, maps: Array) -> Array:  # noqa: PLR0912 - one case for each node
        """Apply a node to ``[N, H, W, C]``, or ``[N, C]`` after the pool."""
        match node:
            case tree.Convolution():
                bias = self.params[f"{path}.bias"] if node.bias else None
                return convolve(node, maps, self.params[f"{path}.weight"], bias, self.how.dtype)
            case tree.Normalization():
                return self._normalize(node, path, maps)
            case tree.Activation():
                return activate(node.kind, maps)
            case tree.MaxPool():
                return max_pool(node, maps)
            case tree.AveragePool():
                return average_pool(node, maps)
            case tree.GlobalPool():
                return maps.mean((1, 2), keepdims=not node.flat)
            case tree.Flatten():
                return maps.reshape(len(maps), -1)
            case tree.Linear():
                weight, dtype = self.params[f"{path}.weight"], self.how.dtype
                product = jnp.matmul(maps.astype(dtype), weight.T.astype(dtype), precision=precision_of(dtype))
                return product + self.params[f"{path}.bias"].astype(dtype)
            case tree.Dropout():
                return self._drop(path, maps, node.rate * self.how.dropout, maps.shape)
            case tree.SqueezeExcite():
                return maps * self._all(node, path, maps.mean((1, 2), keepdims=True))
            case tree.Residual():
                branch = self._drop(path, self._all(node.body, path, maps), node.drop_rate, (len(maps), 1, 1, 1))
                direct = maps if node.shortcut is None else self.compute(
                    node.shortcut, join(path, tree.SHORTCUT), maps
                )  # fmt: skip
                total = branch + direct
                return total if node.activation is None else activate(node.activation, total)
            case tree.Root() | tree.StageNode() | tree.Sequence():
                return self._all(node, path, maps)
            case _:
                assert_never(node)

    def _all(self, node: tree.Container, path: str, maps: Array) -> Array:
        for name, child in tree.children(node):
            maps = self.compute(child, join(path, name), maps)
        return maps

    def _drop(self, path: str, values: Array, rate: float, shape: tuple[int, ...]) -> Array:
        """Set elements, or whole samples, to zero with probability ``rate``, and scale the rest.

        The key of a layer depends on its path alone, so that parts of a network can be computed separately.
        """
        if not self.how.training or not rate:
            return values
        assert self.key is not None, "training draws random numbers"
        keep = jax.random.bernoulli(jax.random.fold_in(self.key, crc32(path.encode())), 1 - rate, shape)
        return values * (keep.astype(values.dtype) / (1 - rate))

    def _normalize(self, node: tree.Normalization, path: str, maps: Array) -> Array:
        names = (f"{path}.running_mean", f"{path}.running_var")
        mean, variance = (self.statistics[name] for name in names)
        values = maps.astype(jnp.float32)
        if self.how.batch_norms:
            mean, variance, number = self._moments(values)
            # Running statistics hold the unbiased variance, as in torch.nn.BatchNorm2d.
            new = (lax.stop_gradient(mean), lax.stop_gradient(variance) * (number / (number - 1)))
            for name, value in zip(names, new, strict=True):
                old = self.statistics[name]
                self.statistics[name] = old + node.momentum * (value - old)
        scale = self.params[f"{path}.weight"] * lax.rsqrt(variance + node.eps)
        return ((values - mean) * scale + self.params[f"{path}.bias"]).astype(maps.dtype)

    def _moments(self, values: Array) -> tuple[Array, Array, Array]:
        """Return mean and variance of each channel over the images that are not padding, and how many values they have.

        The variance is the mean of squared deviations, which is stable, unlike the difference of two means.
        """
        weights = jnp.ones(len(values)) if self.present is None else self.present.astype(jnp.float32)
        area, shaped = values.shape[1] * values.shape[2], weights[:, None, None, None]
        number = self._over_devices(weights.sum() * area)
        mean = self._over_devices((values * shaped).sum((0, 1, 2))) / number
        deviations = jnp.square(values - mean)
        return mean, self._over_devices((deviations * shaped).sum((0, 1, 2))) / number, number

    def _over_devices(self, value: Array) -> Array:
        return value if self.how.axis is None else lax.psum(value, self.how.axis)
