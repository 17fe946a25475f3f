"""Plan which layers of a network get their weights from which of a network of another size.

Both operation trees are traversed together. Every group of channels has a width in the source and one in the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from triscale.errors import NetworkError
from triscale.network import tree
from triscale.network.lower import lower
from triscale.network.spec import Block, Network
from triscale.weights.prune import most_important

NOT_MEASURED: Mapping[str, float] = MappingProxyType({})


@dataclass(eq=False, slots=True)
class Channels:
    """A group of channels shared by several layers.

    Attributes:
        source: Number of channels in the source.
        target: Number of channels in the target.
        norms: Names of the source's batch norms that scale them, in order.
        added: Whether they are those of feature maps that are added; otherwise each norm follows on the one before.
        same_as: The group that this one was merged into (a union-find forest).
    """

    source: int
    target: int
    norms: list[str] = field(default_factory=list)
    added: bool = False
    same_as: Channels | None = None

    def root(self) -> Channels:
        """Return the group that all merged ones stand for."""
        return self if self.same_as is None else self.same_as.root()

    def join(self, other: Channels, *, added: bool) -> None:
        """Merge two groups whose feature maps are added, or multiplied."""
        ours, theirs = self.root(), other.root()
        theirs.added = theirs.added or ours.added or added
        if ours is not theirs:
            assert (ours.source, ours.target) == (theirs.source, theirs.target)
            theirs.norms += ours.norms
            ours.same_as = theirs


@dataclass(frozen=True, slots=True)
class CopiedLayer:
    """A layer whose weights are copied.

    Attributes:
        source: Its name in the source.
        target: Its name in the target.
        inputs: Its input channels; None for depthwise layers and norms, which treat each channel separately.
        outputs: Its output channels.
    """

    source: str
    target: str
    inputs: Channels | None
    outputs: Channels


@dataclass(frozen=True, slots=True)
class IdentityBlock:
    """A block that only the target has; it is initialized to the identity."""

    name: str
    node: tree.Node


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The origin of the target's weights; all layers in neither list keep their fresh initialization.

    Attributes:
        copied: The layers copied from the source.
        identity_blocks: The added blocks.
        blocks: The name in the source of each block that is copied, by its name in the target.
    """

    copied: tuple[CopiedLayer, ...]
    identity_blocks: tuple[IdentityBlock, ...]
    blocks: Mapping[str, str]

    @property
    def readers(self) -> tuple[CopiedLayer, ...]:
        """The layers that lose some of their input channels, and mix those that they keep."""
        return tuple(one for one in self.copied if one.inputs is not None and one.inputs.target < one.inputs.source)

    @property
    def summary(self) -> str:
        """A short description for messages."""
        added = f", {len(self.identity_blocks)} blocks initialized to the identity" if self.identity_blocks else ""
        return f"{len(self.copied)} layers copied{added}"


def plan_inheritance(
    source: Network,
    target: Network,
    *,
    keep_head: bool = True,
    importances: Mapping[str, float] = NOT_MEASURED,
    pruned: bool = False,
) -> Inheritance:
    """Plan how to initialize a network from another one of the same family.

    Args:
        source: The network whose weights are given.
        target: May differ in widths, repeats, resolution, classes, drop rates and the momentum of batch norm.
        keep_head: Whether to copy the classifier, if both have the same number of classes.
        importances: The importance of the source's blocks by name, as
            :func:`~triscale.weights.prune.block_importances` measures it; without it, a stage keeps its first blocks.
        pruned: Whether the inner channels of blocks may differ too.

    Raises:
        NetworkError: The networks are of different families; the message names the difference.

    Example:
        >>> from triscale.families import get
        >>> plan_inheritance(get("efficientnet_b0"), get("efficientnet_b1")).summary
        '171 layers copied, 7 blocks initialized to the identity'
    """
    _check_related(source, target, pruned=pruned)
    planner = _Planner(importances)
    root, target_node = lower(source), lower(target)
    space = Channels(root.input.channels, target_node.input.channels)
    skip = () if keep_head and source.classes == target.classes else ("classifier",)
    for (path, part), (_, part_target_node) in zip(tree.children(root), tree.children(target_node), strict=True):
        if isinstance(part, tree.StageNode) and isinstance(part_target_node, tree.StageNode):
            space = planner.visit_stage(path, part, part_target_node, space)
        else:
            space = planner.visit(path, part, path, part_target_node, space, skip)
    return Inheritance(tuple(planner.copied), tuple(planner.identity_blocks), planner.blocks)


class _Planner:
    """Traverses two operation trees together and collects the layers to copy."""

    def __init__(self, importances: Mapping[str, float]) -> None:
        self.importances = importances
        self.copied: list[CopiedLayer] = []
        self.identity_blocks: list[IdentityBlock] = []
        self.blocks: dict[str, str] = {}

    def visit_stage(self, path: str, source: tree.StageNode, target: tree.StageNode, space: Channels) -> Channels:
        """Visit the blocks of a stage: those that both have are copied, further ones become identity blocks."""
        blocks = [(tree.join(path, name), block) for name, block in tree.children(source)]
        target_node = [(tree.join(path, name), block) for name, block in tree.children(target)]
        kept = most_important([name for name, _ in blocks], self.importances, len(target_node))
        for (name, block), (target_name, target_block) in zip([blocks[i] for i in kept], target_node, strict=False):
            space = self.visit(name, block, target_name, target_block, space)
            self.blocks[target_name] = name
        last_name, last = blocks[-1]
        for target_name, target_block in target_node[len(blocks) :]:
            if len(blocks) > 1:  # the first block of a stage has the stride; the others are equal
                self.visit(last_name, last, target_name, target_block, space)
            self.identity_blocks.append(IdentityBlock(target_name, target_block))
        return space

    def visit(  # noqa: PLR0912 - one case for each pair of nodes
        self,
        source: str,
        source_node: tree.Node,
        target: str,
        target_node: tree.Node,
        space: Channels,
        skip: tuple[str, ...] = (),
    ) -> Channels:
        """Visit a pair of nodes with their input channels; return the output channels."""
        match source_node, target_node:
            case tree.Convolution(), tree.Convolution():
                if source_node.is_depthwise:  # each channel is filtered separately
                    self.copied.append(CopiedLayer(source, target, None, space))
                    return space
                out = Channels(source_node.outputs, target_node.outputs)
                if source_node.groups > 1:
                    _check_same_groups(source, source_node, target_node)
                    self.copied.append(CopiedLayer(source, target, None, out))
                else:
                    self.copied.append(CopiedLayer(source, target, space, out))
                return out
            case tree.Linear(), tree.Linear():
                out = Channels(source_node.outputs, target_node.outputs)
                self.copied.append(CopiedLayer(source, target, space, out))
                return out
            case tree.Normalization(), tree.Normalization():
                space.root().norms.append(source)
                self.copied.append(CopiedLayer(source, target, None, space))
                return space
            case tree.Sequence(), tree.Sequence():
                theirs = dict(source_node.nodes)
                for name, child in target_node.nodes:
                    if name in skip or name not in theirs:
                        continue
                    space = self.visit(f"{source}.{name}", theirs[name], f"{target}.{name}", child, space)
                return space
            case tree.SqueezeExcite(), tree.SqueezeExcite():
                self.visit(source, source_node.body, target, target_node.body, space).join(space, added=False)
                return space
            case tree.Residual(), tree.Residual():
                return self._visit_residual(source, source_node, target, target_node, space)
            case tree.Residual(), tree.Sequence():
                return self.visit(source, source_node.body, target, target_node, space)
            case tree.Sequence(), tree.Residual():
                return self.visit(source, source_node, target, target_node.body, space)
            case _:
                return space

    def _visit_residual(
        self, source: str, source_node: tree.Residual, target: str, target_node: tree.Residual, space: Channels
    ) -> Channels:
        out = self.visit(source, source_node.body, target, target_node.body, space)
        if source_node.shortcut is None and target_node.shortcut is None:
            out.join(space, added=True)  # added to the input without projection: both must keep the same channels
        if source_node.shortcut is not None and target_node.shortcut is not None:
            names = tree.join(source, tree.SHORTCUT), tree.join(target, tree.SHORTCUT)
            out.join(self.visit(names[0], source_node.shortcut, names[1], target_node.shortcut, space), added=True)
        return out


def _check_same_groups(path: str, source: tree.Convolution, target: tree.Convolution) -> None:
    """Refuse a grouped convolution of another size: which channels meet in a group would change."""
    if (source.groups, source.inputs, source.outputs) != (target.groups, target.inputs, target.outputs):
        raise NetworkError(
            f"{path} is a convolution of {source.inputs} to {source.outputs} channels in {source.groups} groups, and "
            f"the target has {target.inputs} to {target.outputs} in {target.groups}; grouped convolutions are "
            "inherited only at equal width and groups"
        )


def _check_related(source: Network, target: Network, *, pruned: bool) -> None:
    def kind(network: Network) -> dict[str, object]:
        return {
            "the stem": (network.stem.kernel, network.stem.stride, network.stem.activation, network.stem.max_pool),
            "the number of stages": len(network.stages),
            **{
                f"stage {number + 1}": (_without_inner(stage.block) if pruned else stage.block, stage.stride)
                for number, stage in enumerate(network.stages)
            },
            "the head": (network.head.width is None, network.head.activation),
            "the padding": network.padding,
        }

    ours, theirs = kind(target), kind(source)
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise NetworkError(
                f"{target.name} cannot inherit from {source.name}: they differ in {name} ({_format(theirs.get(name))} "
                f"in the source, {_format(ours.get(name))} in the target); give weights of the same family"
            )


def _without_inner(block: Block) -> Block:
    """Return a block without what pruning changes: its inner channels, and an addition that it never had."""
    fields = type(block).model_fields
    values: dict[str, object] = {
        "expansion": 2 if getattr(block, "expansion", 1) != 1 else 1,
        "reduction": 1,
        "skip": "identity",
    }
    values["se_ratio"] = float(getattr(block, "se_ratio", 0) > 0)
    return block.replace(**{name: value for name, value in values.items() if name in fields})


def _format(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(_format(part) for part in value)
    return str(value)
