"""Fit a custom model to a budget by building and counting it at several sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from triscale.errors import BudgetError, NetworkError
from triscale.network.cost import Counts
from triscale.network.custom import CustomNetwork
from triscale.scaling.apply import scale_by_law
from triscale.scaling.budget import Budget, BudgetedCounts, cost_value
from triscale.scaling.fit import Fit, make_fit, too_small_message, unreachable_message
from triscale.scaling.law import ScalingLaw
from triscale.scaling.piecewise import AnyLaw

Count = Callable[[CustomNetwork], Counts | BudgetedCounts]
"""Returns the counts of a custom model, with its latency if that is limited."""

MAX_TRACED_PHI = 16.0
MULTIPLIERS = ("depth", "width")
"""What the function of a custom model is called with, besides the classes."""
MIN_TRACED_STEP = 1 / 256


def fit_budget_traced(network: CustomNetwork, law: AnyLaw, budget: Budget, count: Count) -> Fit:
    """Fit a custom model to a budget, with a function that counts its cost.

    The search begins at phi 0, where the model runs, and goes only towards the budget. A size at which the model fails
    is a wall like one that is too large: it is never the result. A bisection over phi, to 1/256, finds the resolution.
    A second one over the phi of depth and width at that resolution uses the remaining budget. The cost need not grow
    monotonically, but the result was counted and fits.

    Args:
        network: The custom model.
        law: The scaling law.
        budget: The limits.
        count: Returns the counts of a custom model.

    Raises:
        NetworkError: The model cannot be built or run at its own size.
        BudgetError: The smallest network is too large, or the law never reaches the budget.
    """
    probe = _Probe(network, law, budget, count)
    own_size = probe.fits(scale_by_law(network, law, 0.0))
    if isinstance(own_size, NetworkError):
        raise own_size
    if law.nominal_growth == 1:
        if not own_size:
            raise BudgetError(too_small_message(network, count(network), budget))
        return make_fit(network, network, law, 0.0, (), budget, count(network))
    ignored = ignored_multipliers(network, count)
    if own_size and len(ignored) == len(MULTIPLIERS) and budget.limits.keys() <= {"params", "size"}:
        raise BudgetError(f"{unreachable_message(network, law, budget, 0.0)}; {ignored_note(network, ignored)}")
    low, high = probe.upwards(0.0, probe.at) if own_size else probe.downwards()
    if high is None:
        raise BudgetError(unreachable_message(network, law, budget, low))
    phi = _bisect(low, high, lambda middle: probe.fits(probe.at(middle)) is True)
    fitted = probe.at(phi)

    def grown(middle: float) -> CustomNetwork:
        return probe.at(middle).replace(resolution=fitted.resolution)

    larger_phi = phi
    if _grows_layers(law) and len(ignored) < len(MULTIPLIERS):
        low, high = probe.upwards(phi, grown)
        larger_phi = low if high is None else _bisect(low, high, lambda middle: probe.fits(grown(middle)) is True)
    steps = (f"depth and width as at phi {larger_phi:.4g}",) if larger_phi > phi else ()
    return make_fit(network, grown(larger_phi), law, phi, steps, budget, count(grown(larger_phi)))


def _grows_layers(law: ScalingLaw) -> bool:
    """Return whether a law scales depth or width, and not only the resolution."""
    return any(not math.isinf(law.phi_for(axis, 2.0, place)) for axis in ("depth", "width") for place in (0.0, 1.0))


def ignored_multipliers(network: CustomNetwork, count: Count) -> tuple[str, ...]:
    """Return which of depth and width a custom model ignores: doubled, they change neither its weights nor its MACs.

    Args:
        network: The custom model.
        count: Returns the counts of a custom model.
    """

    def figures(counted: CustomNetwork) -> tuple[int, int]:
        counts = count(counted)
        return cost_value(counts, "params"), cost_value(counts, "macs")

    own, ignored = figures(network), []
    for name in MULTIPLIERS:
        try:
            if figures(network.replace(**{name: 2 * getattr(network, name)})) == own:
                ignored.append(name)
        except NetworkError:  # it does something with the multiplier
            continue
    return tuple(ignored)


def ignored_note(network: CustomNetwork, ignored: Sequence[str]) -> str:
    """Return the sentence about multipliers that a custom model ignores."""
    doubled = " and ".join(f"{name} {2 * getattr(network, name):g}" for name in ignored)
    verb = "gives" if len(ignored) == 1 else "give"
    return (
        f"{doubled} {verb} the same parameters and MACs as {getattr(network, ignored[0]):g}; "
        f"does {network.function} use {' and '.join(ignored)}?"
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """Tries sizes of a custom model."""

    network: CustomNetwork
    law: AnyLaw
    budget: Budget
    count: Count

    def at(self, phi: float) -> CustomNetwork:
        return scale_by_law(self.network, self.law, phi)

    def fits(self, network: CustomNetwork) -> bool | NetworkError:
        """Return whether a network is within the budget, or why it cannot be built or run."""
        try:
            return self.budget.admits(self.count(network))
        except NetworkError as error:
            return error

    def upwards(self, low: float, network_at: Callable[[float], CustomNetwork]) -> tuple[float, float | None]:
        """Return a phi that fits and a larger one that does not, starting at one that fits; None if all fit."""
        largest = min(MAX_TRACED_PHI, self.law.max_phi)
        while low < largest:
            high = min(low + 1.0, largest)
            if self.fits(network_at(high)) is not True:
                return low, high
            low = high
        return low, None

    def downwards(self) -> tuple[float, float]:
        """Return a phi that fits and a larger one that does not, below 0, which is too large.

        Raises:
            BudgetError: No size at which the model runs is small enough.
        """
        high = low = 0.0
        found: bool | NetworkError = False
        while found is False and low > -MAX_TRACED_PHI:
            high, low = low, low - 1.0
            found = self.fits(self.at(low))
        wall = found if isinstance(found, NetworkError) else None
        # Between a size that fails and one that is too large, some may fit.
        while wall is not None and high - low > MIN_TRACED_STEP:
            middle = (low + high) / 2
            found = self.fits(self.at(middle))
            if found is True:
                return middle, high
            low, high = (low, middle) if found is False else (middle, high)
            wall = found if isinstance(found, NetworkError) else wall
        if wall is not None:
            smallest = too_small_message(self.network, self.count(self.at(high)), self.budget)
            raise BudgetError(f"{smallest}; smaller sizes fail: {wall}")
        if found is False:
            raise BudgetError(too_small_message(self.network, self.count(self.at(low)), self.budget))
        return low, high


def _bisect(low: float, high: float, admits: Callable[[float], bool]) -> float:
    """Return the largest admitted number that a bisection finds between ``low``, which is admitted, and ``high``."""
    while high - low > MIN_TRACED_STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if admits(middle) else (low, middle)
    return low
