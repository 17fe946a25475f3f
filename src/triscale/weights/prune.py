"""Choose the channels and blocks that a smaller network keeps, and correct its weights for those it loses.

What a layer loses with its inputs can partly be made up by those that it keeps, since channels are correlated. With the
covariance ``G`` of the inputs of a linear layer with weight ``W``, measured on some images:

- The best weights for a subset ``S`` of the inputs are ``W G[:, S] G[S, S]^-1``: the least-squares solution.
- Removing input ``j`` from it costs ``|W[:, j]|^2 / (G^-1)[j, j]`` of squared error at the outputs (Hassibi & Stork
  1993, https://doi.org/10.1109/ICNN.1993.298572). Inputs are removed one at a time, the cheapest first.

As in He et al. 2017 (https://arxiv.org/abs/1707.06168), no labels are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from triscale.nn.chain import portable_only
from triscale.nn.classifier import Classifier, ClassifierHead
from triscale.nn.layers import SqueezeExcitation
from triscale.nn.residual import ResidualBlock

MAX_SIDE = 10
"""Positions of a feature map along a side that enter a covariance; neighbors are nearly equal."""

RIDGE, RIDGE_OF_FEW = 1e-4, 0.02
"""Ridge relative to the mean variance, and what is added for as many channels as positions."""


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Mean ``[C]`` and covariance ``[C, C]`` of the input channels of a layer over images and positions, float64.

    ``count`` is the number of positions.
    """

    mean: Tensor
    covariance: Tensor
    count: int

    @property
    def regularized(self) -> Tensor:
        """The covariance with a ridge that vanishes as the number of positions grows.

        With fewer positions than channels, least squares would fit the channels that are kept to noise.
        """
        relative = RIDGE_OF_FEW * len(self.mean) / self.count + RIDGE
        ridge = self.covariance.diagonal().mean().clamp(min=1e-12) * relative
        return self.covariance + ridge * torch.eye(len(self.mean), dtype=torch.float64)


@torch.inference_mode()
def input_statistics(model: nn.Module, layers: Sequence[str], batches: Iterable[Tensor]) -> dict[str, InputStatistics]:
    """Return the statistics of the inputs of some layers.

    Args:
        model: The module, in evaluation mode.
        layers: Names of convolutions and linear layers.
        batches: Normalized images ``[N, in_channels, H, W]`` in batches.

    Example:
        >>> from torch import nn
        >>> statistics = input_statistics(nn.Sequential(nn.Linear(2, 1)), ["0"], [torch.eye(2)])
        >>> statistics["0"].covariance.tolist()
        [[0.25, -0.25], [-0.25, 0.25]]
    """
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    centers: dict[str, Tensor] = {}

    def observe(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            rows = rows_of(arguments[0])
            # Around the mean of the first batch: products of large means would leave a small variance few digits.
            rows = rows - centers.setdefault(name, rows.mean(0))
            total, products, count = sums.get(name, (torch.zeros(()), torch.zeros(()), 0))
            sums[name] = (
                total + rows.sum(0).cpu().double(),
                products + (rows.T @ rows).cpu().double(),
                count + len(rows),
            )

        return hook

    handles: list[RemovableHandle] = [
        _observed(model, name).register_forward_pre_hook(observe(name)) for name in layers
    ]
    try:
        with portable_only():  # fused chains do not call their layers
            for images in batches:
                model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: _statistics(centers[name].cpu().double(), *values) for name, values in sums.items()}


@torch.inference_mode()
def block_importances(model: Classifier, batches: Sequence[Tensor]) -> dict[str, float]:
    """Return how much the pooled features change without each block that can be left out, by its name.

    The change is the mean squared difference as a share of the variance of the features. Only residual blocks without a
    projection can be left out: without them, their input passes on unchanged.

    Args:
        model: The module, in evaluation mode.
        batches: Normalized images ``[N, in_channels, H, W]`` in batches.
    """

    def features() -> Tensor:
        return torch.cat([model.forward_features(images).mean((2, 3)) for images in batches])

    whole = features()
    variance = whole.var(0, correction=0).mean().clamp(min=1e-12)
    importances = {}
    for name, module in model.named_modules():
        if isinstance(module, ResidualBlock) and module.shortcut is None:
            handle = module.register_forward_hook(lambda _, arguments, output: arguments[0])
            try:
                importances[name] = float((features() - whole).square().mean() / variance)
            finally:
                handle.remove()
    return importances


def keep_channels(weights: Sequence[Tensor], statistics: Sequence[InputStatistics], number: int) -> Tensor:
    """Return the indices of the input channels to keep, in ascending order, int64 ``[number]``.

    Args:
        weights: The weight ``[outputs, C, ...]`` of each layer that reads the channels.
        statistics: The statistics of the inputs of each layer.
        number: How many channels to keep.

    Example:
        >>> same = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        >>> statistics = InputStatistics(torch.zeros(3), same, 100_000)
        >>> keep_channels([torch.tensor([[1.0, 2.0, 0.1]])], [statistics], 2).tolist()
        [1, 2]
    """
    # Each layer counts equally: its error relative to the variance of its outputs.
    rows, covariance = [], torch.zeros(())
    for weight, of_inputs in zip(weights, statistics, strict=True):
        matrix, measured = as_matrix(weight), of_inputs.regularized
        rows.append(matrix / (matrix @ measured * matrix).sum().clamp(min=1e-24).sqrt())
        covariance = covariance + measured / len(weights)
    matrix, inverse = torch.cat(rows), torch.linalg.inv(covariance)
    kept = torch.ones(matrix.shape[1], dtype=torch.bool)
    for _ in range(matrix.shape[1] - number):
        costs = matrix.square().sum(0) / inverse.diagonal()
        costs[~kept] = torch.inf
        removed = int(costs.argmin())
        # The others take over what the removed input contributed, and the inverse becomes that without it.
        pivot = inverse[removed, removed]
        column, row = inverse[:, removed].clone(), inverse[removed].clone()
        matrix.addr_(matrix[:, removed].clone(), row, alpha=-1 / float(pivot))
        inverse.addr_(column, row, alpha=-1 / float(pivot))
        matrix[:, removed], inverse[removed, removed], kept[removed] = 0.0, 1.0, False
    return kept.nonzero()[:, 0]


def least_squares(weight: Tensor, statistics: InputStatistics, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of a layer for some of its inputs by least squares, and what is to be added to its bias.

    Args:
        weight: ``[outputs, C, ...]``.
        statistics: The statistics of its inputs.
        kept: The indices of the inputs that are kept.

    Returns:
        The weight ``[outputs, kept, ...]`` and a vector ``[outputs]``.

    Example:
        >>> covariance = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)  # the second is twice the first
        >>> statistics = InputStatistics(torch.tensor([1.0, 2.0]), covariance, 10**9)
        >>> corrected, added = least_squares(torch.tensor([[1.0, 1.0]]), statistics, torch.tensor([0]))
        >>> round(corrected.item(), 2), round(added.item(), 2)
        (3.0, 0.0)
    """
    covariance, mean = statistics.regularized, statistics.mean.double()
    # x is about decode (x[kept] - mean[kept]) + mean.
    decode = torch.linalg.solve(covariance[kept][:, kept], covariance[kept]).T
    corrected = torch.einsum("oc...,ck->ok...", weight.double(), decode)
    lost = mean - decode @ mean[kept]
    added = (
        torch.einsum("oc...,c->o...", weight.double(), lost).flatten(1).sum(1)
        if weight.ndim > 2
        else weight.double() @ lost
    )
    return corrected.to(weight.dtype), added.to(weight.dtype)


def most_important(names: Sequence[str], importances: Mapping[str, float], number: int) -> list[int]:
    """Return the positions of the blocks to keep, in order: those that cannot be left out, then the most important.

    Example:
        >>> most_important(["a", "b", "c", "d"], {"b": 0.1, "c": 0.5, "d": 0.2}, 3)
        [0, 2, 3]
    """
    order = sorted(range(len(names)), key=lambda index: -importances.get(names[index], torch.inf))
    return sorted(order[:number])


def _observed(model: nn.Module, layer: str) -> nn.Module:
    """Return the module whose inputs are those of a layer, before they are pooled.

    Means over positions depend on each other as the positions do, and there are many more of these: from the means of a
    few hundred images alone, least squares would fit noise.
    """
    module = model.get_submodule(layer)
    parent = model.get_submodule(layer.rpartition(".")[0])
    if isinstance(parent, SqueezeExcitation) and parent[0] is module:
        return parent
    head = next((part for part in _ancestors(model, layer) if isinstance(part, ClassifierHead)), None)
    if head is not None and head.vector_layers[:1] == (module,):
        return head.get_submodule("pool")
    return module


def _ancestors(model: nn.Module, layer: str) -> Iterator[nn.Module]:
    """Yield the modules that contain a layer, the innermost first."""
    while layer := layer.rpartition(".")[0]:
        yield model.get_submodule(layer)


def rows_of(values: Tensor) -> Tensor:
    """Return ``[N, C]`` or some positions of ``[N, C, H, W]`` as rows ``[positions, C]``."""
    if values.ndim == 2:
        return values.float()
    stride = max(1, -(-max(values.shape[2:]) // MAX_SIDE))
    return values[:, :, ::stride, ::stride].movedim(1, -1).flatten(0, -2).float()


def as_matrix(weight: Tensor) -> Tensor:
    """Return a weight ``[outputs, C, ...]`` as a matrix ``[outputs * taps, C]`` on the CPU, float64."""
    return weight.cpu().double().movedim(1, -1).flatten(0, -2)


def _statistics(center: Tensor, total: Tensor, products: Tensor, count: int) -> InputStatistics:
    shift = total / count
    return InputStatistics(center + shift, products / count - torch.outer(shift, shift), count)
