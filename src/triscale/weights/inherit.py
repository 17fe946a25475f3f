"""Weights for a network of one size from those of another: the function is kept as far as the structure allows.

Both operation trees are walked side by side. Every set of channels that is passed on (a *space*) has a width in the
source and one in the target. A space that grows repeats channels, and what reads them divides by how often, so that
the function stays (Chen et al. 2016, Net2Net: Accelerating Learning via Knowledge Transfer); one that shrinks keeps the
channels whose batch norms scale them most. Blocks that the target adds pass their input on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import torch
from torch import Tensor

from triscale.errors import NetworkError
from triscale.network import tree
from triscale.network.lower import lower
from triscale.network.spec import Network

NOISE = 0.05
"""Repeated channels would learn the same for ever; each differs from its origin by this share of the layer's spread."""


@dataclass(eq=False, slots=True)
class _Space:
    """Channels that are passed on: how many there were and will be, and the source's batch norms that scale them."""

    source: int
    target: int
    norms: list[str] = field(default_factory=list)
    same_as: _Space | None = None

    def root(self) -> _Space:
        return self if self.same_as is None else self.same_as.root()

    def join(self, other: _Space) -> None:
        """Make two spaces one, since their maps are added."""
        ours, theirs = self.root(), other.root()
        if ours is not theirs:
            assert (ours.source, ours.target) == (theirs.source, theirs.target)
            theirs.norms += ours.norms
            ours.same_as = theirs


@dataclass(frozen=True, slots=True)
class CopiedLayer:
    """A layer that is taken over: its name in both networks, its channels going in (None: each by itself) and out."""

    source: str
    target: str
    inputs: _Space | None
    outputs: _Space


@dataclass(frozen=True, slots=True)
class IdentityBlock:
    """A block that is new in the target; it passes its input on."""

    name: str
    node: tree.Node


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Where each part of a target's weights comes from; a part that is in neither list begins anew."""

    copied: tuple[CopiedLayer, ...]
    passed_on: tuple[IdentityBlock, ...]

    @property
    def summary(self) -> str:
        """Say in words what is taken over."""
        added = f", {len(self.passed_on)} blocks that pass their input on" if self.passed_on else ""
        return f"{len(self.copied)} layers taken over{added}"


def plan_inheritance(source: Network, target: Network, *, keep_head: bool = True) -> Inheritance:
    """Say where the weights of one network come from in another of the same family.

    Args:
        source: whose weights there are.
        target: may differ in widths, repeats, resolution, classes, drop rates and batch norm's momentum.
        keep_head: whether the classifier is taken over, if there are as many classes.

    Raises:
        NetworkError: they are of different kinds; the difference is named.
    """
    _check_related(source, target)
    walk = _Walk()
    root, of_target = lower(source), lower(target)
    space = _Space(root.input.channels, of_target.input.channels)
    skip = () if keep_head and source.classes == target.classes else ("classifier",)
    for (path, part), (_, part_of_target) in zip(tree.children(root), tree.children(of_target), strict=True):
        if isinstance(part, tree.StageNode) and isinstance(part_of_target, tree.StageNode):
            space = walk.visit_stage(path, part, part_of_target, space)
        else:
            space = walk.visit(path, part, path, part_of_target, space, skip)
    return Inheritance(tuple(walk.copied), tuple(walk.passed_on))


@torch.no_grad()
def inherit(
    plan: Inheritance,
    weights: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    *,
    noise: float = NOISE,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return weights for a plan's target.

    Args:
        plan: of :func:`plan_inheritance`.
        weights: the source's, under our names.
        fresh: the target's as built, for what begins anew.
        noise: spread of what tells repeated channels apart, as a share of the layer's own; 0 keeps the function.
        seed: of the noise.
    """
    made = {name: value.clone() for name, value in fresh.items()}
    random = torch.Generator().manual_seed(seed)
    maps: dict[int, Tensor] = {}

    def origin(space: _Space) -> Tensor:
        root = space.root()
        if id(root) not in maps:
            maps[id(root)] = _origins(root, weights)
        return maps[id(root)]

    for layer in plan.copied:
        outputs = origin(layer.outputs)
        for name, value in _tensors(weights, layer.source):
            taken = value if value.ndim == 0 else value[outputs]
            if name == "weight" and value.ndim > 1:
                if layer.inputs is not None:
                    inputs = origin(layer.inputs)
                    repeated = torch.bincount(inputs, minlength=layer.inputs.source)[inputs].to(taken.dtype)
                    taken = taken[:, inputs] / repeated.view(1, -1, *[1] * (taken.ndim - 2))
                taken = _tell_apart(taken, outputs, noise, random)
            made[f"{layer.target}.{name}"] = taken.clone()
    for block in plan.passed_on:
        _pass_on(block.name, block.node, made)
    return made


class _Walk:
    """Collects what is copied on a walk along two trees."""

    def __init__(self) -> None:
        self.copied: list[CopiedLayer] = []
        self.passed_on: list[IdentityBlock] = []

    def visit_stage(self, path: str, source: tree.StageNode, target: tree.StageNode, space: _Space) -> _Space:
        """Visit the blocks of a stage: those that both have are copied, further ones become identity blocks."""
        blocks = [(tree.join(path, name), block) for name, block in tree.children(source)]
        of_target = [(tree.join(path, name), block) for name, block in tree.children(target)]
        for (name, block), (target_name, target_block) in zip(blocks, of_target, strict=False):
            space = self.visit(name, block, target_name, target_block, space)
        last_name, last = blocks[-1]
        for target_name, target_block in of_target[len(blocks) :]:
            if len(blocks) > 1:  # the first block of a stage has the stride, so that only a later one is alike
                self.visit(last_name, last, target_name, target_block, space)
            self.passed_on.append(IdentityBlock(target_name, target_block))
        return space

    def visit(  # noqa: PLR0912 - one case for each pair of nodes
        self,
        source: str,
        of_source: tree.Node,
        target: str,
        of_target: tree.Node,
        space: _Space,
        skip: tuple[str, ...] = (),
    ) -> _Space:
        """Visit a pair of nodes into which a space goes; return the one that comes out."""
        match of_source, of_target:
            case tree.Convolution(), tree.Convolution():
                if of_source.is_depthwise:  # every channel is filtered by itself
                    self.copied.append(CopiedLayer(source, target, None, space))
                    return space
                out = _Space(of_source.outputs, of_target.outputs)
                if of_source.groups > 1:
                    _check_same_groups(source, of_source, of_target)
                    self.copied.append(CopiedLayer(source, target, None, out))
                else:
                    self.copied.append(CopiedLayer(source, target, space, out))
                return out
            case tree.Linear(), tree.Linear():
                out = _Space(of_source.outputs, of_target.outputs)
                self.copied.append(CopiedLayer(source, target, space, out))
                return out
            case tree.Normalization(), tree.Normalization():
                space.norms.append(source)
                self.copied.append(CopiedLayer(source, target, None, space))
                return space
            case tree.Sequence(), tree.Sequence():
                theirs = dict(of_source.nodes)
                for name, child in of_target.nodes:
                    if name in skip or name not in theirs:
                        continue
                    space = self.visit(f"{source}.{name}", theirs[name], f"{target}.{name}", child, space)
                return space
            case tree.SqueezeExcite(), tree.SqueezeExcite():
                self.visit(source, of_source.body, target, of_target.body, space).join(space)
                return space
            case tree.Residual(), tree.Residual():
                return self._visit_residual(source, of_source, target, of_target, space)
            case tree.Residual(), tree.Sequence():
                return self.visit(source, of_source.body, target, of_target, space)
            case tree.Sequence(), tree.Residual():
                return self.visit(source, of_source, target, of_target.body, space)
            case _:
                return space

    def _visit_residual(
        self, source: str, of_source: tree.Residual, target: str, of_target: tree.Residual, space: _Space
    ) -> _Space:
        out = self.visit(source, of_source.body, target, of_target.body, space)
        if of_source.shortcut is None and of_target.shortcut is None:
            out.join(space)
        if of_source.shortcut is not None and of_target.shortcut is not None:
            names = tree.join(source, tree.SHORTCUT), tree.join(target, tree.SHORTCUT)
            out.join(self.visit(names[0], of_source.shortcut, names[1], of_target.shortcut, space))
        return out


def _check_same_groups(path: str, source: tree.Convolution, target: tree.Convolution) -> None:
    """Refuse a grouped convolution of another size: which channels meet in a group would change."""
    if (source.groups, source.inputs, source.outputs) != (target.groups, target.inputs, target.outputs):
        raise NetworkError(
            f"{path} is a convolution of {source.inputs} to {source.outputs} channels in {source.groups} groups, and "
            f"the target has {target.inputs} to {target.outputs} in {target.groups}; grouped convolutions are "
            "inherited only at equal width and groups"
        )


def _check_related(source: Network, target: Network) -> None:
    def kind(network: Network) -> dict[str, object]:
        return {
            "the stem": (network.stem.kernel, network.stem.stride, network.stem.activation, network.stem.max_pool),
            "the number of stages": len(network.stages),
            **{f"stage {number + 1}": (stage.block, stage.stride) for number, stage in enumerate(network.stages)},
            "the head": (network.head.width is None, network.head.activation),
            "the padding": network.padding,
        }

    ours, theirs = kind(target), kind(source)
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise NetworkError(
                f"{target.name} cannot inherit from {source.name}: they differ in {name} ({_said(theirs.get(name))} "
                f"there, {_said(ours.get(name))} here); give weights of the same family"
            )


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(_said(part) for part in value)
    return str(value)


def _origins(space: _Space, weights: Mapping[str, Tensor]) -> Tensor:
    """Return for each channel of the target the source's channel that it comes from ``[target]``."""
    if space.target >= space.source:
        return torch.arange(space.target) % space.source
    if not space.norms:
        return torch.arange(space.target)
    scale = torch.stack([weights[f"{name}.weight"].abs() for name in space.norms]).sum(0)
    return scale.argsort(descending=True, stable=True)[: space.target].sort().values


def _tell_apart(weight: Tensor, origins: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Add noise to the outputs that repeat an earlier one."""
    repeats = (origins[:, None] == origins[None, :]).triu(1).any(0)
    if not noise or not repeats.any():
        return weight
    drawn = torch.randn(weight.shape, generator=random, dtype=torch.float32) * noise * weight.float().std()
    return torch.where(repeats.view(-1, *[1] * (weight.ndim - 1)), weight + drawn.to(weight.dtype), weight)


def _tensors(weights: Mapping[str, Tensor], layer: str) -> Iterator[tuple[str, Tensor]]:
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        if f"{layer}.{name}" in weights:
            yield name, weights[f"{layer}.{name}"]


def _pass_on(name: str, node: tree.Node, made: dict[str, Tensor]) -> None:
    """Make a block pass its input on: by its residual connection, or layer by layer."""
    match node:
        case tree.Residual():
            # The body ends in a batch norm; scaled by zero it adds nothing, and learns from the first step on.
            last = _last_norm(name, node.body)
            made[f"{last}.weight"].zero_()
            made[f"{last}.bias"].zero_()
        case tree.Sequence():
            for child_name, child in node.nodes:
                _pass_on(f"{name}.{child_name}", child, made)
        case tree.Convolution():
            made[f"{name}.weight"].zero_()
            middle = node.kernel // 2
            each = torch.arange(node.outputs)
            made[f"{name}.weight"][each, each % (node.inputs // node.groups), middle, middle] = 1
        case tree.Normalization():
            made[f"{name}.weight"].fill_((1 + node.eps) ** 0.5)
            for value, number in (("bias", 0), ("running_mean", 0), ("running_var", 1)):
                made[f"{name}.{value}"].fill_(number)
        case (
            tree.Root()
            | tree.StageNode()
            | tree.Activation()
            | tree.MaxPool()
            | tree.AveragePool()
            | tree.GlobalPool()
            | tree.Linear()
            | tree.Dropout()
            | tree.SqueezeExcite()
        ):
            pass
        case _:
            assert_never(node)


def _last_norm(name: str, body: tree.Sequence) -> str:
    child_name, child = body.nodes[-1]
    if isinstance(child, tree.Sequence):
        return _last_norm(f"{name}.{child_name}", child)
    assert isinstance(child, tree.Normalization)
    return f"{name}.{child_name}"
