"""Initialize a network from the weights of a smaller or larger one, and preserve its function where possible.

The plan (:mod:`triscale.weights.inheritance_plan`) says which layer is copied from which.

- A group of channels that grows repeats channels, and the layers that read them divide their weights by the number of
  repetitions, so that the function is preserved (Net2Net, Chen et al. 2016, https://arxiv.org/abs/1511.05641)::

      source channels:  a b c            target channels:  a b c a b
      weights of a reader:  wa wb wc                       wa/2 wb/2 wc wa/2 wb/2

- A group that shrinks keeps the channels whose loss the layers that read them can make up least, and these layers are
  corrected by least squares (:mod:`triscale.weights.prune`). Without statistics of their inputs, the channels with the
  largest batch norm scales are kept.
- Blocks that the target adds are initialized to the identity. Of the blocks of a stage that has fewer, the most
  important are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import assert_never

import torch
from torch import Tensor

from triscale.network import tree
from triscale.weights.inheritance_plan import Channels, Inheritance
from triscale.weights.prune import InputStatistics, keep_channels, least_squares

NO_STATISTICS: Mapping[str, InputStatistics] = MappingProxyType({})

NO_SHAPE = tree.Shape(0)
"""For walks that do not read shapes."""

NOISE = 0.05
"""Noise added to repeated channels, relative to the layer's standard deviation.

Without it, copies of a channel would receive equal gradients and never diverge.
"""


@torch.no_grad()
def inherit(
    plan: Inheritance,
    weights: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    *,
    channels: SourceChannels | None = None,
    noise: float = NOISE,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the initial weights of a plan's target.

    Args:
        plan: The result of :func:`plan_inheritance`.
        weights: The state dict of the source.
        fresh: The state dict of the newly built target, for layers that are not copied.
        channels: The channels that the target keeps; by default those with the largest batch norm scales.
        noise: Standard deviation of the noise on repeated channels, relative to the layer's; 0 preserves the function
            exactly.
        seed: Seed of the noise.
    """
    state = {name: value.clone() for name, value in fresh.items()}
    random = torch.Generator().manual_seed(seed)
    biases: dict[str, Tensor] = {}
    channels = channels or SourceChannels(plan, weights)
    statistics = channels.statistics
    for layer in plan.copied:
        outputs = channels.of(layer.outputs)
        for name, value in _tensors(weights, layer.source):
            copied = value if value.ndim == 0 else value[outputs]
            if name == "weight" and value.ndim > 1:
                if layer in plan.readers and layer.source in statistics:
                    assert layer.inputs is not None
                    corrected, added = least_squares(value, statistics[layer.source], channels.of(layer.inputs))
                    copied = corrected[outputs]
                    if f"{layer.source}.bias" in weights:
                        biases[f"{layer.target}.bias"] = added[outputs]
                elif layer.inputs is not None:
                    inputs = channels.of(layer.inputs)
                    # Net2Net: a reader sums over its inputs, so each of k copies of a channel gets 1 / k of the weight.
                    repetitions = torch.bincount(inputs, minlength=layer.inputs.source)[inputs].to(copied.dtype)
                    copied = copied[:, inputs] / repetitions.view(1, -1, *[1] * (copied.ndim - 2))
                copied = _break_symmetry(copied, outputs, noise, random)
            state[f"{layer.target}.{name}"] = copied.clone()
    for name, added in biases.items():
        state[name] += added
    for block in plan.identity_blocks:
        _make_identity(block.name, block.node, state)
    return state


class SourceChannels:
    """The channel of the source that each channel of the target copies.

    Args:
        plan: The plan.
        weights: The state dict of the source.
        statistics: Those of the inputs of the plan's ``readers`` in the source, by name.
        by_scale: Whether channels with batch norm are chosen by its scale although there are statistics.
    """

    def __init__(
        self,
        plan: Inheritance,
        weights: Mapping[str, Tensor],
        statistics: Mapping[str, InputStatistics] = NO_STATISTICS,
        *,
        by_scale: bool = False,
    ) -> None:
        self._by_scale = by_scale
        self.statistics = statistics
        self._weights = weights
        self._readers: dict[int, list[str]] = {}
        for layer in plan.readers:
            if layer.inputs is not None and layer.source in statistics:
                self._readers.setdefault(id(layer.inputs.root()), []).append(layer.source)
        self._indices: dict[int, Tensor] = {}

    def of(self, space: Channels) -> Tensor:
        """Return the indices of a group of channels, int64 ``[target]``."""
        root = space.root()
        if id(root) not in self._indices:
            self._indices[id(root)] = self._choose(root)
        return self._indices[id(root)]

    def _choose(self, space: Channels) -> Tensor:
        if space.target >= space.source:
            return torch.arange(space.target) % space.source
        readers = self._readers.get(id(space), [])
        if readers and not (self._by_scale and space.norms):
            weights = [self._weights[f"{name}.weight"] for name in readers]
            return keep_channels(weights, [self.statistics[name] for name in readers], space.target)
        if not space.norms:
            return torch.arange(space.target)
        scale = channel_scales(space, self._weights)
        return scale.argsort(descending=True, stable=True)[: space.target].sort().values


def channel_scales(space: Channels, weights: Mapping[str, Tensor]) -> Tensor:
    """Return the scale with which batch norm lets each channel of a group through ``[source]``.

    A scale near 0 marks a channel that contributes little (Liu et al. 2017, https://arxiv.org/abs/1708.06519). Of norms
    in a row the last one counts, since it undoes the scales before it; of maps that are added, the mean of all.
    """
    group = space.root()
    scales = [weights[f"{name}.weight"].abs() for name in group.norms]
    return torch.stack(scales).mean(0) if group.added else scales[-1]


def _break_symmetry(weight: Tensor, origins: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Add noise to the output channels that repeat an earlier one."""
    repeats = (origins[:, None] == origins[None, :]).triu(1).any(0)
    if not noise or not repeats.any():
        return weight
    added = torch.randn(weight.shape, generator=random, dtype=torch.float32) * noise * weight.float().std()
    return torch.where(repeats.view(-1, *[1] * (weight.ndim - 1)), weight + added.to(weight.dtype), weight)


def _tensors(weights: Mapping[str, Tensor], layer: str) -> Iterator[tuple[str, Tensor]]:
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        if f"{layer}.{name}" in weights:
            yield name, weights[f"{layer}.{name}"]


def _make_identity(name: str, node: tree.Node, state: dict[str, Tensor]) -> None:
    """Initialize a block to the identity: through its residual connection, or layer by layer."""
    match node:
        case tree.Residual():
            # The body ends in a batch norm: with scale 0 it adds nothing, but still receives gradients.
            last = _last_norm(name, node.body)
            state[f"{last}.weight"].zero_()
            state[f"{last}.bias"].zero_()
        case tree.Sequence():
            for child_name, child in node.nodes:
                _make_identity(f"{name}.{child_name}", child, state)
        case tree.Convolution():
            state[f"{name}.weight"].zero_()
            middle = node.kernel // 2
            each = torch.arange(node.outputs)
            state[f"{name}.weight"][each, each % (node.inputs // node.groups), middle, middle] = 1
        case tree.Normalization():
            # With mean 0 and variance 1 the norm divides by sqrt(1 + eps); this scale compensates.
            state[f"{name}.weight"].fill_((1 + node.eps) ** 0.5)
            for value, number in (("bias", 0), ("running_mean", 0), ("running_var", 1)):
                state[f"{name}.{value}"].fill_(number)
        case (
            tree.Root()
            | tree.StageNode()
            | tree.Activation()
            | tree.MaxPool()
            | tree.AveragePool()
            | tree.GlobalPool()
            | tree.Flatten()
            | tree.Linear()
            | tree.Dropout()
            | tree.SqueezeExcite()
        ):
            pass
        case _:
            assert_never(node)


def _last_norm(name: str, body: tree.Sequence) -> str:
    """Return the last batch norm of a body; what follows it (activation, SE) maps zeros to zeros."""
    norms = [visit.path for visit in tree.walk(body, NO_SHAPE, name) if isinstance(visit.node, tree.Normalization)]
    return norms[-1]
