"""How long a network takes on a device, predicted from what its parts took there: no torch, no measurement.

A network is taken apart into primitives, each with figures that its time grows with. A :class:`Predictor` gives each
figure of each kind of primitive a time that is never negative, so that a network that has more of everything is never
predicted to be faster. How the times come about is the matter of :mod:`triscale.measure.profile`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, assert_never

from pydantic import Field

from triscale.errors import RecordError
from triscale.network import tree
from triscale.network.lower import INPUT_CHANNELS, lower
from triscale.network.spec import ActivationKind, Network
from triscale.network.tree import Shape
from triscale.record import Record

LANES = 16
"""Channels that engines compute together: a map of fewer costs as much."""
ROW = 6
"""Pixels of a row that they compute together."""


class Primitive(NamedTuple):
    """One operation with its shapes; batch norm is part of the convolution before it.

    Attributes:
        kind: First word of the names in :data:`FIGURES`.
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the window in pixels.
        side: Of the map that comes in.
        out_side: Of the map that goes out.
        groups: Of a grouped convolution; 1 of a depthwise one too, which is a kind of its own.
    """

    kind: str
    inputs: int
    outputs: int
    kernel: int
    side: int
    out_side: int
    groups: int = 1


FIGURES: dict[str, tuple[str, ...]] = {
    "run": ("count",),
    "edge": ("values",),
    "stem": ("count", "macs", "out"),
    "pointwise": ("count", "macs", "lane_macs", "row_macs", "in", "out", "weights"),
    "dense": ("count", "macs", "lane_macs", "row_macs", "in", "out", "weights"),
    "depthwise3": ("count", "macs", "row_macs", "in", "out"),
    "depthwise": ("count", "macs", "row_macs", "in", "out"),
    "vector": ("count", "weights"),
    "se": ("count", "values"),
    "add": ("count", "values"),
    **{kind.value: ("count", "values") for kind in ActivationKind},
    "pool": ("count", "macs", "in"),
    "mean": ("count", "values"),
    "linear": ("count", "weights"),
    "memory": ("weights", "values"),
}
"""What the time of each kind of primitive grows with; ``memory`` is of the whole: what has to come from afar."""

NAMES = tuple(f"{kind}.{name}" for kind, names in FIGURES.items() for name in names)
_START = {kind: NAMES.index(f"{kind}.{names[0]}") for kind, names in FIGURES.items()}

Vector = tuple[float, ...]


class Predictor(Record):
    """Milliseconds of each figure, and how well whole networks are predicted that had no part in the fit.

    Attributes:
        engine: What computes.
        threads: That compute.
        processor: Of the device.
        milliseconds: By the names in :data:`NAMES`, in units of 1 count or 10^6 others; what is absent is 0.
        error: Median of ``|forecast / measured - 1|`` over the networks held out.
        error_90: 90th percentile of it.
        held_out: How many they were.
    """

    kind_name: ClassVar[str] = "predictor"
    schema_number: ClassVar[int] = 2

    engine: str
    threads: int = Field(ge=1)
    processor: str
    milliseconds: dict[str, float]
    error: float
    error_90: float
    held_out: int

    def __str__(self) -> str:
        """Return whose times they are and how far off they may be, in words."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return (
            f"{self.engine} on {threads} of {self.processor}; {self.held_out} networks held out are off by "
            f"{self.error:.0%} (median), {self.error_90:.0%} (9 of 10)"
        )


class Timing(Record):
    """What was timed: a part of a network or a whole one.

    Attributes:
        name: Of what it is made of.
        role: ``part``, ``whole`` (a network of the fit) or ``held out`` (one that the forecast is judged by).
        figures: By the names in :data:`NAMES`.
        milliseconds: That it took.
        beside: Milliseconds of one and the same network in the same turns, which tell how fast the device was then.
    """

    name: str
    role: Literal["part", "whole", "held out"]
    figures: dict[str, float]
    milliseconds: float = Field(gt=0)
    beside: float = Field(gt=0)


class DeviceProfile(Record):
    """How long parts of networks take on a device.

    Attributes:
        engine: What computes.
        threads: That compute.
        processor: Of the device.
        system: Of the device.
        versions: Of the software that was used, by name.
        timings: What was timed so far.
        predictor: Made of them; None until all are there.
    """

    kind_name: ClassVar[str] = "profile"
    schema_number: ClassVar[int] = 2

    engine: str
    threads: int = Field(ge=1)
    processor: str
    system: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    timings: tuple[Timing, ...] = ()
    predictor: Predictor | None = None


def load_predictor(file: Path) -> Predictor:
    """Return the predictor of a profile.

    Raises:
        RecordError: The file is no profile, or one that is not finished.
    """
    found = DeviceProfile.load(file).predictor
    if found is None:
        raise RecordError(f"{file} is not finished; resume it: triscale profile --out {file}")
    return found


def predict(predictor: Predictor, network: Network) -> float:
    """Return the milliseconds that a network is predicted to take for one image."""
    return predict_figures(predictor, figures_of(network))


def predict_figures(predictor: Predictor, figures: dict[str, float]) -> float:
    """Return the milliseconds that something with these figures is predicted to take."""
    times = predictor.milliseconds
    return sum(times[name] * value for name, value in figures.items() if name in times)


def figures_of(network: Network) -> dict[str, float]:
    """Return the figures of a whole network, by name, those that are not 0."""
    return part_figures(lower(network), Shape(INPUT_CHANNELS, network.resolution), whole=True)


def part_figures(node: tree.Part, shape: Shape, *, whole: bool = False) -> dict[str, float]:
    """Return the figures of a part that runs alone; converting the layout of its input and output takes time too.

    Args:
        node: The part.
        shape: Shape of its input.
        whole: Whether it is a whole network, whose weights have left the processor's cache before its next run.
    """
    edges = [Primitive("run", 0, 0, 0, 0, 0)]
    if not whole:
        edges += [
            Primitive("edge", edge.channels, edge.channels, 1, edge.side, edge.side) for edge in (shape, node.out)
        ]
    vectors = [_figures(edge) for edge in edges]
    body = _total(node, shape)
    total = _add([body, *vectors])
    found = {name: value for name, value in zip(NAMES, total, strict=True) if value}
    if not whole:
        found = {name: value for name, value in found.items() if not name.startswith("memory.")}
    return found


def primitives(node: tree.Node, shape: Shape) -> tuple[Primitive, ...]:
    """Return the primitives of a part in the order of computation.

    Args:
        node: The part.
        shape: Shape of its input.
    """
    visits = tree.walk(node, shape, parents_last=True)
    return tuple(primitive for visit in visits for primitive in _own_primitives(visit))


def _own_primitives(visit: tree.Visit) -> tuple[Primitive, ...]:
    """Return what a node computes itself, apart from the nodes below it."""
    node, (channels, side) = visit.node, visit.input
    match node:
        case tree.Convolution():
            kind = _convolution_kind(node, side)
            groups = 1 if node.is_depthwise else node.groups
            return (Primitive(kind, channels, node.outputs, node.kernel, side, node.out_side, groups),)
        case tree.Normalization() | tree.Dropout():
            return ()
        case tree.Activation():
            return (Primitive(node.kind.value, channels, channels, 1, side, side),)
        case tree.MaxPool() | tree.AveragePool():
            out = tree.output_shape(node, visit.input)
            return (Primitive("pool", channels, channels, node.kernel, side, out.side),)
        case tree.GlobalPool():
            return (Primitive("mean", channels, channels, side, side, 1),)
        case tree.Linear():
            return (Primitive("linear", node.inputs, node.outputs, 1, 1, 1),)
        case tree.SqueezeExcite():
            return (Primitive("se", channels, channels, 1, side, side),)
        case tree.Residual():
            added = Primitive("add", node.out.channels, node.out.channels, 1, node.out.side, node.out.side)
            return (added,) if node.activation is None else (added, added._replace(kind=node.activation.value))
        case tree.Root() | tree.StageNode() | tree.Sequence():
            return ()
        case _:
            assert_never(node)


def _convolution_kind(node: tree.Convolution, side: int) -> str:
    if node.is_depthwise:
        return "depthwise3" if node.kernel <= 3 else "depthwise"
    if node.inputs < LANES // 2:
        return "stem"
    if node.kernel > 1:
        return "dense"
    return "vector" if side == 1 else "pointwise"


def _total(node: tree.Part, shape: Shape) -> Vector:
    """Sum up the figures of a part."""
    if isinstance(node, tree.Sequence | tree.Residual):
        return _block_total(node, shape)
    total: list[Vector] = []
    for _, child in tree.children(node):
        assert isinstance(child, tree.StageNode | tree.Sequence | tree.Residual)
        total.append(_total(child, shape))
        shape = child.out
    return _add(total)


@lru_cache(maxsize=8192)
def _block_total(node: tree.Sequence | tree.Residual, shape: Shape) -> Vector:
    """Sum up the figures of a block; cached, because equal blocks are the same node, also in other networks."""
    return _add(map(_figures, primitives(node, shape)))


@lru_cache(maxsize=8192)
def _figures(primitive: Primitive) -> Vector:
    """Return the figures of one primitive: counts as they are, the others in millions."""
    kind, inputs, outputs, kernel, side, out_side, groups = primitive
    depthwise = kind.startswith(("depthwise", "pool"))
    area, out_area = side * side, out_side * out_side
    weights = outputs * kernel * kernel * (1 if depthwise else inputs // groups)
    lanes = _up(outputs, LANES) * kernel * kernel * (1 if depthwise else _up(inputs // groups, LANES))
    values = {
        "count": 1e6,
        "macs": weights * out_area,
        "lane_macs": lanes * out_area,
        "row_macs": (lanes if depthwise else weights) * out_side * _up(out_side, ROW),
        "in": inputs * area,
        "out": outputs * out_area,
        "values": inputs * area,
        "weights": weights,
    }
    found = [0.0] * len(NAMES)
    for number, name in enumerate(FIGURES[kind]):
        found[_START[kind] + number] = values[name] / 1e6
    weighty = kind in ("stem", "pointwise", "dense", "depthwise3", "depthwise", "vector", "linear")
    if weighty:
        found[_START["memory"]] = weights / 1e6
        found[_START["memory"] + 1] = outputs * out_area / 1e6
    return tuple(found)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _add(vectors: Iterable[Vector]) -> Vector:
    return tuple(map(sum, zip(*vectors, strict=True))) or (0.0,) * len(NAMES)
