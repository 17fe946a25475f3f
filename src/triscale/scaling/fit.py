"""The largest network of a law that keeps a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from triscale.errors import BudgetError
from triscale.network.cost import Counts, count_network
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.latency import Predictor, predict
from triscale.network.spec import Network
from triscale.record import Record
from triscale.scaling.apply import scale
from triscale.scaling.budget import MICROSECONDS, NO_PROFILE, Budget, Timed, amount, figure
from triscale.scaling.chain import RESOLUTION, STEM, Chain, Part, Step
from triscale.scaling.law import Law, Scale

GROWTH_PER_TRY = 4.0
LOOK_AHEAD = 32
SAME_PHI = 1e-6
MAX_TRACED_PHI = 16.0
MIN_TRACED_STEP = 1 / 256

Count = Callable[[Network], Counts | Timed]


class Limit(Record):
    """One limit of a budget, as asked and as achieved, in whole units; latency is predicted, in microseconds."""

    name: str
    asked: int
    achieved: int

    @property
    def used(self) -> float:
        """Share of the limit that is used, at most 1."""
        return self.achieved / self.asked

    def __str__(self) -> str:
        """Return asked and achieved in words."""
        return f"{amount(self.name, self.achieved)} of {amount(self.name, self.asked)} ({self.used:.1%} used)"


class Fit(Record):
    """The answer to a budget.

    ``phi`` gives the network by :func:`triscale.scale`, but for the ``steps``: single steps of the law that were
    taken ahead of the others because only they still fitted. ``binding`` names the limit that is used most;
    ``predictor`` predicted the latency, where that is limited.
    """

    kind_name: ClassVar[str] = "fit"

    network: AnyNetwork
    baseline: str
    law: Law
    phi: float
    scale: Scale
    steps: tuple[str, ...] = ()
    limits: tuple[Limit, ...]
    binding: str
    predictor: Predictor | None = None


def fit_budget(network: Network, law: Law, budget: Budget, predictor: Predictor | None = None) -> Fit:
    """Return the largest network on a law that keeps every limit of a budget.

    The law's networks form a chain (:mod:`triscale.scaling.chain`); the answer is the last of it that fits, and what
    is left of the budget is used by steps from further along the chain as long as they cost no more than the step
    that did not fit. So a larger budget never gives less of what is limited.

    Args:
        network: the baseline.
        law: to scale it by.
        budget: to keep.
        predictor: of a device, for a limit of latency; what it predicts keeps the limit.

    Raises:
        BudgetError: not even the smallest network of the law fits, the law never reaches the budget, or latency is
            limited without a predictor.
    """
    count = _counting(budget, predictor)
    chain = Chain(network, law, _phi_beyond(network, law, budget, count))
    length = _longest(chain, budget, count)
    if length < 0:
        raise BudgetError(_too_small(network, count(chain.at(0)), budget))
    ahead = _steps_ahead(chain, length, budget, count)
    fitted = chain.at(length, ahead)
    start, phi = _phi_of(chain, length)
    steps = _describe((*chain.steps[start:length], *ahead), network)
    answer = _answer(network, fitted, law, phi, steps, budget, count(fitted))
    return answer if budget.latency is None else answer.model_copy(update={"predictor": predictor})


def _counting(budget: Budget, predictor: Predictor | None) -> Count:
    """Return what counts networks: with their latency only where it is limited."""
    if budget.latency is None:
        return count_network
    if predictor is None:
        raise BudgetError(NO_PROFILE)
    return lambda network: Timed(count_network(network), math.ceil(predict(predictor, network) * MICROSECONDS))


def fit_budget_traced(
    network: CustomNetwork, law: Law, budget: Budget, count: Callable[[CustomNetwork], Counts]
) -> Fit:
    """Return a network that keeps a budget, where only ``count`` knows what a network costs.

    Bisection over phi, to 1/256; then, at the resolution found, over the phi of depth and width alone, which uses what
    the next step of resolution leaves. The cost need not grow evenly, but what is returned was counted and fits.

    Raises:
        BudgetError: the smallest network tried does not fit, or the law never reaches the budget.
    """
    low = -MAX_TRACED_PHI
    smallest = scale(network, law.at(low))
    counts = count(smallest)
    if not budget.admits(counts):
        raise BudgetError(_too_small(network, counts, budget))
    if law.nominal_growth == 1:
        return _answer(network, network, law, 0.0, (), budget, counts)
    largest = min(MAX_TRACED_PHI, law.largest_phi)
    high = low + 1.0
    while budget.admits(count(scale(network, law.at(high)))):
        if high >= largest:
            raise BudgetError(_never(network, law, budget, largest))
        low, high = high, min(high + 1.0, largest)
    phi = _bisect(low, high, lambda middle: budget.admits(count(scale(network, law.at(middle)))))
    fitted = scale(network, law.at(phi))

    def grown(middle: float) -> CustomNetwork:
        return scale(network, law.at(middle)).replace(resolution=fitted.resolution)

    ahead = _bisect(phi, min(phi + 2.0, law.largest_phi), lambda middle: budget.admits(count(grown(middle))))
    steps = (f"depth and width as at phi {ahead:.4g}",) if ahead > phi else ()
    return _answer(network, grown(ahead), law, phi, steps, budget, count(grown(ahead)))


def _bisect(low: float, high: float, admits: Callable[[float], bool]) -> float:
    """Return the largest number found from ``low``, which is admitted, up to ``high`` that is admitted too."""
    while high - low > MIN_TRACED_STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if admits(middle) else (low, middle)
    return low


def _answer(
    baseline: AnyNetwork,
    fitted: AnyNetwork,
    law: Law,
    phi: float,
    steps: tuple[str, ...],
    budget: Budget,
    counts: Counts | Timed,
) -> Fit:
    limits = tuple(
        Limit(name=name, asked=asked, achieved=figure(counts, name)) for name, asked in budget.limits.items()
    )
    return Fit(
        network=fitted.replace(name=f"{baseline.name}_phi{phi:+g}"),
        baseline=baseline.name,
        law=law,
        phi=phi,
        scale=law.at(phi),
        steps=steps,
        limits=limits,
        binding=max(limits, key=lambda limit: limit.used).name,
    )


def _longest(chain: Chain, budget: Budget, count: Count) -> int:
    """Return the length of the longest part of a chain whose network is admitted, -1 if none is.

    Cost grows along a chain but for one thing: a ResNet block whose input and output come to be of one width loses its
    projection. Such a bump is over in a few steps, so a few are looked at beyond the first that is not admitted.
    """
    low, high = -1, len(chain.steps) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if budget.admits(count(chain.at(middle))) else (low, middle)
    beyond = range(low + 2, min(low + LOOK_AHEAD, len(chain.steps)) + 1)
    return max((length for length in beyond if budget.admits(count(chain.at(length)))), default=low)


def _steps_ahead(chain: Chain, length: int, budget: Budget, count: Count) -> tuple[Step, ...]:
    """Return steps from beyond the first that does not fit, which use up the slack.

    A step is taken if the network then costs no less than before, in what is limited, and no more than after any step
    that did not fit. So with larger limits, the first step that is taken instead of left out makes up for all later.
    """
    if length >= len(chain.steps):
        return ()
    floor, ceiling = count(chain.at(length)), count(chain.at(length + 1))
    taken: tuple[Step, ...] = ()
    parts = {chain.steps[length].part}
    for step in chain.steps[length + 1 : length + 1 + LOOK_AHEAD]:
        if step.part in parts:
            continue
        counts = count(chain.at(length, (*taken, step)))
        if all(figure(floor, name) <= figure(counts, name) <= figure(ceiling, name) for name in budget.limits):
            if budget.admits(counts):
                taken, floor = (*taken, step), counts
                continue
            ceiling = counts
        parts.add(step.part)
    return taken


def _phi_beyond(network: Network, law: Law, budget: Budget, count: Count) -> float:
    """Return a phi well beyond the budget: the chain up to it holds the answer, and the steps ahead of it."""
    growth = law.nominal_growth
    if growth == 1:
        return 0.0
    stride = math.log(GROWTH_PER_TRY) / math.log(growth)
    phi = min(-4 * stride, law.largest_phi)
    while budget.admits(count(scale(network, law.at(phi)))):
        if phi == law.largest_phi:
            raise BudgetError(_never(network, law, budget, phi))
        phi = min(phi + stride, law.largest_phi)
    return min(phi + stride, law.largest_phi)


def _phi_of(chain: Chain, length: int) -> tuple[int, float]:
    """Return a short phi of the network after ``length`` steps, and from where on steps share one phi.

    Steps that the law asks for at the same phi are counted as steps ahead if not all of them are taken.
    """
    phis = [step.phi for step in chain.steps]
    if not phis:
        return 0, 0.0
    start = length
    while 0 < start < len(phis) and phis[start] - phis[start - 1] < SAME_PHI:
        start -= 1
    low = phis[start - 1] if start else phis[0] - 1
    high = phis[start] if start < len(phis) else low + 1
    if low < 0 < high and chain.at(start) == chain.network:
        return start, 0.0
    return start, _shortest_between(low, high)


def _shortest_between(low: float, high: float) -> float:
    """Return the number with the fewest decimals strictly between two, the lowest of them."""
    for decimals in range(12):
        shift = 10.0**decimals
        candidate = (math.floor(low * shift) + 1) / shift
        if low + SAME_PHI / 4 < candidate < high - SAME_PHI / 4:
            return candidate
    return (low + high) / 2


def _describe(steps: tuple[Step, ...], network: Network) -> tuple[str, ...]:
    """Say where each part that the steps change ends up."""
    return tuple(_describe_part(part, value, network) for part, value in {s.part: s.value for s in steps}.items())


def _describe_part(part: Part, value: int, network: Network) -> str:
    kind, index = part
    if part == RESOLUTION:
        return f"resolution {value} px"
    if kind == "depth":
        return f"stage {index}: {value} blocks"
    if part == STEM:
        return f"stem: {value} channels"
    return f"{'head' if index == len(network.stages) else f'stage {index}'}: {value} channels"


def _never(network: AnyNetwork, law: Law, budget: Budget, phi: float) -> str:
    return (
        f"the law ({law}) does not reach {budget} from {network.name} (tried up to phi {phi:.3g}): "
        "allow less, or add a limit that grows with it, such as MACs"
    )


def _too_small(network: AnyNetwork, smallest: Counts | Timed, budget: Budget) -> str:
    missed = [
        f"at least {amount(name, _rounded_up(figure(smallest, name)))}"
        for name, limit in budget.limits.items()
        if figure(smallest, name) > limit
    ]
    return (
        f"no network scaled from {network.name} keeps the budget of {budget}; the smallest needs "
        f"{' and '.join(missed)}: allow that, or start from a smaller baseline or one with fewer classes"
    )


def _rounded_up(value: int) -> int:
    """Round up to three digits, so that the amount shown is one that can be met."""
    digit = int(10.0 ** max(0, len(str(value)) - 3))
    return -(-value // digit) * digit
