"""A small set of networks at and below the baseline's size, from which a response can be fitted."""

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
"""How the cost grows with depth, width and resolution: ``d w^2 r^2``."""


class Design(Record):
    """Which networks are trained for a response.

    They cost from ``cheapest`` to 1 times the baseline, which is one of them. The seeds take turns, one for each
    network: a fit averages over noise, and is better off with more networks than with the same ones again. ``share``:
    what their training costs in MACs together, at most, as a share of what all candidates with all seeds would;
    ``most``: how many at most. Each dimension goes from ``-reach_down`` to ``reach_up`` octaves of cost, the others
    making room for what one has more.
    """

    share: float = Field(default=1 / 3, gt=0, le=10)
    most: int = Field(default=48, ge=5)
    cheapest: float = Field(default=0.125, gt=0, lt=1)
    reach_up: float = Field(default=1.0, gt=0, le=4)
    reach_down: float = Field(default=1.25, gt=0, le=8)


def choose_design(
    candidates: Candidates, design: Design, num_seeds: int = 1, count: Count = count_exactly
) -> tuple[ScaledNetwork, ...]:
    """Choose networks that lie far apart in depth, width and resolution and cost no more than the baseline.

    Args:
        candidates: whose baseline, cost and training compute are used.
        design: how many and how large.
        num_seeds: how many seeds each candidate would be trained with.
        count: counts a network.
    """
    pool = _pool(candidates, design, count)
    points = np.array([logs(sized.realized) * COST_WEIGHTS for sized in pool])
    macs = np.array([sized.macs for sized in pool], dtype=np.float64)
    allowed = design.share * num_seeds * sum(candidate.macs for candidate in candidates.candidates)
    baseline = int(np.argmin(np.linalg.norm(points, axis=1)))
    return tuple(pool[index] for index in spread(points, design.most, baseline, macs, allowed))


def _pool(candidates: Candidates, design: Design, count: Count) -> list[ScaledNetwork]:
    baseline, grid = candidates.baseline, candidates.grid
    # What is trained need not be matched: where candidates are measured, their training is counted all the same.
    cost = "params" if grid.cost == "params" else "macs"
    base = {"macs": candidates.baseline_macs, "params": candidates.baseline_params}[cost]
    octaves = np.arange(-design.reach_down, design.reach_up + OCTAVE_STEP / 2, OCTAVE_STEP)
    axes = (
        _distinct(baseline, name, octaves / weight)
        for name, weight in zip(Scale.model_fields, COST_WEIGHTS, strict=True)
    )
    found = []
    for depth, width, resolution in product(*axes):
        network = scale(baseline, Scale(depth=depth, width=width, resolution=resolution))
        counts = count(network)
        ratio = cost_value(counts, cost) / base
        if design.cheapest <= ratio <= 1:
            came_out = realized(baseline, network)
            name = f"{baseline.name}_d{came_out.depth:.3g}_w{came_out.width:.3g}_r{came_out.resolution:.3g}"
            named = network.replace(name=name)
            found.append(
                ScaledNetwork(network=named, ratio=ratio, realized=came_out, macs=counts.macs, params=counts.params)
            )
    return found


def _distinct(baseline: AnyNetwork, name: str, octaves: Array) -> list[float]:
    """Return the multipliers of one dimension that round to different networks; 1 stands for its own."""
    found: dict[str, float] = {baseline.structure: 1.0}
    for octave in octaves:
        multiplier = float(2.0**octave)
        found.setdefault(scale(baseline, Scale.model_validate({name: multiplier})).structure, multiplier)
    return list(found.values())
