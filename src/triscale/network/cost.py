"""The exact cost of a network: an interpreter of the operation tree.

Conventions, each with its name:

- ``params``: trained values. ``buffers``: running mean and variance of batch norm, which are stored but not trained.
- ``macs``: multiply-accumulates of convolutions, squeeze-excite and classifier for one image, no bias, no batch norm.
  The EfficientNet paper calls them FLOPS. ``macs_with_bias`` adds one per biased output, ``macs_with_norm`` adds to
  that one per normalized value (a multiply and an add).
- ``activations``: output values of convolutions, squeeze-excite and classifier for one image (Dollar et al. 2021).
- ``size_bytes``: params and buffers as float32, what a file of weights holds besides its header.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import ClassVar, NamedTuple, Self, assert_never

from triscale.network import tree
from triscale.network.input_size import size_text
from triscale.network.lower import lower
from triscale.network.spec import Network
from triscale.notebook import html_table
from triscale.record import Record, SparseRecord

BYTES_PER_VALUE = 4


class Counts(NamedTuple):
    """Additive counts of a part of a network; see the conventions in the module docstring."""

    params: int = 0
    buffers: int = 0
    macs: int = 0
    biased: int = 0
    normalized: int = 0
    activations: int = 0


class Figures(Record):
    """Exact cost of one part of a network; see the conventions in the module docstring."""

    params: int
    buffers: int
    macs: int
    macs_with_bias: int
    macs_with_norm: int
    activations: int

    @property
    def size_bytes(self) -> int:
        """Bytes of all stored values as float32."""
        return BYTES_PER_VALUE * (self.params + self.buffers)


class StageCost(Figures, SparseRecord):
    """Cost of the stem, one stage or the head, with its output shape.

    Attributes:
        name: Name of the part.
        channels: Channels of its output.
        side: Side of its output in pixels; the height if the output is not square.
        width: Width of its output in pixels if it is not square; otherwise None, and left out of JSON.
    """

    sparse: ClassVar[tuple[str, ...]] = ("width",)

    name: str
    channels: int
    side: int
    width: int | None = None

    @property
    def size(self) -> str:
        """The output's size in pixels as text: one side of a square, otherwise ``WIDTHxHEIGHT``."""
        return size_text(self.side, self.width or self.side)

    @classmethod
    def of(cls, name: str, shape: tree.Shape, counts: Counts) -> Self:
        """Return the cost of a part with its output shape."""
        width = None if shape.width == shape.height else shape.width
        return cls(name=name, channels=shape.channels, side=shape.height, width=width, **figures(counts))


class Cost(Figures):
    """Cost of a whole network, and of its parts in order; see the conventions in the module docstring.

    Attributes:
        stages: Cost of the stem, each stage and the head.

    Example:
        >>> from triscale.families import get
        >>> found = cost(get("efficientnet_b0"))
        >>> found.params, found.macs, found.stages[0].name
        (5288548, 385814752, 'stem')
    """

    kind_name: ClassVar[str] = "cost"

    stages: tuple[StageCost, ...] = ()

    def __str__(self) -> str:
        """Return the three main figures in short form."""
        return f"{si(self.params)} params, {si(self.macs)} MACs, {si(self.activations)} activations"

    def __repr__(self) -> str:
        """Return the three main figures in short form."""
        return f"Cost({self})"

    def _repr_html_(self) -> str:
        """Return the cost of each part as a table, for notebooks."""
        rows: list[tuple[object, ...]] = [
            (part.name, part.channels, part.size, f"{part.params:,}", f"{part.macs:,}", f"{part.activations:,}")
            for part in self.stages
        ]
        rows.append(("total", "", "", f"{self.params:,}", f"{self.macs:,}", f"{self.activations:,}"))
        return html_table(("part", "channels", "side", "params", "MACs", "activations"), rows, str(self))


def cost(network: Network) -> Cost:
    """Count the cost of a network and of its parts exactly.

    Args:
        network: The network; its ``resolution`` and ``classes`` count.

    Returns:
        Parameters, multiply-accumulates and activations for one image, in total and for each part.

    Example:
        >>> from triscale.families import get
        >>> str(cost(get("efficientnet_b0")))
        '5.29M params, 386M MACs, 6.75M activations'
    """
    parts: list[StageCost] = []
    total = Counts()
    for name, part in tree.children(lower(network)):
        assert isinstance(part, tree.Sequence | tree.StageNode)
        counts = _count(part)
        total = _add((total, counts))
        parts.append(StageCost.of(name, part.out, counts))
    return Cost(stages=tuple(parts), **figures(total))


def count_network(network: Network) -> Counts:
    """Count a network without its parts and without validation, for solvers that call it thousands of times."""
    return _count(lower(network))


def si(number: float) -> str:
    """Format a count with three digits and a decimal prefix.

    Example:
        >>> si(5_288_548), si(386e6), si(12)
        ('5.29M', '386M', '12')
    """
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            value = max(1.0, number / limit)
            return f"{value:.0f}{suffix}" if value >= 999.5 else f"{value:#.3g}".rstrip(".") + suffix
    return f"{number:g}"


def figures(counts: Counts) -> dict[str, int]:
    """Return the fields of :class:`Figures` for counts."""
    with_bias = counts.macs + counts.biased
    return {
        "params": counts.params,
        "buffers": counts.buffers,
        "macs": counts.macs,
        "macs_with_bias": with_bias,
        "macs_with_norm": with_bias + counts.normalized,
        "activations": counts.activations,
    }


def _count(node: tree.Node) -> Counts:
    match node:
        case tree.Convolution():
            weights = node.num_weights
            area = node.out.area
            outputs = node.outputs * area
            bias = node.outputs if node.bias else 0
            return Counts(weights + bias, 0, weights * area, bias * area, 0, outputs)
        case tree.Normalization():
            return Counts(2 * node.channels, 2 * node.channels, 0, 0, node.channels * node.area, 0)
        case tree.Linear():
            weights = node.inputs * node.outputs
            return Counts(weights + node.outputs, 0, weights, node.outputs, 0, node.outputs)
        case (
            tree.Activation()
            | tree.MaxPool()
            | tree.AveragePool()
            | tree.GlobalPool()
            | tree.Flatten()
            | tree.Dropout()
        ):
            return Counts()
        case tree.Sequence() | tree.SqueezeExcite() | tree.Residual():
            return _count_block(node)
        case tree.Root() | tree.StageNode():
            return _add(_count(child) for _, child in tree.children(node))
        case _:
            assert_never(node)


@lru_cache(maxsize=8192)
def _count_block(node: tree.Sequence | tree.SqueezeExcite | tree.Residual) -> Counts:
    """Count a part of a network; cached, because equal blocks are the same node, also in other networks."""
    return _add(_count(child) for _, child in tree.children(node))


def _add(tallies: Iterable[Counts]) -> Counts:
    return Counts(*map(sum, zip(*tallies, strict=True)))
