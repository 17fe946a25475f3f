"""How deep, wide and large a network really came out, and points spread evenly among many."""

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
    """A network scaled from a baseline: what it costs relative to that, and its multipliers after rounding."""

    network: AnyNetwork
    ratio: float
    realized: Scale
    macs: int
    params: int


def count_exactly(network: AnyNetwork) -> Counts:
    """Count a network of blocks from its operation tree.

    Raises:
        NetworkError: A custom model, which has to be traced: pass :func:`triscale.nn.custom.trace_counts` instead.
    """
    if isinstance(network, CustomNetwork):
        raise NetworkError(f"{network.name} is a function, whose cost has to be traced; pass a function that counts it")
    return count_network(network)


def realized(baseline: AnyNetwork, network: AnyNetwork) -> Scale:
    """Return the multipliers that a network came out with after rounding.

    Depth is the ratio of the numbers of blocks; width is the geometric mean of the ratios of the stages' widths, each
    counted as often as the baseline repeats its block; resolution is the ratio of the sides.

    Args:
        baseline: What the network was scaled from.
        network: Of the same stages, or of the same function.
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
    """Return the multipliers as octaves ``[3]``: logarithms to base 2 of depth, width and resolution."""
    return np.log2([scale.depth, scale.width, scale.resolution])


def spread(points: Array, number: int, first: int, cost: Array | None = None, budget: float = math.inf) -> list[int]:
    """Choose points that lie far apart: each next one is the farthest from all that were chosen.

    Args:
        points: ``[n, dimensions]``.
        number: How many at most.
        first: Index of the one to begin with.
        cost: What each point costs ``[n]``, nothing if not given.
        budget: What the points chosen cost together at most, the first aside; one that is too expensive is passed over.

    Returns:
        Indices in the order of choice; of equally far points the first.
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
