"""Refit a smaller network to the feature maps of its source, block by block from the input to the classifier.

Layers that read fewer channels cannot return exactly what the source's do, and the errors of one block are the input of
the next. Therefore each layer is fitted to its output in the source for the inputs that it has in the smaller network
(He et al. 2017, https://arxiv.org/abs/1707.06168, section 3.1)::

    source   x0 --[block]-- x1 --[block that is left out]-- x2 --[block]-- ...
    smaller  z0 --[block]-- z1 ---------------------------------[block]-- ...
                       z1 is fitted to x2

For a layer with weight ``W`` in the source and inputs ``z`` instead of ``x``, the weights are the least-squares
solution ``V`` of ``V z = W x``. The last linear layer of a block is fitted, together with its batch norm, to the output
of the block in the source, or to that of the blocks after it that are left out. All other statistics of batch norm
stay: with statistics that are estimated on images without dropout, stochastic depth and augmentation, a published
network computes something else (EfficientNet-Lite0 at 144 pixels: 54.4% of 500 photographs right, not 74.8%;
benchmarks/inherit_published.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor, nn

from triscale.nn.chain import portable_only
from triscale.nn.classifier import Classifier
from triscale.nn.residual import ResidualBlock
from triscale.weights.inherit import SourceChannels
from triscale.weights.inheritance_plan import CopiedLayer, Inheritance
from triscale.weights.prune import as_matrix, rows_of

CHANGE_PENALTY = 1e-3
"""Penalty on changes of the weights, relative to the mean variance of the inputs, besides channels by positions."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """The stem, a block or the head, by its names in the source and in the target; None where one of them has none."""

    source: str | None
    target: str | None


@torch.no_grad()
def refit(
    source: Classifier, target: Classifier, plan: Inheritance, channels: SourceChannels, images: Sequence[Tensor]
) -> None:
    """Refit a network in place to the feature maps of the network that its weights were inherited from.

    Args:
        source: The module of the source, in evaluation mode.
        target: The module with inherited weights; it is left in evaluation mode.
        plan: The plan of the inheritance.
        channels: The channels that the target keeps.
        images: Normalized images ``[N, in_channels, H, W]`` in batches. The inputs and outputs of a block for all of
            them are in memory at a time.
    """
    target.eval()
    theirs, ours = list(images), list(images)
    segments = list(_segments(source, plan))
    with portable_only():  # fused chains do not call their layers
        for number, segment in enumerate(segments):
            if segment.target is None:
                continue  # went through below, after the last block that is kept
            layers = [one for one in plan.copied if one.inputs and one.target.startswith(f"{segment.target}.")]
            observed: dict[str, Tensor] = {}
            if segment.source is not None:
                observed, theirs = _run(source, segment.source, [one.source for one in layers], theirs)
                for left_out in takewhile(lambda one: one.target is None, segments[number + 1 :]):
                    assert left_out.source is not None
                    theirs = _run(source, left_out.source, [], theirs)[1]
                for layer in layers:
                    inputs = _run(target, segment.target, [layer.target], ours)[0][layer.target]
                    output = _output_norm(target.get_submodule(segment.target), layer.target)
                    outputs = channels.of(layer.outputs)
                    if output is None:
                        _fit(source, target, layer, outputs, inputs, observed[layer.source])
                    else:
                        wanted = torch.cat([rows_of(maps[:, outputs]) for maps in theirs])
                        if isinstance(target.get_submodule(segment.target), ResidualBlock):
                            wanted = wanted - torch.cat([rows_of(maps) for maps in ours])
                        _fit_with_norm(target.get_submodule(layer.target), output, inputs, wanted)
            ours = _run(target, segment.target, [], ours)[1]


def _segments(source: Classifier, plan: Inheritance) -> list[_Segment]:
    """Return the parts of both networks in order; the target's own blocks follow those of their stage."""
    targets = {theirs: ours for ours, theirs in plan.blocks.items()}
    added = [block.name for block in plan.identity_blocks]
    segments = [_Segment("stem", "stem")]
    for number, stage in enumerate(source.stages):
        blocks = stage.get_submodule("blocks")
        names = [f"stages.{number}.blocks.{name}" for name, _ in blocks.named_children()]
        segments += [_Segment(name, targets.get(name)) for name in names]
        segments += [_Segment(None, name) for name in added if name.startswith(f"stages.{number}.")]
    return [*segments, _Segment("head", "head")]


def _run(
    model: Classifier, segment: str, layers: Sequence[str], batches: Sequence[Tensor]
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the inputs of some layers as rows, by their names, and the outputs of a part of a model."""
    rows: dict[str, list[Tensor]] = {name: [] for name in layers}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, arguments, kept=kept: kept.append(rows_of(arguments[0]))
        )
        for name, kept in rows.items()
    ]
    try:
        module = model.get_submodule(segment)
        outputs = [module(batch) for batch in batches]
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(kept) for name, kept in rows.items()}, outputs


def _output_norm(block: nn.Module, layer: str) -> nn.BatchNorm2d | None:
    """Return the batch norm after a layer if its output is that of the block, but for the addition of the input."""
    if isinstance(block, ResidualBlock):
        if block.shortcut is not None or block.final is not None:
            return None
        last = block.get_submodule(block.body_names[-1])
    else:
        last = list(block.children())[-1]
    children = dict(last.named_children())
    if [*children] != ["conv", "norm"] or not layer.endswith(".conv"):
        return None
    conv, norm = children["conv"], children["norm"]
    is_last = isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) and conv.groups == 1 and conv.bias is None
    return (
        norm if is_last and layer.split(".")[-2] == _name_of(block, last) and isinstance(norm, nn.BatchNorm2d) else None
    )


def _name_of(block: nn.Module, child: nn.Module) -> str:
    return next(name for name, module in block.named_children() if module is child)


def _fit(
    source: Classifier, target: Classifier, layer: CopiedLayer, outputs: Tensor, inputs: Tensor, observed: Tensor
) -> None:
    """Fit a layer to its outputs in the source.

    Args:
        source: The module of the source.
        target: The module with the layer.
        layer: The layer.
        outputs: The source's channels that it puts out.
        inputs: Rows of its inputs in the target.
        observed: The rows of its inputs in the source for the same positions.
    """
    theirs, ours = source.get_submodule(layer.source), target.get_submodule(layer.target)
    assert isinstance(theirs.weight, Tensor)
    assert isinstance(ours.weight, Tensor)
    wanted_by, kept = theirs.weight[outputs], ours.weight
    centered = inputs - inputs.mean(0)
    within, between = _products(centered, centered), _products(observed - observed.mean(0), centered)
    # Every tap of a kernel is fitted by itself, as if it saw all positions.
    change = _solve(within, as_matrix(wanted_by) @ between - as_matrix(kept) @ within, len(inputs))
    fitted = kept + change.to(kept).view(len(kept), *kept.shape[2:], -1).movedim(-1, 1)
    # Outputs of both for their mean inputs; every tap adds its own.
    means = as_matrix(wanted_by) @ observed.mean(0).cpu().double(), as_matrix(fitted) @ inputs.mean(0).cpu().double()
    lost = (means[0] - means[1]).view(len(kept), -1).sum(1).to(kept)
    if isinstance(ours.bias, Tensor) and isinstance(theirs.bias, Tensor):
        ours.bias.copy_(theirs.bias[outputs] + lost)
    elif (norm := _norm_after(target, layer.target)) is not None:
        original = _norm_after(source, layer.source)
        assert original is not None
        assert isinstance(original.running_mean, Tensor)
        assert isinstance(norm.running_mean, Tensor)
        norm.running_mean.copy_(original.running_mean[outputs] - lost)
    ours.weight.copy_(fitted)


def _norm_after(model: nn.Module, layer: str) -> nn.BatchNorm2d | None:
    """Return the batch norm of a layer without a bias."""
    parent = dict(model.get_submodule(layer.rpartition(".")[0]).named_children())
    norm = parent.get("norm")
    return norm if isinstance(norm, nn.BatchNorm2d) else None


def _fit_with_norm(conv: nn.Module, norm: nn.BatchNorm2d, inputs: Tensor, wanted: Tensor) -> None:
    """Fit a 1 x 1 convolution and the batch norm after it to the outputs of the latter, given as rows."""
    assert isinstance(conv.weight, Tensor)
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    kept = as_matrix(scale[:, None] * conv.weight.flatten(1))
    centered, mean = inputs - inputs.mean(0), wanted.mean(0)
    within, between = _products(centered, centered), _products(wanted - mean, centered)
    fitted = kept + _solve(within, between - kept @ within, len(inputs))
    variance = ((fitted @ within) * fitted).sum(1)
    conv.weight.copy_(fitted.view_as(conv.weight))
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    norm.running_var.copy_(variance)
    assert norm.running_mean is not None
    norm.running_mean.copy_(fitted @ inputs.mean(0).cpu().double())


def _solve(within: Tensor, missing: Tensor, positions: int) -> Tensor:
    """Return the change of weights that makes up for what is missing, with a penalty on its size."""
    ridge = within.diagonal().mean().clamp(min=1e-12) * (len(within) / positions + CHANGE_PENALTY)
    regularized = within + ridge * torch.eye(len(within), dtype=within.dtype)
    change: Tensor = torch.linalg.solve(regularized, missing.T)
    return change.T


def _products(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean products of the columns of two tables of rows, on the CPU, float64."""
    return (one.T @ other).cpu().double() / len(one)
