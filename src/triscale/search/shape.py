"""Realized multipliers of scaled networks after rounding, and selection of points that are far apart."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from triscale.errors import NetworkError
from triscale.network.cost import Counts, count_network
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Network
from triscale.record import Record
from triscale.scaling.law import Scale

Array = NDArray[np.float64]


class ScaledNetwork(Record):
    """A network scaled from a baseline, with its cost ratio and its multipliers after rounding."""

    network: AnyNetwork
    ratio: float
    realized: Scale
    macs: int
    params: int


def count_exactly(network: AnyNetwork) -> Counts:
    """Count a network of blocks from its operation tree.

    Raises:
        NetworkError: It is a custom model, which must be traced; pass :func:`triscale.nn.trace.trace_counts` instead.
    """
    if isinstance(network, CustomNetwork):
        raise NetworkError(
            f"{network.name} is a custom model, whose cost has to be traced; pass a function that counts it"
        )
    return count_network(network)


def realized(baseline: AnyNetwork, network: AnyNetwork) -> Scale:
    """Return the multipliers of a scaled network after rounding.

    Depth is the ratio of the numbers of blocks. Width is the geometric mean of the ratios of the stages' widths,
    weighted by the baseline's repeats. Resolution is the ratio of the resolutions.

    Args:
        baseline: The network that was scaled.
        network: The scaled network, with the same stages or the same function.

    Example:
        >>> from triscale.families import get
        >>> baseline = get("efficientnet_b0")
        >>> realized(baseline, baseline)
        Scale(depth=1.0, width=1.0, resolution=1.0)
    """
    resolution = network.resolution / baseline.resolution
    if isinstance(baseline, Network) and isinstance(network, Network):
        pairs = list(zip(baseline.stages, network.stages, strict=True))
        logs = sum(old.repeats * math.log(new.width / old.width) for old, new in pairs)
        depth = network.num_blocks / baseline.num_blocks
        return Scale(depth=depth, width=math.exp(logs / baseline.num_blocks), resolution=resolution)
    assert isinstance(baseline, CustomNetwork)
    assert isinstance(network, CustomNetwork)
    return Scale(depth=network.depth / baseline.depth, width=network.width / baseline.width, resolution=resolution)


def logs(scale: Scale) -> Array:
    """Return the multipliers in octaves ``[3]``: base-2 logarithms of depth, width and resolution.

    Example:
        >>> logs(Scale(depth=2, width=1, resolution=4)).tolist()
        [1.0, 0.0, 2.0]
    """
    return np.log2([scale.depth, scale.width, scale.resolution])


def spread(points: Array, number: int, first: int, cost: Array | None = None, budget: float = math.inf) -> list[int]:
    """Choose points that are far apart by farthest-point sampling.

    Args:
        points: ``[n, dimensions]``.
        number: Maximum number of points.
        first: Index of the point to start with.
        cost: Cost of each point ``[n]``; None for no cost.
        budget: Maximum total cost; points that would exceed it are skipped, except the first.

    Returns:
        Indices in the order of choice; ties go to the first.

    Example:
        >>> spread(np.array([[0.0], [1.0], [4.0], [9.0]]), number=3, first=0)
        [0, 3, 2]
    """
    chosen, spent = [first], 0.0 if cost is None else float(cost[first])
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < min(number, len(points)):
        affordable = np.ones(len(points), bool) if cost is None else spent + cost <= budget
        affordable[chosen] = False
        if not affordable.any():
            break
        chosen.append(int(np.argmax(np.where(affordable, distance, -1))))
        spent += 0.0 if cost is None else float(cost[chosen[-1]])
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen
