"""The operation tree: the operations of a network with all shapes, and the walk over it.

Nodes are plain slotted dataclasses. They are never changed, and equal parts of a network may share a node. Interpreters
handle the primitives in an exhaustive ``match`` that ends in ``assert_never``: a new primitive needs one more case in
each, which the type checker enforces. Heights and widths of feature maps are in pixels.

::

    Root
    ├── stem                        Sequence
    ├── stages.0                    StageNode
    │   ├── blocks.0                Sequence or Residual
    │   │   ├── expand              Sequence: conv, norm, activation
    │   │   ├── depthwise           ...
    │   │   ├── se                  SqueezeExcite: reduce, activation, expand, sigmoid
    │   │   ├── project             ...
    │   │   └── shortcut            only where the input of a Residual is pooled or projected
    │   └── blocks.1 ...
    ├── stages.1 ...
    └── head                        Sequence: conv, norm, activation, pool, (wide, flatten,) dropout, classifier

:func:`children` alone defines the names of parts. The parameters of the built module, the nodes of an exported graph
and the layers in weight conversion all use them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from triscale.network.spec import ActivationKind, Padding


class Shape(NamedTuple):
    """Channels, height and width in pixels of a feature map; a vector has one pixel."""

    channels: int
    height: int = 1
    width: int = 1

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def strided(self, stride: int, channels: int | None = None) -> Shape:
        """Return the shape after a padded operation with a stride: both sides are divided and rounded up."""
        return Shape(channels or self.channels, -(-self.height // stride), -(-self.width // stride))


@dataclass(slots=True, eq=False)
class Convolution:
    """2-d convolution; each side of the output is ``ceil(side / stride)`` under both paddings.

    Each of the ``groups`` maps ``inputs / groups`` channels to ``outputs / groups``.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int
    bias: bool
    padding: Padding
    out: Shape

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is filtered separately; a grouped convolution is not depthwise."""
        return self.groups == self.inputs == self.outputs and self.groups > 1

    @property
    def num_weights(self) -> int:
        """Values of the kernel, without bias."""
        return self.outputs * (self.inputs // self.groups) * self.kernel * self.kernel


@dataclass(slots=True, eq=False)
class Normalization:
    """Batch norm over ``channels`` maps of ``area`` pixels."""

    channels: int
    eps: float
    momentum: float
    area: int


@dataclass(slots=True, eq=False)
class Activation:
    """Elementwise activation."""

    kind: ActivationKind


@dataclass(slots=True, eq=False)
class MaxPool:
    """Maximum over windows."""

    kernel: int
    stride: int
    padding: Padding


@dataclass(slots=True, eq=False)
class AveragePool:
    """Mean over windows; padded values are not counted."""

    kernel: int
    stride: int
    padding: Padding


@dataclass(slots=True, eq=False)
class GlobalPool:
    """Mean over the whole map, flattened to a vector, or (not ``flat``) as a map of one pixel."""

    flat: bool = True


@dataclass(slots=True, eq=False)
class Flatten:
    """A map of one pixel as a vector."""


@dataclass(slots=True, eq=False)
class Linear:
    """Fully connected layer with bias."""

    inputs: int
    outputs: int


@dataclass(slots=True, eq=False)
class Dropout:
    """In training, elements are set to zero with probability ``rate``."""

    rate: float


@dataclass(slots=True, eq=False)
class Sequence:
    """Named nodes, one after the other."""

    nodes: tuple[tuple[str, Node], ...]
    out: Shape


@dataclass(slots=True, eq=False)
class SqueezeExcite:
    """Squeeze-and-excitation (Hu et al. 2018): the input times ``body`` of its mean over the map."""

    body: Sequence


@dataclass(slots=True, eq=False)
class Residual:
    """``activation(shortcut(x) + body(x))``; in training a sample's body is skipped with probability ``drop_rate``."""

    body: Sequence
    shortcut: Sequence | None
    drop_rate: float
    activation: ActivationKind | None
    out: Shape


Block = Sequence | Residual


@dataclass(slots=True, eq=False)
class StageNode:
    """Blocks that repeat; the first of them has the stride."""

    blocks: tuple[Block, ...]
    out: Shape


@dataclass(slots=True, eq=False)
class Root:
    """A whole network; ``input`` is the shape of an image, ``out`` the classes."""

    input: Shape
    stem: Sequence
    stages: tuple[StageNode, ...]
    head: Sequence

    @property
    def out(self) -> Shape:
        """Shape of the logits."""
        return self.head.out


Primitive = Convolution | Normalization | Activation | MaxPool | AveragePool | GlobalPool | Flatten | Linear | Dropout
Container = Root | StageNode | Sequence | SqueezeExcite | Residual
Node = Primitive | Container
Part = Root | StageNode | Sequence | Residual
"""A part that can be built, exported or timed separately, given its input shape."""

SHORTCUT = "shortcut"


class Visit(NamedTuple):
    """A node on a walk.

    Attributes:
        path: Dotted name, the same as in the built module, such as ``stages.3.blocks.0.se.reduce``; empty for the root.
        node: The node.
        input: Shape of its input.
    """

    path: str
    node: Node
    input: Shape


def children(node: Node) -> tuple[tuple[str, Node], ...]:
    """Return the children of a node with their names relative to it, in the order of computation.

    This defines the naming. The bodies of residual blocks and of squeeze-and-excitation have no name: their nodes are
    named as children of the block.
    """
    match node:
        case Root():
            stages = tuple((f"stages.{number}", stage) for number, stage in enumerate(node.stages))
            return ("stem", node.stem), *stages, ("head", node.head)
        case StageNode():
            return tuple((f"blocks.{number}", block) for number, block in enumerate(node.blocks))
        case Sequence():
            return node.nodes
        case SqueezeExcite():
            return node.body.nodes
        case Residual():
            return node.body.nodes if node.shortcut is None else (*node.body.nodes, (SHORTCUT, node.shortcut))
        case Convolution() | Normalization() | Activation() | MaxPool() | AveragePool() | GlobalPool() | Linear():
            return ()
        case Flatten() | Dropout():
            return ()
        case _:
            assert_never(node)


def join(path: str, name: str) -> str:
    """Return the path of a child.

    Example:
        >>> join("stem", "conv"), join("", "stem")
        ('stem.conv', 'stem')
    """
    return f"{path}.{name}" if path else name


def walk(node: Node, shape: Shape | None = None, path: str = "", *, parents_last: bool = False) -> Iterator[Visit]:
    """Visit a node and all nodes below it, in the order of computation.

    Args:
        node: Where to start.
        shape: Shape of its input; may be left out for a :class:`Root`, which knows it.
        path: Prefix of all paths.
        parents_last: Whether a container is visited after its children instead of before them.

    Yields:
        Every node with its path and the shape of its input.

    Example:
        >>> from triscale.families import get
        >>> from triscale.network.lower import lower
        >>> [visit.path for visit in walk(lower(get("efficientnet_b0")))][:5]
        ['', 'stem', 'stem.conv', 'stem.norm', 'stem.activation']
    """
    if shape is None:
        assert isinstance(node, Root), "only a root knows the shape of its input"
        shape = node.input
    if not parents_last:
        yield Visit(path, node, shape)
    below = Shape(shape.channels) if isinstance(node, SqueezeExcite) else shape
    for name, child in children(node):
        is_shortcut = isinstance(node, Residual) and child is node.shortcut
        yield from walk(child, shape if is_shortcut else below, join(path, name), parents_last=parents_last)
        below = output_shape(child, below)
    if parents_last:
        yield Visit(path, node, shape)


def output_shape(node: Node, shape: Shape) -> Shape:
    """Return the output shape of a node for an input shape."""
    match node:
        case Convolution():
            return node.out
        case Normalization() | Activation() | Dropout() | SqueezeExcite():
            return shape
        case MaxPool() | AveragePool():
            return shape.strided(node.stride)
        case GlobalPool() | Flatten():
            return Shape(shape.channels)
        case Linear():
            return Shape(node.outputs)
        case Root() | StageNode() | Sequence() | Residual():
            return node.out
        case _:
            assert_never(node)


def same_pads(sides: tuple[int, ...], kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Return the SAME padding at the top, bottom, left and right of a map of ``sides`` (height, width).

    Example:
        >>> same_pads((224, 224), kernel=3, stride=2)
        (0, 1, 0, 1)
    """
    # ceil(side / stride) windows end at (ceil(side / stride) - 1) * stride + kernel; the padding fills the rest.
    height, width = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in sides)
    return height // 2, height - height // 2, width // 2, width - width // 2


def block_paths(root: Root) -> tuple[str, ...]:
    """Return the paths of all blocks in the stages of a network, in the order of computation."""
    return tuple(
        join(path, name)
        for path, stage in children(root)
        if isinstance(stage, StageNode)
        for name, _ in children(stage)
    )


def block_path(path: str) -> str:
    """Return the block that contains a path: one such as ``stages.3.blocks.1``, or ``stem`` or ``head``.

    A path with other names, such as a node of torch's exporter, is returned unchanged.

    Example:
        >>> block_path("stages.3.blocks.1.expand.conv")
        'stages.3.blocks.1'
    """
    first, *rest = path.split(".")
    if first in ("stem", "head"):
        return first
    return ".".join([first, *rest[:3]]) if first == "stages" else path


def stage_path(path: str) -> str:
    """Return the top-level part that contains a path: ``stem``, one such as ``stages.3``, or ``head``."""
    first, *rest = path.split(".")
    return join(first, rest[0]) if first == "stages" and rest else first


def stage_number(path: str) -> int | None:
    """Return the index of the stage that contains a path, from 0; None for the stem and the head."""
    stage = stage_path(path)
    return None if "." not in stage else int(stage.partition(".")[2])
