"""Networks of equal real cost: depth only, width only, resolution only and compound (Tan & Le 2019, Tables 3 and 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from pydantic import Field

from triscale.errors import NetworkError, SearchError
from triscale.network.cost import Counts
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.record import Record
from triscale.scaling.apply import network_at
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, Limit, fit_budget
from triscale.scaling.law import EFFICIENTNET, Scale
from triscale.scaling.named_laws import NAMED_LAWS
from triscale.scaling.piecewise import AnyLaw
from triscale.search.coefficients.grid import Count
from triscale.search.shape import count_exactly, realized

Way = str
"""How a network was scaled: ``baseline``, ``depth``, ``width``, ``resolution``, ``compound``, or the name of a law."""
FitAny = Callable[[AnyNetwork, AnyLaw, Budget], Fit]

_SINGLE: tuple[Way, ...] = ("depth", "width", "resolution")
LAWS: dict[Way, AnyLaw] = {way: NAMED_LAWS[way] for way in _SINGLE}
"""Laws that scale one dimension; one unit of phi nominally doubles the MACs."""


MAX_TIMES = 1000
ROUNDS = 3
EVEN = 0.03
"""Relative cost difference below which networks are not fitted again, which would make all of them smaller."""
WORTH = 3.0
"""Weight of unevenness against unused budget in the choice of the best round."""


class Contender(Record):
    """A network of a comparison: its law, requested and achieved MACs, and multipliers after rounding."""

    way: Way
    network: AnyNetwork
    law: AnyLaw | None
    phi: float
    macs: Limit
    params: int
    realized: Scale


class Comparison(Record):
    """A baseline and its scaled networks by four methods, or by several laws, at the same real cost.

    ``baseline`` is the network that all are compared with: the requested one, scaled to ``phi`` of the law.
    """

    kind_name: ClassVar[str] = "comparison"
    schema_number: ClassVar[int] = 2

    baseline: AnyNetwork
    times: float = Field(gt=1)
    law: AnyLaw
    phi: float
    contenders: tuple[Contender, ...]

    @property
    def unevenness(self) -> float:
        """Relative cost difference between the cheapest and the most expensive scaled network."""
        costs = [contender.macs.achieved for contender in self.contenders if contender.way != "baseline"]
        return 1 - min(costs) / max(costs)


def fit_exactly(network: AnyNetwork, law: AnyLaw, budget: Budget) -> Fit:
    """Fit a network of blocks to a budget.

    Raises:
        NetworkError: A custom model must be traced; pass :func:`triscale.jobs.core.networks.fit_any` instead.
    """
    if isinstance(network, CustomNetwork):
        raise NetworkError(
            f"{network.name} is a custom model, whose cost has to be traced; pass a function that fits it"
        )
    return fit_budget(network, law, budget)


def equal_cost(
    baseline: AnyNetwork,
    times: float,
    *,
    law: AnyLaw = EFFICIENTNET,
    laws: Mapping[Way, AnyLaw] | None = None,
    phi: float = 0.0,
    fit: FitAny = fit_exactly,
    count: Count = count_exactly,
) -> Comparison:
    """Scale a baseline by depth, width, resolution and all three, or by given laws, at nearly equal cost.

    Each method gives the largest network of its law within ``times`` the baseline's MACs. If one of them falls short
    because its steps are coarse, the others are fitted again to that network's cost, if this makes the costs more even
    at little loss.

    Args:
        baseline: The network to scale.
        times: Maximum MACs of a scaled network relative to the baseline, above 1.
        law: The law of compound scaling, and of ``phi``.
        laws: Laws by name that are compared instead of depth, width, resolution and ``law``.
        phi: Point of the law where the comparison starts; negative values make all networks smaller.
        fit: Fits a network to a budget.
        count: Counts the cost of a network.

    Raises:
        SearchError: ``times`` or the law does not scale anything up.
        BudgetError: The baseline does not grow by one of the methods.

    Example:
        >>> from triscale.families import get
        >>> comparison = equal_cost(get("efficientnet_b0"), times=2)
        >>> [contender.way for contender in comparison.contenders]
        ['baseline', 'depth', 'width', 'resolution', 'compound']
    """
    if times <= 1:
        raise SearchError(f"a comparison at {times:g} times the cost needs no scaling; give more than 1, such as 4")
    if not times <= MAX_TIMES:
        raise SearchError(
            f"a comparison at {times:g} times the cost is not possible; give up to {MAX_TIMES:,}, such as 4"
        )
    if law.nominal_growth == 1:
        raise SearchError(f"the law ({law}) does not scale anything; give one with a coefficient above 1")
    ways = {**LAWS, "compound": law} if laws is None else dict(laws)
    start = baseline if phi == 0 else network_at(baseline, law, phi)
    counts = count(start)
    requested = limit = int(times * counts.macs)
    rounds: list[Comparison] = []
    for _ in range(ROUNDS):
        contenders = [_contender("baseline", start, start, None, 0.0, counts.macs, counts)]
        for way, along in ways.items():
            fitted = fit(start, along, Budget(macs=limit))
            network = fitted.network.replace(name=f"{start.name}_{way}_x{times:g}")
            contenders.append(_contender(way, start, network, along, fitted.phi, requested, count(network)))
        rounds.append(Comparison(baseline=start, times=times, law=law, phi=phi, contenders=tuple(contenders)))
        # The cheapest network is limited by its coarse steps; fit the others to its cost in the next round.
        lowest = min(contender.macs.achieved for contender in contenders[1:])
        if rounds[-1].unevenness <= EVEN:
            break
        limit = lowest
    return min(rounds, key=_round_penalty)


def _round_penalty(comparison: Comparison) -> float:
    most_used = max(contender.macs.used for contender in comparison.contenders[1:])
    return WORTH * comparison.unevenness + (1 - most_used)


def _contender(
    way: Way, start: AnyNetwork, network: AnyNetwork, law: AnyLaw | None, phi: float, requested: int, counts: Counts
) -> Contender:
    return Contender(
        way=way,
        network=network,
        law=law,
        phi=phi,
        macs=Limit(name="macs", requested=requested, achieved=counts.macs),
        params=counts.params,
        realized=realized(start, network),
    )
