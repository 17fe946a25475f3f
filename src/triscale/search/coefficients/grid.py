"""Candidates of the coefficient search: triples on a grid, matched on the real cost of their networks.

STEP 1 of Tan & Le 2019 (section 3.3) takes all (alpha, beta, gamma) with ``alpha * beta^2 * gamma^2`` of about 2
(equation 3). That product is not the real cost: for EfficientNet-B0, triples with a product of 2 cost 1.9-3.3 times the
baseline, because widths, repeats and resolution are rounded. Here a triple is a candidate if its network has the target
cost, and triples that round to the same network are one candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triscale.errors import SearchError
from triscale.network.cost import Counts
from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.scaling.apply import resolution_multiple, scale
from triscale.scaling.budget import LABELS, cost_value, format_cost
from triscale.scaling.law import Law, Scale
from triscale.search.shape import ScaledNetwork, count_exactly, logs, realized, spread

Count = Callable[[AnyNetwork], Counts]
Price = Callable[[AnyNetwork, Counts], float]
"""Returns the cost to match, given a network and its counts."""

FLOAT_NOISE = 1e-9
MAX_NETWORKS = 100_000
DIMENSIONS = {"alpha": "depth", "beta": "width", "gamma": "resolution"}


class Grid(Record):
    """The grid of coefficients, and the cost that candidates must have.

    Attributes:
        phi: The compound coefficient of the candidates; negative values give networks below the baseline.
        target: Cost factor of one unit of phi: a candidate costs ``target ** phi`` times the baseline.
        tolerance: Maximum relative deviation from that cost.
        cost: What is matched: counted MACs or parameters, or measured latency.
        step: Step of all coefficients, which start at 1.
        alpha_to: Maximum of alpha; by default, also for beta and gamma, what a single dimension needs to double MACs.
        beta_to: Maximum of beta.
        gamma_to: Maximum of gamma.
        number: Maximum number of candidates, those farthest apart; None keeps all.

    Example:
        >>> Grid(step=0.25).axis("beta")
        (1.0, 1.25, 1.5)
    """

    kind_name: ClassVar[str] = "grid"

    phi: float = Field(default=1.0, ge=-10, le=10)
    target: float = Field(default=2.0, gt=1, le=100)
    tolerance: float = Field(default=0.05, ge=0, lt=1)
    cost: Literal["macs", "params", "latency"] = "macs"
    step: float = Field(default=0.05, ge=0.001, le=1)
    alpha_to: float = Field(default=2.0, ge=1, le=10)
    beta_to: float = Field(default=1.5, ge=1, le=10)
    gamma_to: float = Field(default=1.5, ge=1, le=10)
    number: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check_phi(self) -> Self:
        if self.phi == 0:
            raise ValueError("at phi 0 every law gives the baseline; give another phi")
        return self

    @property
    def ratio(self) -> float:
        """The cost of a candidate relative to the baseline, before tolerance."""
        return math.pow(self.target, self.phi)

    def axis(self, name: str) -> tuple[float, ...]:
        """Return the values of ``alpha``, ``beta`` or ``gamma``."""
        last = {"alpha": self.alpha_to, "beta": self.beta_to, "gamma": self.gamma_to}[name]
        steps = int((last - 1) / self.step + FLOAT_NOISE)
        return tuple(round(1 + number * self.step, 10) for number in range(steps + 1))

    def laws(self) -> Iterator[Law]:
        """Yield every triple of the grid, regardless of cost."""
        for alpha, beta, gamma in product(*(self.axis(name) for name in DIMENSIONS)):
            yield Law(alpha=alpha, beta=beta, gamma=gamma)


class Candidate(ScaledNetwork):
    """A network of the target cost, with all triples that round to it.

    These are all combinations of ``alphas``, ``betas`` and ``gammas``. ``law`` is the triple whose nominal growth is
    nearest to the target, so that larger phi stay close to it. ``nominal`` is ``(alpha * beta^2 * gamma^2) ** phi`` of
    the law, to compare with the real ``ratio``.
    """

    law: Law
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    gammas: tuple[float, ...]
    nominal: float


class Candidates(Record):
    """All candidates of a grid, in the order of alpha, beta, gamma.

    ``unchanged`` names coefficients whose whole range rounds to the same network: the search gives no evidence on them.
    ``num_dropped`` is the number of candidates that were dropped to keep ``grid.number``.
    """

    kind_name: ClassVar[str] = "candidates"

    baseline: AnyNetwork
    baseline_macs: int
    baseline_params: int
    grid: Grid
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    num_dropped: int = 0
    unchanged: tuple[str, ...] = ()


def find_candidates(
    baseline: AnyNetwork, grid: Grid, count: Count = count_exactly, price: Price | None = None
) -> Candidates:
    """Return the networks of a grid that have its target cost.

    Args:
        baseline: The network to scale.
        grid: The triples and the cost.
        count: Counts the cost of a network; the default does not support custom models.
        price: Returns the latency of a network in milliseconds, for ``grid.cost`` of ``latency``.

    Raises:
        SearchError: No network has the target cost (the message names the nearest), or no gamma changes the resolution.

    Example:
        >>> from triscale.families import get
        >>> found = find_candidates(get("efficientnet_b0"), Grid(step=0.25, tolerance=0.2))
        >>> all(abs(candidate.ratio / 2 - 1) <= 0.2 for candidate in found.candidates)
        True
    """

    def counted_price(network: AnyNetwork, counts: Counts) -> float:
        del network
        return cost_value(counts, grid.cost)

    price = price or counted_price
    counts = count(baseline)
    base = price(baseline, counts)
    target_cost = grid.ratio * base
    # Dimensions are rounded independently, so the distinct networks are the product of the distinct values of each.
    groups = {name: _groups(baseline, grid, name) for name in DIMENSIONS}
    sizes = [len(group) for group in groups.values()]
    if np.prod(sizes) > MAX_NETWORKS:
        raise SearchError(
            f"a step of {grid.step:g} gives {' x '.join(map(str, sizes))} networks; up to {MAX_NETWORKS} can be "
            "counted: give a larger step or a smaller range"
        )
    if len(groups["gamma"]) == 1 and len(grid.axis("gamma")) > 1:
        raise SearchError(
            f"the resolution of {baseline.name} ({baseline.resolution} px, in steps of "
            f"{resolution_multiple(baseline)}) does not change for any gamma up to {grid.gamma_to:g} at phi "
            f"{grid.phi:g}; give a larger --gamma-to, or --gamma-to 1 to search depth and width alone"
        )
    matching: list[Candidate] = []
    nearest, gap = None, np.inf
    for alphas, betas, gammas in product(*groups.values()):
        law = _nearest_to_target(alphas, betas, gammas, grid)
        network = scale(baseline, law.at(grid.phi))
        counted = count(network)
        cost = price(network, counted)
        candidate = _candidate(baseline, network, law, (alphas, betas, gammas), grid, counted, cost / base)
        # The real cost decides, not alpha * beta^2 * gamma^2 (equation 3 of the paper).
        deviation = abs(cost - target_cost) / target_cost
        if deviation <= grid.tolerance + FLOAT_NOISE:
            matching.append(candidate)
        if deviation < gap:
            nearest, gap = candidate, deviation
    assert nearest is not None
    if not matching:
        raise SearchError(_no_match_message(baseline, grid, nearest, gap, base))
    selected = matching if grid.number is None else _spread(matching, grid)
    return Candidates(
        baseline=baseline,
        baseline_macs=counts.macs,
        baseline_params=counts.params,
        grid=grid,
        candidates=tuple(selected),
        num_dropped=len(matching) - len(selected),
        unchanged=tuple(name for name, group in groups.items() if len(group) == 1 and len(grid.axis(name)) > 1),
    )


def _groups(baseline: AnyNetwork, grid: Grid, name: str) -> list[tuple[float, ...]]:
    """Group values of one coefficient that round to the same network; each dimension is rounded independently."""
    groups: dict[str, tuple[float, ...]] = {}
    for value in grid.axis(name):
        network = scale(baseline, Scale.model_validate({DIMENSIONS[name]: value**grid.phi}))
        groups[network.structure] = (*groups.get(network.structure, ()), value)
    return list(groups.values())


def _nearest_to_target(
    alphas: tuple[float, ...], betas: tuple[float, ...], gammas: tuple[float, ...], grid: Grid
) -> Law:
    laws = (Law(alpha=alpha, beta=beta, gamma=gamma) for alpha, beta, gamma in product(alphas, betas, gammas))
    return min(laws, key=lambda law: abs(law.nominal_growth - grid.target))


def _candidate(
    baseline: AnyNetwork,
    network: AnyNetwork,
    law: Law,
    values: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]],
    grid: Grid,
    counted: Counts,
    ratio: float,
) -> Candidate:
    alphas, betas, gammas = values
    name = f"{baseline.name}_a{law.alpha:g}_b{law.beta:g}_g{law.gamma:g}"
    return Candidate(
        network=network.replace(name=name if grid.phi == 1 else f"{name}_phi{grid.phi:+g}"),
        law=law,
        alphas=alphas,
        betas=betas,
        gammas=gammas,
        nominal=law.nominal_growth**grid.phi,
        ratio=ratio,
        realized=realized(baseline, network),
        macs=counted.macs,
        params=counted.params,
    )


def _spread(candidates: list[Candidate], grid: Grid) -> list[Candidate]:
    """Keep the candidate nearest to the target and those farthest from it and from each other, in grid order."""
    assert grid.number is not None
    points = np.array([logs(candidate.realized) for candidate in candidates])
    first = min(range(len(candidates)), key=lambda index: abs(candidates[index].ratio - grid.ratio))
    return [candidates[index] for index in sorted(spread(points, grid.number, first))]


def _no_match_message(baseline: AnyNetwork, grid: Grid, nearest: Candidate, gap: float, base: float) -> str:
    target = f"{grid.ratio:.3g}x the {_label(grid)} of {baseline.name}"
    nearest_text = (
        f"the nearest on the grid is alpha {nearest.law.alpha:g}, beta {nearest.law.beta:g}, gamma "
        f"{nearest.law.gamma:g} with {nearest.ratio:.4g}x "
        f"({_amount(grid, nearest.ratio * base)})"
    )
    # A far miss needs another range of coefficients; a near one only a larger tolerance.
    if gap > max(grid.tolerance, 0.25):
        return (
            f"no network on the grid costs {target}: {nearest_text}; give another target, or a range of coefficients "
            f"that reaches it (alpha to {grid.alpha_to:g}, beta to {grid.beta_to:g}, gamma to {grid.gamma_to:g} now)"
        )
    return (
        f"no candidate costs {target} within {grid.tolerance:.3g} of it: {nearest_text}; "
        f"allow a tolerance of {_rounded_up(gap)}, or give a smaller step"
    )


def _rounded_up(gap: float) -> str:
    """Format a share with three decimals, rounded up."""
    return f"{np.ceil(gap * 1000) / 1000:.3f}"


def _label(grid: Grid) -> str:
    return "latency" if grid.cost == "latency" else LABELS[grid.cost]


def _amount(grid: Grid, value: float) -> str:
    return f"{value:.3g} ms" if grid.cost == "latency" else format_cost(grid.cost, value)
