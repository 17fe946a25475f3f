"""The experimental design of a response: a small set of networks at and below the baseline's size."""

from __future__ import annotations

from itertools import product

import numpy as np
from pydantic import Field

from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.scaling.apply import scale
from triscale.scaling.budget import cost_value
from triscale.scaling.law import Scale
from triscale.search.coefficients.grid import Candidates, Count
from triscale.search.shape import Array, ScaledNetwork, count_exactly, logs, realized, spread

OCTAVE_STEP = 0.25
COST_WEIGHTS = np.array([1.0, 2.0, 2.0])
"""Exponents of the cost in depth, width and resolution: ``d * w^2 * r^2`` (Tan & Le 2019, equation 3)."""


class Design(Record):
    """Which networks are trained to fit a response.

    They cost from ``cheapest`` to 1 times the baseline, which is one of them. Each network is trained with one seed, in
    turn: the fit averages over noise, and more networks help it more than repetitions.

    Attributes:
        share: Maximum training MACs of all networks, as a share of those of all candidates with all seeds.
        max_networks: Maximum number of networks.
        cheapest: Minimum cost relative to the baseline.
        reach_up: Upper end of each dimension, in octaves of cost; the other dimensions shrink to compensate.
        reach_down: Lower end of each dimension, in octaves of cost below the baseline.
    """

    share: float = Field(default=1 / 3, gt=0, le=10)
    max_networks: int = Field(default=48, ge=5)
    cheapest: float = Field(default=0.125, gt=0, lt=1)
    reach_up: float = Field(default=1.0, gt=0, le=4)
    reach_down: float = Field(default=1.25, gt=0, le=8)


def choose_design(
    candidates: Candidates, design: Design, num_seeds: int = 1, count: Count = count_exactly
) -> tuple[ScaledNetwork, ...]:
    """Choose networks that are far apart in depth, width and resolution and cost no more than the baseline.

    Args:
        candidates: The candidates, which give the baseline, the cost and the training compute to compare with.
        design: Number and size of the networks.
        num_seeds: Number of seeds that each candidate would be trained with.
        count: Counts the cost of a network.
    """
    pool = _pool(candidates, design, count)
    points = np.array([logs(sized.realized) * COST_WEIGHTS for sized in pool])
    macs = np.array([sized.macs for sized in pool], dtype=np.float64)
    allowed = design.share * num_seeds * sum(candidate.macs for candidate in candidates.candidates)
    baseline = int(np.argmin(np.linalg.norm(points, axis=1)))
    return tuple(pool[index] for index in spread(points, design.max_networks, baseline, macs, allowed))


def _pool(candidates: Candidates, design: Design, count: Count) -> list[ScaledNetwork]:
    baseline, grid = candidates.baseline, candidates.grid
    # Design networks need not match a cost exactly: for a latency target their size is still counted in MACs.
    cost = "params" if grid.cost == "params" else "macs"
    base = {"macs": candidates.baseline_macs, "params": candidates.baseline_params}[cost]
    octaves = np.arange(-design.reach_down, design.reach_up + OCTAVE_STEP / 2, OCTAVE_STEP)
    axes = (
        _distinct(baseline, name, octaves / weight)
        for name, weight in zip(Scale.model_fields, COST_WEIGHTS, strict=True)
    )
    pool = []
    for depth, width, resolution in product(*axes):
        network = scale(baseline, Scale(depth=depth, width=width, resolution=resolution))
        counts = count(network)
        ratio = cost_value(counts, cost) / base
        if design.cheapest <= ratio <= 1:
            multipliers = realized(baseline, network)
            name = f"{baseline.name}_d{multipliers.depth:.3g}_w{multipliers.width:.3g}_r{multipliers.resolution:.3g}"
            named = network.replace(name=name)
            pool.append(
                ScaledNetwork(network=named, ratio=ratio, realized=multipliers, macs=counts.macs, params=counts.params)
            )
    return pool


def _distinct(baseline: AnyNetwork, name: str, octaves: Array) -> list[float]:
    """Return multipliers of one dimension that round to different networks; the baseline keeps exactly 1."""
    multipliers: dict[str, float] = {baseline.structure: 1.0}
    for octave in octaves:
        multiplier = float(2.0**octave)
        multipliers.setdefault(scale(baseline, Scale.model_validate({name: multiplier})).structure, multiplier)
    return list(multipliers.values())
