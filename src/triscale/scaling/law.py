"""Scaling laws: a rule from one number, phi, to the multipliers of depth, width and resolution.

:class:`Law` is compound scaling, ``depth = alpha^phi, width = beta^phi, resolution = gamma^phi`` (Tan & Le 2019,
equation 3; https://arxiv.org/abs/1905.11946). Others follow the same protocol, :class:`ScalingLaw`; see
:mod:`triscale.scaling.piecewise` and :mod:`triscale.scaling.named_laws`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from triscale.errors import BudgetError
from triscale.record import Record, by_position
from triscale.scaling.rounding import RELEASED, ScaleRounding

MAX_MULTIPLIER = 1000.0

SMALLEST_PHI = 100.0
"""A law is defined down to this multiple of ``min_phi``: there the multipliers leave the floating-point range."""

Multiplier = Annotated[float, Field(gt=0, le=MAX_MULTIPLIER)]
Coefficient = Annotated[float, Field(ge=1, le=100)]
Axis = Literal["depth", "width", "resolution"]


class Scale(Record):
    """Multipliers of a baseline's depth, width and resolution (the paper's d, w, r).

    Example:
        >>> str(Scale(depth=1.2, width=1.1)), Scale(1.2, 1.1) == Scale(depth=1.2, width=1.1)
        ('depth x1.2, width x1.1, resolution x1', True)
    """

    kind_name: ClassVar[str] = "scale"

    depth: Multiplier = 1.0
    width: Multiplier = 1.0
    resolution: Multiplier = 1.0

    if TYPE_CHECKING:

        def __init__(self, depth: float = 1.0, width: float = 1.0, resolution: float = 1.0) -> None: ...

    @classmethod
    def _positional(cls, values: tuple[Any, ...]) -> dict[str, Any]:
        return by_position(cls, values)

    def __str__(self) -> str:
        """Return the three multipliers as text."""
        return f"depth x{self.depth:.4g}, width x{self.width:.4g}, resolution x{self.resolution:.4g}"


class ScalingLaw(Protocol):
    """What every scaling law answers.

    Multipliers never fall as phi grows, so that the networks of a law form a chain of growing cost, and a budget has
    one answer. ``place`` is the position in the network: 0 at the stem and the first stage, 1 at the last stage and the
    head; most laws scale all places alike.
    """

    def at(self, phi: float) -> Scale:
        """Return the multipliers at ``phi``; those of a law of stages are the geometric means over its stages."""

    def multiplier(self, axis: Axis, phi: float, place: float = 0.0) -> float:
        """Return one multiplier at ``phi``, at a place of the network."""

    def phi_for(self, axis: Axis, multiplier: float, place: float = 0.0) -> float:
        """Return the smallest phi with this multiplier or more; infinity if it is never reached."""

    def floor(self, axis: Axis, place: float = 0.0) -> float:
        """Return what a multiplier falls to as phi falls: 0, or where the law stops shrinking that dimension."""

    def nominal(self, phi: float) -> float:
        """Return the ratio of MACs to the baseline's by the multipliers, ``d * w^2 * r^2``, before rounding."""

    @property
    def nominal_growth(self) -> float:
        """The factor by which one unit of phi multiplies the nominal MACs, on average; 1 if nothing is scaled."""

    @property
    def min_phi(self) -> float:
        """The smallest phi that a user may give."""

    @property
    def max_phi(self) -> float:
        """The largest phi: the end of the law, or where a multiplier reaches 1,000."""

    @property
    def rounding(self) -> ScaleRounding:
        """How multipliers become whole channels, blocks and pixels."""


class Law(Record):
    """Scaling coefficients, each at least 1; one unit of phi multiplies MACs by about ``nominal_growth``.

    Attributes:
        alpha: Base of the depth multiplier.
        beta: Base of the width multiplier.
        gamma: Base of the resolution multiplier.

    Example:
        >>> law = Law(alpha=1.2, beta=1.1, gamma=1.15)
        >>> str(law.at(1)), round(law.nominal_growth, 2)
        ('depth x1.2, width x1.1, resolution x1.15', 1.92)
    """

    kind_name: ClassVar[str] = "law"

    alpha: Coefficient
    beta: Coefficient
    gamma: Coefficient

    if TYPE_CHECKING:

        def __init__(self, alpha: float, beta: float, gamma: float) -> None: ...

    @classmethod
    def _positional(cls, values: tuple[Any, ...]) -> dict[str, Any]:
        return by_position(cls, values)

    def at(self, phi: float) -> Scale:
        """Return the multipliers at ``phi``; fractions and negative numbers (smaller than the baseline) are allowed.

        Args:
            phi: The compound coefficient.

        Returns:
            ``alpha^phi``, ``beta^phi`` and ``gamma^phi``.

        Raises:
            BudgetError: phi is not a finite number, or a multiplier is not between 0 and 1,000.

        Example:
            >>> str(Law(alpha=1.2, beta=1.1, gamma=1.15).at(2))
            'depth x1.44, width x1.21, resolution x1.322'
        """
        if not (math.isfinite(phi) and SMALLEST_PHI * self.min_phi <= phi <= self.max_phi):
            raise BudgetError(phi_message(self, phi))
        return Scale(depth=self.alpha**phi, width=self.beta**phi, resolution=self.gamma**phi)

    def multiplier(self, axis: Axis, phi: float, place: float = 0.0) -> float:  # noqa: ARG002
        """Return one multiplier at ``phi``, which is the same at all places."""
        return float(self._coefficient(axis) ** phi)

    def phi_for(self, axis: Axis, multiplier: float, place: float = 0.0) -> float:  # noqa: ARG002
        """Return the phi with this multiplier: equation 3 solved for phi; infinity if the coefficient is 1."""
        coefficient = self._coefficient(axis)
        return math.inf if coefficient == 1 else math.log(multiplier) / math.log(coefficient)

    def floor(self, axis: Axis, place: float = 0.0) -> float:  # noqa: ARG002
        """Return what a multiplier falls to as phi falls: 0, or 1 if the coefficient is 1."""
        return 1.0 if self._coefficient(axis) == 1 else 0.0

    def _coefficient(self, axis: Axis) -> float:
        match axis:
            case "depth":
                return self.alpha
            case "width":
                return self.beta
            case "resolution":
                return self.gamma

    def nominal(self, phi: float) -> float:
        """Return the nominal ratio of MACs to the baseline's."""
        return float(self.nominal_growth**phi)

    @property
    def nominal_growth(self) -> float:
        """``alpha * beta^2 * gamma^2``, about 2 in the paper; the actual growth of MACs differs because of rounding."""
        return self.alpha * self.beta**2 * self.gamma**2

    @property
    def min_phi(self) -> float:
        """The phi at which the first multiplier falls to 1/1,000."""
        return -self.max_phi

    @property
    def max_phi(self) -> float:
        """The phi at which the first multiplier reaches 1,000, the maximum of a :class:`Scale`."""
        fastest = math.log(max(self.alpha, self.beta, self.gamma))
        # Slightly less, so that rounding errors do not lift the multiplier above the maximum.
        return math.log(MAX_MULTIPLIER) / fastest * (1 - 1e-9) if fastest else math.inf

    @property
    def rounding(self) -> ScaleRounding:
        """The rounding of the released EfficientNet code."""
        return RELEASED

    def __str__(self) -> str:
        """Return the coefficients as text."""
        return f"alpha {self.alpha:g}, beta {self.beta:g}, gamma {self.gamma:g}"


def check_phi(law: ScalingLaw, phi: float) -> float:
    """Return a phi that was given by a user, if the law scales each dimension by 1/1,000 to 1,000 there.

    Raises:
        BudgetError: phi is out of this range, beyond the end of the law, or not a finite number.

    Example:
        >>> check_phi(Law(alpha=1.2, beta=1.1, gamma=1.15), -2)
        -2
    """
    if not (math.isfinite(phi) and law.min_phi <= phi <= law.max_phi):
        raise BudgetError(phi_message(law, phi))
    return phi


def phi_message(law: ScalingLaw, phi: float) -> str:
    """Return what is wrong with a phi."""
    if not math.isfinite(phi):
        return f"phi {phi:g} is not a finite number; give one such as 1 or -0.5"
    # Both ends are rounded towards 0, so that they can be given.
    low, high = (math.trunc(10 * end) / 10 for end in (law.min_phi, law.max_phi))
    what = f"scales by {'more than 1,000' if phi > 0 else 'less than 1/1,000'}, or is beyond the end of the law"
    return f"phi {phi:g} {what} ({law}); give a phi from {low:g} to {high:g}"


EFFICIENTNET = Law(alpha=1.2, beta=1.1, gamma=1.15)
"""The paper's coefficients, found for EfficientNet-B0 (section 3.3); their nominal growth is 1.92, not 2."""
