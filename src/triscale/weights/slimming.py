"""Prune the channels of a trained network to a budget by the scales of its batch norms (network slimming).

All channels compete by the absolute value of the scale with which batch norm lets them through (Liu et al. 2017,
https://arxiv.org/abs/1708.06519): one threshold for the whole network, the lowest at which the budget holds. Depth and
resolution stay; layers keep as many channels as their scales say::

    scales of one layer     0.9 0.7 0.4 | 0.1 0.0         scales of another     0.3 | 0.2 0.1 0.1 0.0
                                threshold 0.25                            threshold 0.25

- Each block gets its own inner channels, as a ratio to its input, so the network is written with one stage per block
  (:mod:`triscale.network.unrolled`).
- Feature maps that are added have the same channels. Their scale is the mean over all batch norms of the group.
- Layers that must be equally wide (the two convolutions inside a bottleneck, the first ones of basic blocks and their
  outputs) keep the same number of channels, each its own: the k-th largest scales of all are averaged.
- Numbers are rounded up to multiples of 8, with a minimum of a tenth of the channels. Squeeze-and-excitation reads and
  scales the channels that are kept, and keeps its own inner ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from triscale.errors import BudgetError, NetworkError
from triscale.network import spec
from triscale.network.channels import MULTIPLE, bottleneck_middle, expanded, squeezed
from triscale.network.lower import USUAL_SE
from triscale.network.spec import Network
from triscale.network.unrolled import unrolled, unrolled_prefixes
from triscale.scaling.budget import Budget, cost_value, format_cost
from triscale.scaling.fit import Count
from triscale.weights.inherit import channel_scales
from triscale.weights.inheritance_plan import Channels, plan_inheritance

MIN_SHARE = 0.1
"""The least share of its channels that a layer keeps: without any, nothing would pass."""

_ABOVE_ONE = 1.0001
"""An expansion that gives a block as many inner channels as inputs; 1 would leave out its expansion."""


@dataclass(frozen=True, slots=True)
class PrunableWidth:
    """A number of channels that pruning chooses.

    Attributes:
        outputs: The places whose output it is: ``stem``, ``head``, ``wide``, or the number of a block.
        inside: The number of the block whose inner channels it is; None if it is an output.
        strengths: The scales of the channels in descending order ``[channels]``.
    """

    outputs: tuple[int | str, ...]
    inside: int | None
    strengths: Tensor

    def at(self, threshold: float) -> int:
        """Return the number of channels whose scale is above a threshold, rounded up."""
        channels = len(self.strengths)
        number = max(int((self.strengths > threshold).sum()), MIN_SHARE * channels)
        return min(channels, -int(-number // MULTIPLE) * MULTIPLE)


def unrolled_state(network: Network, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network under the names that they have in its unrolled form."""
    names = dict(unrolled_prefixes(network))
    renamed = {}
    for name, value in weights.items():
        parts = name.split(".", 4)
        prefix = ".".join(parts[:4]) + "."
        renamed[f"{names[prefix]}{parts[4]}" if prefix in names else name] = value
    return renamed


def prune_to_budget(network: Network, weights: Mapping[str, Tensor], budget: Budget, count: Count) -> Network:
    """Return the network with the channels whose batch norm scale is above the lowest threshold that meets a budget.

    Args:
        network: The trained network.
        weights: Its weights, with or without a classifier.
        budget: The limits.
        count: Counts the cost of a network, see :func:`triscale.scaling.fit.counting`.

    Raises:
        BudgetError: The network is within the budget as it is, or not even with the fewest channels.
        NetworkError: It has grouped convolutions, or a layer whose channels cannot be chosen.
    """
    if budget.admits(whole := count(network)):
        costs = ", ".join(format_cost(name, cost_value(whole, name)) for name in budget.limits)
        raise BudgetError(
            f"there is nothing to prune: {network.name} has {costs}, which is within {budget}; give a smaller budget, "
            "or leave out the prefix prune:"
        )
    source, widths = unrolled(network), prunable_widths(network, weights)
    thresholds = sorted({strength for width in widths for strength in width.strengths.tolist()})
    # Bisection: the network is too large at the threshold `low`, and within the budget at `high`.
    low, high = -1, len(thresholds) - 1
    smallest = count(with_widths(source, widths, thresholds[high]))
    if not budget.admits(smallest):
        costs = ", ".join(
            format_cost(name, cost_value(smallest, name))
            for name, limit in budget.limits.items()
            if cost_value(smallest, name) > limit
        )
        raise BudgetError(
            f"{network.name} cannot be pruned to {budget}: with a tenth of its channels it has {costs}; give a larger "
            "budget, a smaller resolution, or a smaller network"
        )
    while high - low > 1:
        middle = (low + high) // 2
        fits = budget.admits(count(with_widths(source, widths, thresholds[middle])))
        low, high = (low, middle) if fits else (middle, high)
    return with_widths(source, widths, thresholds[high])


def prunable_widths(network: Network, weights: Mapping[str, Tensor]) -> list[PrunableWidth]:
    """Return the numbers of channels that can be chosen, with the scales of the channels.

    Args:
        network: The trained network, as it is or unrolled.
        weights: Its weights under the names of ``network``.

    Raises:
        NetworkError: It has grouped convolutions.
    """
    source, state = unrolled(network), unrolled_state(network, weights)
    for number, stage in enumerate(source.stages):
        if isinstance(stage.block, spec.Bottleneck) and (stage.block.groups > 1 or stage.block.group_width):
            raise NetworkError(
                f"{network.name} cannot be pruned: block {number} has a grouped convolution, whose channels belong "
                "together; give the prefix inherit:, or a network without groups"
            )
    plan = plan_inheritance(source, source)
    groups = {layer.source: layer.outputs.root() for layer in plan.copied}
    outputs: dict[str | int, Channels] = {"stem": groups["stem.conv"]}
    inner: dict[int, list[Channels]] = {}
    tied: dict[int, list[Channels]] = {}
    for number, stage in enumerate(source.stages):
        last, inside, as_wide = _convolutions(stage.block)
        prefix = f"stages.{number}.blocks.0."
        outputs[number] = groups[f"{prefix}{last}"]
        inner[number] = [groups[f"{prefix}{name}"] for name in inside]
        tied[number] = [groups[f"{prefix}{name}"] for name in as_wide]
    if source.head.width is not None:
        outputs["head"] = groups["head.conv"]
    if source.head.wide is not None and source.head.wide_norm:
        outputs["wide"] = groups["head.wide.conv"]
    widths = []
    for group in dict.fromkeys(outputs.values()):
        places = tuple(place for place, one in outputs.items() if one is group)
        equal = [group, *(one for place in places if isinstance(place, int) for one in tied[place])]
        widths.append(PrunableWidth(places, None, _strengths(equal, state)))
    widths += [PrunableWidth((), number, _strengths(equal, state)) for number, equal in inner.items() if equal]
    return widths


def with_widths(source: Network, widths: Sequence[PrunableWidth], threshold: float) -> Network:
    """Return an unrolled network with the channels above a threshold.

    Args:
        source: The trained network, unrolled.
        widths: The result of :func:`prunable_widths`.
        threshold: Of the scales of batch norm; below 0 all channels are kept.

    Raises:
        NetworkError: A number of inner channels cannot be written as a ratio.
    """
    outputs = {place: width.at(threshold) for width in widths for place in width.outputs}
    inside = {width.inside: width.at(threshold) for width in widths if width.inside is not None}
    _keep_projections(source, widths, outputs)
    stem = source.stem.replace(width=outputs["stem"])
    stages, theirs, ours = [], source.stem.width, stem.width
    for number, stage in enumerate(source.stages):
        width = outputs[number]
        block = _with_inner(stage, theirs, ours, width, inside.get(number))
        stages.append(stage.replace(block=block, width=width))
        theirs, ours = stage.width, width
    head = source.head
    if "head" in outputs:
        head = head.replace(width=outputs["head"])
    if "wide" in outputs:
        head = head.replace(wide=outputs["wide"])
    return source.replace(stem=stem, stages=tuple(stages), head=head)


def describe_kept(network: Network, pruned: Network) -> tuple[str, ...]:
    """Return what each part of a network keeps, such as ``stage 2: 24 of 40 channels, inside 96, 56 of 144, 240``.

    Args:
        network: The trained network.
        pruned: The result of :func:`prune_to_budget`.
    """
    source, lines, position = unrolled(network), [], 0
    lines.append(f"stem: {pruned.stem.width} of {source.stem.width} channels")
    for number, stage in enumerate(network.stages):
        blocks = range(position, position + stage.repeats)
        line = f"stage {number}: {pruned.stages[position].width} of {stage.width} channels"
        if all(inner_channels(source, block) for block in blocks):
            kept, before = (", ".join(str(inner_channels(one, block)) for block in blocks) for one in (pruned, source))
            line += f", inside {kept} of {before}"
        lines.append(line)
        position += stage.repeats
    if source.head.width is not None:
        lines.append(f"head: {pruned.head.width} of {source.head.width} channels")
    return tuple(lines)


def inner_channels(network: Network, number: int) -> int:
    """Return the inner channels of a block of an unrolled network; 0 if it has none of its own."""
    stage = network.stages[number]
    inputs = network.stages[number - 1].width if number else network.stem.width
    match stage.block:
        case spec.MBConv(expansion=expansion) | spec.FusedMBConv(expansion=expansion):
            return 0 if expansion == 1 else expanded(inputs, expansion)
        case spec.UniversalBottleneck(expansion=expansion):
            return expanded(inputs, expansion)
        case spec.Bottleneck():
            return bottleneck_middle(stage.width, stage.block)[0]
        case spec.Separable() | spec.Basic() | spec.Conv():
            return 0
        case _:
            assert_never(stage.block)


def _strengths(groups: Sequence[Channels], weights: Mapping[str, Tensor]) -> Tensor:
    """Return the mean of the sorted scales of layers that are equally wide."""
    scales = [channel_scales(group, weights).cpu().double().sort(descending=True).values for group in groups]
    return torch.stack(scales).mean(0)


def _convolutions(block: spec.Block) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the names of a block's last convolution, of those of its inner channels, and of those as wide as it."""
    match block:
        case spec.MBConv():
            return "project.conv", ("expand.conv",) if block.expansion != 1 else (), ()
        case spec.FusedMBConv():
            return ("spatial.conv", (), ()) if block.expansion == 1 else ("project.conv", ("spatial.conv",), ())
        case spec.UniversalBottleneck():
            return "project.conv", ("expand.conv",), ()
        case spec.Separable():
            return "pointwise.conv", (), ()
        case spec.Bottleneck():
            return "restore.conv", ("reduce.conv", "spatial.conv"), ()
        case spec.Basic():
            return "second.conv", (), ("first.conv",)
        case spec.Conv():
            return "conv", (), ()
        case _:
            assert_never(block)


def _keep_projections(source: Network, widths: Sequence[PrunableWidth], outputs: dict[int | str, int]) -> None:
    """Widen outputs of ResNet blocks that would lose the projection of their input, since they are as wide as it."""
    before: int | str = "stem"
    theirs = source.stem.width
    for number, stage in enumerate(source.stages):
        projects = isinstance(stage.block, spec.Bottleneck | spec.Basic) and stage.stride == 1 and stage.width != theirs
        if projects and outputs[number] == outputs[before]:
            wider: int | str = number if stage.width > theirs else before
            (group,) = (width for width in widths if wider in width.outputs)
            wide = min(outputs[wider] + MULTIPLE, len(group.strengths))
            outputs.update(dict.fromkeys(group.outputs, wide))
        before, theirs = number, stage.width


def _with_inner(stage: spec.Stage, theirs: int, ours: int, width: int, inner: int | None) -> spec.Block:
    """Return the block of a stage for other numbers of channels.

    Args:
        stage: The stage in the source.
        theirs: Its input channels in the source.
        ours: Its input channels in the pruned network.
        width: Its output channels in the pruned network.
        inner: The inner channels in the pruned network; None if it has none of its own.
    """
    block = stage.block
    changes: dict[str, object] = {}
    match block:
        case spec.MBConv() | spec.FusedMBConv() | spec.UniversalBottleneck():
            source_inner = expanded(theirs, block.expansion)
            if inner is None:
                map_channels = (theirs, ours) if isinstance(block, spec.MBConv) else (stage.width, width)
            else:
                map_channels = (source_inner, inner)
                if expanded(ours, block.expansion) != inner:
                    changes["expansion"] = _expansion(ours, inner)
            if not isinstance(block, spec.UniversalBottleneck):
                changes |= _same_squeezed(block, (theirs, ours), map_channels)
        case spec.Bottleneck():
            assert inner is not None
            source_inner, _ = bottleneck_middle(stage.width, block)
            if bottleneck_middle(width, block)[0] != inner:
                changes["reduction"] = width // inner if width % inner == 0 else width / inner
            at_end = block.se_at == "end"
            changes |= _same_squeezed(block, (theirs, ours), (stage.width, width) if at_end else (source_inner, inner))
        case spec.Separable() | spec.Basic() | spec.Conv():
            pass
        case _:
            assert_never(block)
    if theirs != stage.width and ours == width and not isinstance(block, spec.Bottleneck | spec.Basic):
        changes["skip"] = "none"  # equal widths must not add an input that the source does not add
    return block.replace(**changes) if changes else block


def _expansion(inputs: int, inner: int) -> float:
    ratio = _ABOVE_ONE if inner == inputs else inner / inputs
    whole = int(ratio) if ratio == int(ratio) else ratio
    if expanded(inputs, whole) != inner:
        raise NetworkError(
            f"a block with {inputs} input channels cannot be pruned to {inner} inner channels: a number that is "
            f"no multiple of {MULTIPLE} has to be a whole multiple of the input; give the prefix inherit: instead"
        )
    return whole


def _same_squeezed(
    block: spec.MBConv | spec.FusedMBConv | spec.Bottleneck, inputs: tuple[int, int], maps: tuple[int, int]
) -> dict[str, object]:
    """Return the ratio with which squeeze-and-excitation keeps its inner channels; they shrink to its map's at most."""
    if not block.se_ratio:
        return {}
    rule = block.se_rule or USUAL_SE
    wanted = squeezed(inputs[0], maps[0], block.se_ratio, rule)
    if squeezed(inputs[1], maps[1], block.se_ratio, rule) == wanted:
        return {}
    base = inputs[1] if rule.of == "input" else maps[1]
    return {"se_ratio": min(1.0, (wanted + 0.5 * (rule.multiple == 1)) / base)}
