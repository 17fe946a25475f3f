"""Latency prediction of a network on a device from a device profile: without torch and without measurement.

A network is decomposed into primitives, each with features ("figures") that its latency grows with. A
:class:`Predictor` is a linear model with a nonnegative coefficient for each figure of each kind of primitive, so that a
larger network is never predicted to be faster. :mod:`triscale.measurement.profile` fits the coefficients.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, assert_never

from pydantic import Field

from triscale.errors import NetworkError, RecordError
from triscale.network import tree
from triscale.network.lower import lower
from triscale.network.spec import ActivationKind, MBConv, Network
from triscale.network.tree import Shape
from triscale.record import Record

PROFILES_FOLDER = Path(__file__).parent / "profiles"
"""Profiles fitted to published throughput; ``benchmarks/accelerator_throughput.py`` writes them."""
LANES = 16
"""SIMD width in channels: fewer channels cost as much."""
ROW = 6
"""Pixels of a row that engines compute together."""


class Primitive(NamedTuple):
    """One operation with its shapes; batch norm is part of the convolution before it.

    Attributes:
        kind: First word of the names in :data:`FIGURES`.
        input: Shape of the input.
        out: Shape of the output.
        kernel: Side of the window in pixels.
        groups: Groups of a convolution; 1 for a depthwise convolution, which is its own kind.
    """

    kind: str
    input: Shape
    out: Shape
    kernel: int = 1
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
"""Figures of each kind of primitive; ``memory`` counts values of the whole network that miss the cache."""

SIMILAR = {
    ActivationKind.HARD_SWISH.value: ActivationKind.SILU.value,
    ActivationKind.HARD_SIGMOID.value: ActivationKind.SIGMOID.value,
}
"""Activations that the networks of a profile do not contain, and those that engines compute alike."""

PUBLISHED_THROUGHPUT = "published throughput"
"""The engine of the built-in profiles."""
NAMES = tuple(f"{kind}.{name}" for kind, names in FIGURES.items() for name in names)
_START = {kind: NAMES.index(f"{kind}.{names[0]}") for kind, names in FIGURES.items()}

Vector = tuple[float, ...]


class Predictor(Record):
    """A linear latency model of a device, with its error on networks that were held out of the fit.

    Attributes:
        engine: The inference engine.
        threads: Its number of threads.
        processor: The device's processor.
        milliseconds: Coefficients by the names in :data:`NAMES`, per count or per million of other figures; missing
            names are 0.
        error: Median of ``|predicted / measured - 1|`` over the held-out networks.
        error_90: Its 90th percentile.
        held_out: Number of held-out networks.
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

    def measured_range(self, predicted_ms: float) -> tuple[float, float | None]:
        """Return the range in which the measured latency lay for 9 of 10 held-out networks, for a predicted latency.

        Args:
            predicted_ms: The prediction in milliseconds.

        Returns:
            Both ends in milliseconds; the upper one is None if predictions are off by 100% or more.

        Example:
            >>> Predictor(engine="torch", threads=1, processor="x", milliseconds={}, error=0.05, error_90=0.25,
            ...           held_out=10).measured_range(20)
            (16.0, 26.666666666666668)
        """
        # |predicted / measured - 1| <= e  is  predicted / (1 + e) <= measured <= predicted / (1 - e).
        high = predicted_ms / (1 - self.error_90) if self.error_90 < 1 else None
        return predicted_ms / (1 + self.error_90), high

    def __str__(self) -> str:
        """Describe the device and the prediction error."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''} of "
        device = f"{'' if self.engine == PUBLISHED_THROUGHPUT else threads}{self.processor}"
        return (
            f"{self.engine} on {device}; {self.held_out} networks held out are off by {100 * self.error:.2g}% "
            f"(median), {100 * self.error_90:.2g}% (9 of 10)"
        )


class Timing(Record):
    """The measured latency of a part of a network or of a whole network.

    Attributes:
        name: Description of the part or network.
        role: ``part``, ``whole`` (a network of the fit) or ``held out`` (one that predictions are evaluated on).
        figures: Its figures by the names in :data:`NAMES`.
        milliseconds: Its latency.
        reference_ms: Latency of a fixed reference network in the same rounds, which shows the speed of the device.
    """

    name: str
    role: Literal["part", "whole", "held out"]
    figures: dict[str, float]
    milliseconds: float = Field(gt=0)
    reference_ms: float = Field(gt=0)


class DeviceProfile(Record):
    """The latency profile of a device: timings of parts and networks, and the predictor fitted to them.

    Attributes:
        engine: The inference engine.
        threads: Its number of threads.
        processor: The device's processor.
        system: The device's operating system.
        versions: Names and versions of the software.
        timings: The timings so far.
        predictor: The predictor; None until all timings are there.
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


def built_in_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that come with the package, fitted to published throughput.

    They hold for networks like those that were measured: MBConv blocks of EfficientNet-B0's widths at 224 px. A latency
    of 0.5 ms stands for 2,000 images per second at the batch size of the publication.

    Example:
        >>> built_in_profiles()
        ('a100', 'rtx3090', 'tpuv2', 'tpuv3')
    """
    return tuple(sorted(path.stem for path in PROFILES_FOLDER.glob("*.json")))


def load_predictor(file: Path) -> Predictor:
    """Return the predictor of a profile: of a file, or one of :func:`built_in_profiles` by its name.

    Raises:
        RecordError: The file is not a profile, or the profile is not finished.
    """
    if not file.exists() and str(file) in built_in_profiles():
        return Predictor.load(PROFILES_FOLDER / f"{file}.json")
    if not file.exists() and not file.suffix:
        raise RecordError(
            f"there is no profile {file}; give a file that triscale profile wrote, or one of the built-in profiles "
            f"{', '.join(built_in_profiles())}"
        )
    predictor = DeviceProfile.load(file).predictor
    if predictor is None:
        raise RecordError(f"{file} is not finished; resume it: triscale profile --out {file}")
    return predictor


def predict(predictor: Predictor, network: Network) -> float:
    """Predict the latency of a network for one image, in milliseconds.

    Raises:
        NetworkError: A built-in profile was fitted to MBConv blocks only, and the network has others.
    """
    if predictor.engine == PUBLISHED_THROUGHPUT:
        others = [stage.block.kind for stage in network.stages if not isinstance(stage.block, MBConv)]
        if others:
            raise NetworkError(
                f"the throughput on {predictor.processor} was published for networks of mbconv blocks, and "
                f"{network.name} has {others[0]} blocks; measure a profile with triscale profile"
            )
    return predict_figures(predictor, figures_of(network))


def predict_figures(predictor: Predictor, figures: dict[str, float]) -> float:
    """Predict the latency in milliseconds from figures by name.

    An activation that the profile has no figures of is predicted as the most similar one, see :data:`SIMILAR`.
    """
    times = predictor.milliseconds
    measured = {name.partition(".")[0] for name in times}
    total = 0.0
    for name, value in figures.items():
        kind, _, figure = name.partition(".")
        known = kind if kind in measured else SIMILAR.get(kind, kind)
        total += times.get(f"{known}.{figure}", 0.0) * value
    return total


def figures_of(network: Network) -> dict[str, float]:
    """Return the nonzero figures of a whole network by name.

    Example:
        >>> from triscale.families import get
        >>> figures_of(get("efficientnet_b0"))["run.count"]
        1.0
    """
    root = lower(network)
    return part_figures(root, root.input, whole=True)


def part_figures(node: tree.Part, shape: Shape, *, whole: bool = False) -> dict[str, float]:
    """Return the figures of a part that runs alone, including layout conversion of its input and output.

    Args:
        node: The part.
        shape: Shape of its input.
        whole: Whether it is a whole network, whose weights do not stay in the cache between two runs.
    """
    edges = [Primitive("run", Shape(0, 0, 0), Shape(0, 0, 0), 0)]
    if not whole:
        edges += [Primitive("edge", edge, edge) for edge in (shape, node.out)]
    vectors = [_figures(edge) for edge in edges]
    body = _total(node, shape)
    total = _add([body, *vectors])
    figures = {name: value for name, value in zip(NAMES, total, strict=True) if value}
    if not whole:
        figures = {name: value for name, value in figures.items() if not name.startswith("memory.")}
    return figures


def primitives(node: tree.Node, shape: Shape) -> tuple[Primitive, ...]:
    """Return the primitives of a part in the order of computation.

    Args:
        node: The part.
        shape: Shape of its input.
    """
    visits = tree.walk(node, shape, parents_last=True)
    return tuple(primitive for visit in visits for primitive in _own_primitives(visit))


def _own_primitives(visit: tree.Visit) -> tuple[Primitive, ...]:
    """Return the primitives of a node itself, without its children's."""
    node, shape = visit.node, visit.input
    match node:
        case tree.Convolution():
            kind = _convolution_kind(node, shape)
            groups = 1 if node.is_depthwise else node.groups
            return (Primitive(kind, shape, node.out, node.kernel, groups),)
        case tree.Normalization() | tree.Flatten() | tree.Dropout():
            return ()
        case tree.Activation():
            return (Primitive(node.kind.value, shape, shape),)
        case tree.MaxPool() | tree.AveragePool():
            return (Primitive("pool", shape, tree.output_shape(node, shape), node.kernel),)
        case tree.GlobalPool():
            return (Primitive("mean", shape, Shape(shape.channels)),)
        case tree.Linear():
            return (Primitive("linear", Shape(node.inputs), Shape(node.outputs)),)
        case tree.SqueezeExcite():
            return (Primitive("se", shape, shape),)
        case tree.Residual():
            added = Primitive("add", node.out, node.out)
            return (added,) if node.activation is None else (added, added._replace(kind=node.activation.value))
        case tree.Root() | tree.StageNode() | tree.Sequence():
            return ()
        case _:
            assert_never(node)


def _convolution_kind(node: tree.Convolution, shape: Shape) -> str:
    if node.is_depthwise:
        return "depthwise3" if node.kernel <= 3 else "depthwise"
    if node.inputs < LANES // 2:
        return "stem"
    if node.kernel > 1:
        return "dense"
    return "vector" if shape.area == 1 else "pointwise"


def _total(node: tree.Part, shape: Shape) -> Vector:
    """Sum the figures of a part."""
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
    """Sum the figures of a block; cached, because equal blocks are the same node, also in other networks."""
    return _add(map(_figures, primitives(node, shape)))


@lru_cache(maxsize=8192)
def _figures(primitive: Primitive) -> Vector:
    """Return the figures of one primitive: counts as they are, the others in millions."""
    kind, shape, out, kernel, groups = primitive
    inputs, outputs = shape.channels, out.channels
    depthwise = kind.startswith(("depthwise", "pool"))
    weights = outputs * kernel * kernel * (1 if depthwise else inputs // groups)
    lanes = _round_up(outputs, LANES) * kernel * kernel * (1 if depthwise else _round_up(inputs // groups, LANES))
    # lane_macs and row_macs count the work including idle SIMD lanes and incomplete rows of pixels.
    values = {
        "count": 1e6,
        "macs": weights * out.area,
        "lane_macs": lanes * out.area,
        "row_macs": (lanes if depthwise else weights) * out.height * _round_up(out.width, ROW),
        "in": inputs * shape.area,
        "out": outputs * out.area,
        "values": inputs * shape.area,
        "weights": weights,
    }
    figures = [0.0] * len(NAMES)
    for number, name in enumerate(FIGURES[kind]):
        figures[_START[kind] + number] = values[name] / 1e6
    has_weights = kind in ("stem", "pointwise", "dense", "depthwise3", "depthwise", "vector", "linear")
    if has_weights:
        figures[_START["memory"]] = weights / 1e6
        figures[_START["memory"] + 1] = outputs * out.area / 1e6
    return tuple(figures)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _add(vectors: Iterable[Vector]) -> Vector:
    return tuple(map(sum, zip(*vectors, strict=True))) or (0.0,) * len(NAMES)
