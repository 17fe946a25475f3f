"""Probes of a device profile: parts and whole networks of several families, over the sizes that budgets allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from triscale.families import get
from triscale.network import tree
from triscale.network.cost import count_network
from triscale.network.latency import part_figures, primitives
from triscale.network.lower import lower
from triscale.network.spec import Network
from triscale.network.tree import Shape
from triscale.scaling.apply import scale
from triscale.scaling.law import EFFICIENTNET, Scale

BASELINES = (
    "efficientnet_b0",
    "efficientnet_lite0",
    "mobilenet_v1",
    "mobilenet_v2",
    "mnasnet_a1",
    "mnasnet_b1",
    "resnet18",
    "resnet50",
)
SIZES = ((0.35, 96), (0.5, 160), (0.75, 128), (1.0, 64), (1.0, 224), (1.4, 192), (1.4, 288))
"""Width multipliers and resolutions in pixels of the networks that parts are taken from."""
MAX_PART_MACS = 4e8
"""Larger parts are not timed, since each is timed many times."""
PARTS_PER_STRUCTURE = 10
"""Number of parts with the same sequence of operations, from the smallest to the largest."""
WHOLE_PHIS = (-5.0, -2.5, -0.4)
"""Sizes of the whole networks that the predictor is fitted to."""
HELD_OUT_PHIS = (-3.3, -1.2)
"""Sizes of the whole networks that the predictor is evaluated on."""
MAX_NETWORK_MACS = 1.2e9
"""Larger networks are not timed."""

REFERENCE = ("mobilenet_v2", -2.5)
"""Name and phi of the reference network that every probe is timed against."""

Role = Literal["part", "whole", "held out"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A part of a network or a whole network to be timed.

    Attributes:
        name: Description of the structure; equal structures have equal names.
        role: ``part`` and ``whole`` are used to fit the predictor, ``held out`` to evaluate it.
        node: The operation tree.
        shape: Shape of the input.
    """

    name: str
    role: Role
    node: tree.Part
    shape: Shape

    @property
    def figures(self) -> dict[str, float]:
        """The features that latency is predicted from."""
        return part_figures(self.node, self.shape, whole=self.role != "part")


def all_probes() -> tuple[Probe, ...]:
    """Return all probes: parts, whole networks for the fit, and held-out networks for its evaluation."""
    return (*_parts(), *_whole("whole", WHOLE_PHIS), *_whole("held out", HELD_OUT_PHIS))


def probe_of(network: Network, role: Role) -> Probe:
    """Return the probe of a whole network."""
    root = lower(network)
    return Probe(network.name, role, root, root.input)


def reference_probe() -> Probe:
    """Return the reference network that every probe is timed against."""
    return probe_of(scaled(*REFERENCE), "whole")


def scaled(name: str, phi: float) -> Network:
    """Return a published network scaled with the paper's law; its name contains ``phi``."""
    return scale(get(name), EFFICIENTNET.at(phi)).replace(name=f"{name}_phi{phi:+g}")


def _whole(role: Role, phis: tuple[float, ...]) -> Iterator[Probe]:
    for name in BASELINES:
        for phi in phis:
            network = scaled(name, phi)
            if count_network(network).macs <= MAX_NETWORK_MACS:
                yield probe_of(network, role)


def _parts() -> Iterator[Probe]:
    """Yield parts of every structure, evenly spaced in the order of their MACs."""
    groups: dict[tuple[str, ...], dict[str, tuple[float, Probe]]] = defaultdict(dict)
    for name in BASELINES:
        baseline = get(name)
        for width, resolution in SIZES:
            network = scale(baseline, Scale(width=width)).replace(resolution=resolution)
            for node, shape in _units(lower(network)):
                ops = primitives(node, shape)
                macs = sum(value for key, value in part_figures(node, shape).items() if key.endswith(".macs")) * 1e6
                if ops and macs <= MAX_PART_MACS:
                    key = " ".join(
                        f"{op.kind}:{op.input.channels}>{op.out.channels}k{op.kernel}@{op.input.height}>{op.out.height}"
                        for op in ops
                    )
                    kinds = tuple(primitive.kind for primitive in ops)
                    groups[kinds][key] = (macs, Probe(key, "part", node, shape))
    for kinds in sorted(groups):
        ordered = sorted(groups[kinds].values(), key=lambda pair: (pair[0], pair[1].name))
        count = min(PARTS_PER_STRUCTURE, len(ordered))
        for index in np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int)):
            yield ordered[index][1]


def _units(root: tree.Root) -> Iterator[tuple[tree.Sequence, Shape]]:
    """Yield the stem, the head, each block, and the parts of each block, with the shapes of their inputs."""
    for path, node, shape in tree.walk(root):
        if path in ("stem", "head"):
            assert isinstance(node, tree.Sequence)
            yield node, shape
        elif path == tree.block_path(path) and isinstance(node, tree.Sequence | tree.Residual):
            yield tree.Sequence((("block", node),), node.out), shape
            yield from _block_units(node, shape)


def _block_units(block: tree.Block, shape: Shape) -> Iterator[tuple[tree.Sequence, Shape]]:
    """Yield each convolution of a block with its batch norm and activation, and its squeeze-and-excitation."""
    for name, child in tree.children(block):
        if isinstance(block, tree.Residual) and child is block.shortcut:
            continue
        if isinstance(child, tree.Sequence):
            yield child, shape
        elif isinstance(child, tree.SqueezeExcite):
            yield tree.Sequence(((name, child),), shape), shape
        shape = tree.output_shape(child, shape)
