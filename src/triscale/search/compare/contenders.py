"""Networks of equal real cost: depth only, width only, resolution only and compound (Tan & Le 2019, Tables 3 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field

from triscale.errors import NetworkError, SearchError
from triscale.network.cost import Counts
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.record import Record
from triscale.scaling.apply import scale
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, Limit, fit_budget
from triscale.scaling.law import EFFICIENTNET, Law, Scale
from triscale.search.coefficients.grid import Count
from triscale.search.shape import count_exactly, realized

Way = Literal["baseline", "depth", "width", "resolution", "compound"]
FitAny = Callable[[AnyNetwork, Law, Budget], Fit]

LAWS: dict[Way, Law] = {
    "depth": Law(alpha=2, beta=1, gamma=1),
    "width": Law(alpha=1, beta=2**0.5, gamma=1),
    "resolution": Law(alpha=1, beta=1, gamma=2**0.5),
}
"""One dimension alone, so that one unit of phi nominally doubles the MACs."""


ROUNDS = 3
EVEN = 0.03
"""Networks whose costs are as near to each other as this are not fitted again; it would cost all of them size."""
WORTH = 3.0
"""Of the rounds the one is taken that is best in evenness, which is worth three times as much, and size together."""


class Contender(Record):
    """A network of the comparison: how it was scaled, MACs as asked and achieved, multipliers after rounding."""

    way: Way
    network: AnyNetwork
    law: Law | None
    phi: float
    macs: Limit
    params: int
    realized: Scale


class Comparison(Record):
    """A baseline and what it is scaled to in four ways at the same real cost.

    ``baseline`` is the network that all are compared with: the one asked for, at ``phi`` of the law.
    """

    kind_name: ClassVar[str] = "comparison"

    baseline: AnyNetwork
    times: float = Field(gt=1)
    law: Law
    phi: float
    contenders: tuple[Contender, ...]

    @property
    def unevenness(self) -> float:
        """By what share the cheapest of the four scaled networks stays behind the dearest."""
        costs = [contender.macs.achieved for contender in self.contenders if contender.way != "baseline"]
        return 1 - min(costs) / max(costs)


def fit_exactly(network: AnyNetwork, law: Law, budget: Budget) -> Fit:
    """Fit a network of blocks to a budget.

    Raises:
        NetworkError: a person's own, which has to be traced: pass :func:`triscale.jobs.core.networks.fit_any` instead.
    """
    if isinstance(network, CustomNetwork):
        raise NetworkError(f"{network.name} is a function, whose cost has to be traced; pass a function that fits it")
    return fit_budget(network, law, budget)


def equal_cost(
    baseline: AnyNetwork,
    times: float,
    *,
    law: Law = EFFICIENTNET,
    phi: float = 0.0,
    fit: FitAny = fit_exactly,
    count: Count = count_exactly,
) -> Comparison:
    """Scale a baseline in four ways to ``times`` its MACs, none above that and as even as they get.

    Each way gives the largest network of its law that keeps the limit. One of them may stay behind, since its steps are
    coarse; the others are then fitted again to what that one came to, if that makes them more even at little loss.

    Args:
        baseline: any network.
        times: how many more MACs are allowed.
        law: of the compound way.
        phi: where on the law the comparison begins; a negative one makes all networks smaller.
        fit: fits any of the networks to a budget.
        count: counts any of the networks.

    Raises:
        SearchError: a comparison that cannot be made.
        BudgetError: the baseline does not grow in one of the ways.
    """
    if times <= 1:
        raise SearchError(f"{times:g} times the cost scales nothing up; give more than 1, such as 4")
    if law.nominal_growth == 1:
        raise SearchError(f"the law ({law}) scales nothing; give one with a coefficient above 1")
    start = baseline if phi == 0 else scale(baseline, law.at(phi)).replace(name=f"{baseline.name}_phi{phi:+g}")
    counts = count(start)
    asked = limit = int(times * counts.macs)
    rounds: list[Comparison] = []
    for _ in range(ROUNDS):
        contenders = [_contender("baseline", start, start, None, 0.0, counts.macs, counts)]
        for way, along in {**LAWS, "compound": law}.items():
            fitted = fit(start, along, Budget(macs=limit))
            network = fitted.network.replace(name=f"{start.name}_{way}_x{times:g}")
            contenders.append(_contender(way, start, network, along, fitted.phi, asked, count(network)))
        rounds.append(Comparison(baseline=start, times=times, law=law, phi=phi, contenders=tuple(contenders)))
        lowest = min(contender.macs.achieved for contender in contenders[1:])
        if rounds[-1].unevenness <= EVEN:
            break
        limit = lowest
    return min(rounds, key=_badness)


def _badness(comparison: Comparison) -> float:
    most_used = max(contender.macs.used for contender in comparison.contenders[1:])
    return WORTH * comparison.unevenness + (1 - most_used)


def _contender(
    way: Way, start: AnyNetwork, network: AnyNetwork, law: Law | None, phi: float, asked: int, counts: Counts
) -> Contender:
    return Contender(
        way=way,
        network=network,
        law=law,
        phi=phi,
        macs=Limit(name="macs", requested=asked, achieved=counts.macs),
        params=counts.params,
        realized=realized(start, network),
    )
