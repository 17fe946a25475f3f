"""What is timed for a device profile: parts and whole networks of all families, over the sizes that budgets ask for."""

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
"""Widths and resolutions in pixels of the networks that parts are taken of."""
MAX_MACS = 4e8
"""Parts with more take too long to be timed often."""
PER_KIND = 10
"""Parts of one make-up, from the smallest to the largest."""
WHOLE_PHIS = (-5.0, -2.5, -0.4)
HELD_OUT_PHIS = (-3.3, -1.2)
MAX_WHOLE = 1.2e9

REFERENCE = ("mobilenet_v2", -2.5)
"""The network that everything is timed beside."""

Role = Literal["part", "whole", "held out"]


@dataclass(frozen=True, slots=True)
class Probe:
    """Something to be timed.

    Attributes:
        name: of what it is made of, so that the same part has the same name.
        role: what its time is for.
        node: what is computed.
        shape: of its input.
    """

    name: str
    role: Role
    node: tree.Part
    shape: Shape

    @property
    def figures(self) -> dict[str, float]:
        """What its time is to be explained by."""
        return part_figures(self.node, self.shape, whole=self.role != "part")


def all_probes() -> tuple[Probe, ...]:
    """Return everything to be timed: parts, whole networks of the fit, networks that are held out of it."""
    return (*_parts(), *_whole("whole", WHOLE_PHIS), *_whole("held out", HELD_OUT_PHIS))


def beside() -> Probe:
    """Return the network that everything is timed beside."""
    network = scaled(*REFERENCE)
    return Probe(network.name, "whole", lower(network), Shape(network.in_channels, network.resolution))


def scaled(name: str, phi: float) -> Network:
    """Return a published network scaled along the paper's law, named after both."""
    return scale(get(name), EFFICIENTNET.at(phi)).replace(name=f"{name}_phi{phi:+g}")


def _whole(role: Role, phis: tuple[float, ...]) -> Iterator[Probe]:
    for name in BASELINES:
        for phi in phis:
            network = scaled(name, phi)
            if count_network(network).macs <= MAX_WHOLE:
                yield Probe(network.name, role, lower(network), Shape(network.in_channels, network.resolution))


def _parts() -> Iterator[Probe]:
    """Yield parts of every make-up, spread evenly over how much they compute."""
    groups: dict[tuple[str, ...], dict[str, tuple[float, Probe]]] = defaultdict(dict)
    for name in BASELINES:
        baseline = get(name)
        for width, resolution in SIZES:
            network = scale(baseline, Scale(width=width)).replace(resolution=resolution)
            for node, shape in _pieces(lower(network)):
                made = primitives(node, shape)
                macs = sum(value for key, value in part_figures(node, shape).items() if key.endswith(".macs")) * 1e6
                if made and macs <= MAX_MACS:
                    words = " ".join(f"{p.kind}:{p.inputs}>{p.outputs}k{p.kernel}@{p.side}>{p.out_side}" for p in made)
                    kinds = tuple(primitive.kind for primitive in made)
                    groups[kinds][words] = (macs, Probe(words, "part", node, shape))
    for kinds in sorted(groups):
        ordered = sorted(groups[kinds].values(), key=lambda pair: (pair[0], pair[1].name))
        places = np.unique(np.linspace(0, len(ordered) - 1, min(PER_KIND, len(ordered))).round().astype(int))
        for place in places:
            yield ordered[place][1]


def _pieces(root: tree.Root) -> Iterator[tuple[tree.Sequence, Shape]]:
    """Yield the stem, the head, each block, and the parts of each block, with the shapes of their inputs."""
    for path, node, shape in tree.walk(root):
        if path in ("stem", "head"):
            assert isinstance(node, tree.Sequence)
            yield node, shape
        elif path == tree.block_path(path) and isinstance(node, tree.Sequence | tree.Residual):
            yield tree.Sequence((("block", node),), node.out), shape
            yield from _units(node, shape)


def _units(block: tree.Block, shape: Shape) -> Iterator[tuple[tree.Sequence, Shape]]:
    """Yield each convolution of a block with its batch norm and activation, and its squeeze-and-excitation."""
    for name, child in tree.children(block):
        if isinstance(block, tree.Residual) and child is block.shortcut:
            continue
        if isinstance(child, tree.Sequence):
            yield child, shape
        elif isinstance(child, tree.SqueezeExcite):
            yield tree.Sequence(((name, child),), shape), shape
        shape = tree.output_shape(child, shape)
