"""Scaling laws that are a table: multipliers at some phi, and their logarithms linear in phi between them.

A law with constant coefficients has two points. A table of published networks has one for each, so that the law gives
them where it can, and networks of every cost between, below and beyond them::

    log of the multiplier
      |                          . (continues as between the last two points)
      |                  B3 *
      |            B2 *
      |      B1 *
      |  * B0
      +--0-----1-----2-----3------ phi
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from triscale.errors import BudgetError, UserError
from triscale.record import SparseRecord
from triscale.scaling.law import MAX_MULTIPLIER, SMALLEST_PHI, Axis, Law, Multiplier, Scale, phi_message
from triscale.scaling.rounding import RELEASED, ScaleRounding

AXES: tuple[Axis, ...] = ("depth", "width", "resolution")
EXACT_PLACE = 1e-9

ByStage = Multiplier | Annotated[tuple[Multiplier, ...], Field(min_length=2)]
"""One multiplier, or one for each stage from the first to the last; networks of more or fewer stages interpolate."""


class LawPoint(SparseRecord):
    """The multipliers of a law at one phi.

    Attributes:
        phi: The compound coefficient.
        depth: Multiplier of the repeats, or one for each stage.
        width: Multiplier of the widths, or one for each stage.
        resolution: Multiplier of the resolution.
        member: The published network that these multipliers are of.

    Example:
        >>> LawPoint(phi=1, depth=1.1, resolution=240 / 224, member="efficientnet_b1").width
        1.0
    """

    sparse: ClassVar[tuple[str, ...]] = ("member",)

    phi: float
    depth: ByStage = 1.0
    width: ByStage = 1.0
    resolution: Multiplier = 1.0
    member: str = ""


class _Knot(NamedTuple):
    phi: float
    value: float


class PiecewiseLaw(SparseRecord):
    """A scaling law as a table of points; see the drawing in :mod:`triscale.scaling.piecewise`.

    Attributes:
        name: The law's name.
        points: At least two points, ordered by phi; no multiplier falls from one to the next, and the cost grows.
        end: The largest phi; by default the law continues beyond the last point.
        rounding: How multipliers become whole numbers.
        source: Where the law was published.

    Example:
        >>> law = PiecewiseLaw(name="mine", points=(LawPoint(phi=0), LawPoint(phi=1, depth=(1, 2), width=1.1)))
        >>> str(law.at(1)), law.multiplier("depth", 1, place=1.0)
        ('depth x1.414, width x1.1, resolution x1', 2.0)
    """

    kind_name: ClassVar[str] = "piecewise_law"
    sparse: ClassVar[tuple[str, ...]] = ("end", "rounding", "source")

    name: str = Field(min_length=1)
    points: tuple[LawPoint, ...] = Field(min_length=2)
    end: float | None = None
    rounding: ScaleRounding = RELEASED
    source: str = ""

    @model_validator(mode="after")
    def _check_monotone(self) -> Self:
        for before, after in pairwise(self.points):
            if before.phi >= after.phi:
                raise ValueError(f"the points of a law are ordered by phi, but {after.phi:g} follows {before.phi:g}")
            for axis in AXES:
                if any(one > two for one, two in zip(*_aligned(before, after, axis), strict=True)):
                    raise ValueError(
                        f"{axis} falls from phi {before.phi:g} to {after.phi:g}; a scaling law never reduces a "
                        "dimension as phi grows"
                    )
            if all(getattr(before, axis) == getattr(after, axis) for axis in AXES):
                raise ValueError(f"nothing grows from phi {before.phi:g} to {after.phi:g}; leave one of the points out")
        return self

    def at(self, phi: float) -> Scale:
        """Return the multipliers at ``phi``, of a law of stages the geometric means over its stages.

        Args:
            phi: The compound coefficient.

        Raises:
            BudgetError: phi is not a finite number, or beyond the end of the law.
        """
        if not (math.isfinite(phi) and SMALLEST_PHI * min(self.min_phi, -1) <= phi <= self.max_phi):
            raise BudgetError(phi_message(self, phi))
        return Scale(**{axis: self._mean(axis, phi) for axis in AXES})

    def _mean(self, axis: Axis, phi: float) -> float:
        number = max(_num_stages(point, axis) for point in self.points)
        values = [self.multiplier(axis, phi, index / max(1, number - 1)) for index in range(number)]
        return values[0] if number == 1 else math.exp(math.fsum(map(math.log, values)) / number)

    def multiplier(self, axis: Axis, phi: float, place: float = 0.0) -> float:
        """Return one multiplier at ``phi``, at a place of the network."""
        knots = _knots(self, axis, place)
        low, high = next(((a, b) for a, b in pairwise(knots) if phi < b.phi), knots[-2:])
        if phi in (low.phi, high.phi) or low.value == high.value:
            return high.value if phi == high.phi else low.value
        share = (phi - low.phi) / (high.phi - low.phi)
        return float(low.value * (high.value / low.value) ** share)

    def phi_for(self, axis: Axis, multiplier: float, place: float = 0.0) -> float:
        """Return the smallest phi with this multiplier or more; infinity if it is never reached."""
        knots = _knots(self, axis, place)
        growing = [(low, high) for low, high in pairwise(knots) if low.value < high.value]
        if not growing:
            return math.inf
        low, high = next(((a, b) for a, b in growing if multiplier <= b.value), growing[-1])
        if multiplier > high.value and high != knots[-1]:
            return math.inf  # the law ends flat
        if multiplier < low.value and low != knots[0]:
            return low.phi  # it begins flat
        share = math.log(multiplier / low.value) / math.log(high.value / low.value)
        return low.phi + share * (high.phi - low.phi)

    def floor(self, axis: Axis, place: float = 0.0) -> float:
        """Return what a multiplier falls to as phi falls: 0, or the first value if it stays the same at first."""
        first, second = _knots(self, axis, place)[:2]
        return first.value if first.value == second.value else 0.0

    def nominal(self, phi: float) -> float:
        """Return the nominal ratio of MACs to the baseline's."""
        scale = self.at(phi)
        return scale.depth * scale.width**2 * scale.resolution**2

    @property
    def nominal_growth(self) -> float:
        """The mean growth of the nominal MACs over one unit of phi, from the first to the last point."""
        first, last = self.points[0].phi, self.points[-1].phi
        return float((self.nominal(last) / self.nominal(first)) ** (1 / (last - first)))

    @property
    def min_phi(self) -> float:
        """The phi at which the first multiplier falls to 1/1,000."""
        return self._extreme(1 / MAX_MULTIPLIER, -1) * (1 - 1e-9)

    @property
    def max_phi(self) -> float:
        """The end of the law, or the phi at which the first multiplier reaches 1,000."""
        fastest = self._extreme(MAX_MULTIPLIER, 1) * (1 - 1e-9)
        return fastest if self.end is None else min(fastest, self.end)

    def _extreme(self, multiplier: float, sign: int) -> float:
        """Return the phi nearest to the points at which some multiplier of the law has a value."""
        places = [index / max(1, self._stages - 1) for index in range(self._stages)]
        moving = [(axis, place) for axis in AXES for place in places if sign > 0 or not self.floor(axis, place)]
        return sign * min((sign * self.phi_for(axis, multiplier, place) for axis, place in moving), default=math.inf)

    @property
    def _stages(self) -> int:
        return max(_num_stages(point, axis) for point in self.points for axis in AXES)

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def with_rounding(law: Law | PiecewiseLaw, rounding: ScaleRounding) -> Law | PiecewiseLaw:
    """Return a law with another rounding; the paper's law becomes a table of two points.

    Raises:
        UserError: The law scales nothing.

    Example:
        >>> str(with_rounding(Law(alpha=1.2, beta=1.1, gamma=1.15), ScaleRounding(depth="nearest")))
        'alpha 1.2, beta 1.1, gamma 1.15, rounded differently'
    """
    if rounding == law.rounding:
        return law
    if isinstance(law, PiecewiseLaw):
        return law.replace(name=f"{law.name}, rounded differently", rounding=rounding)
    if law.nominal_growth == 1:
        raise UserError(f"nothing grows with the law {law}, so it has nothing to round; leave the rounding out")
    points = (LawPoint(phi=0), LawPoint(phi=1, depth=law.alpha, width=law.beta, resolution=law.gamma))
    return PiecewiseLaw(name=f"{law}, rounded differently", points=points, rounding=rounding)


def _num_stages(point: LawPoint, axis: Axis) -> int:
    value = getattr(point, axis)
    return len(value) if isinstance(value, tuple) else 1


def _aligned(before: LawPoint, after: LawPoint, axis: Axis) -> tuple[list[float], list[float]]:
    """Return the multipliers of two points at the same places."""
    number = max(_num_stages(before, axis), _num_stages(after, axis))
    places = [index / max(1, number - 1) for index in range(number)]
    one, two = ([_value_at(point, axis, place) for place in places] for point in (before, after))
    return one, two


@lru_cache(maxsize=4096)
def _knots(law: PiecewiseLaw, axis: Axis, place: float) -> tuple[_Knot, ...]:
    return tuple(_Knot(point.phi, _value_at(point, axis, place)) for point in law.points)


def _value_at(point: LawPoint, axis: Axis, place: float) -> float:
    """Return the multiplier of a point at a place; between stages its logarithm is linear."""
    values = getattr(point, axis)
    if not isinstance(values, tuple):
        return float(values)
    position = place * (len(values) - 1)
    index = min(len(values) - 2, int(position + EXACT_PLACE))
    share = position - index
    if share < EXACT_PLACE or share > 1 - EXACT_PLACE:
        return float(values[index + round(share)])
    return float(values[index] * (values[index + 1] / values[index]) ** share)


AnyLaw = Law | PiecewiseLaw
"""A scaling law as data."""
