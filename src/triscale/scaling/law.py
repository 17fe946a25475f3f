"""Compound scaling: ``depth = alpha^phi, width = beta^phi, resolution = gamma^phi`` (Tan & Le 2019, equation 3).

https://arxiv.org/abs/1905.11946
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from triscale.errors import BudgetError
from triscale.record import Record, by_position

MAX_MULTIPLIER = 1000.0

SMALLEST_PHI = 100.0
"""A law is defined down to this multiple of ``-max_phi``: there the multipliers leave the floating-point range."""

Multiplier = Annotated[float, Field(gt=0, le=MAX_MULTIPLIER)]
Coefficient = Annotated[float, Field(ge=1, le=100)]


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
        if not (math.isfinite(phi) and -SMALLEST_PHI * self.max_phi <= phi <= self.max_phi):
            raise BudgetError(_phi_message(phi, self.max_phi))
        return Scale(depth=self.alpha**phi, width=self.beta**phi, resolution=self.gamma**phi)

    @property
    def nominal_growth(self) -> float:
        """``alpha * beta^2 * gamma^2``, about 2 in the paper; the actual growth of MACs differs because of rounding."""
        return self.alpha * self.beta**2 * self.gamma**2

    @property
    def max_phi(self) -> float:
        """The phi at which the first multiplier reaches 1,000, the maximum of a :class:`Scale`."""
        fastest = math.log(max(self.alpha, self.beta, self.gamma))
        # Slightly less, so that rounding errors do not lift the multiplier above the maximum.
        return math.log(MAX_MULTIPLIER) / fastest * (1 - 1e-9) if fastest else math.inf

    def __str__(self) -> str:
        """Return the coefficients as text."""
        return f"alpha {self.alpha:g}, beta {self.beta:g}, gamma {self.gamma:g}"


def check_phi(law: Law, phi: float) -> float:
    """Return a phi that was given by a user, if it scales each dimension by at most 1,000 and at least 1/1,000.

    Raises:
        BudgetError: phi is out of this range, or not a finite number.

    Example:
        >>> check_phi(Law(alpha=1.2, beta=1.1, gamma=1.15), -2)
        -2
    """
    if not (math.isfinite(phi) and abs(phi) <= law.max_phi):
        raise BudgetError(_phi_message(phi, law.max_phi))
    return phi


def _phi_message(phi: float, max_phi: float) -> str:
    if not math.isfinite(phi):
        return f"phi {phi:g} is not a finite number; give one such as 1 or -0.5"
    largest = math.floor(10 * max_phi) / 10  # rounded down, so that it can be given
    return (
        f"phi {phi:g} scales by more than 1,000 or less than 1/1,000; give a phi from {-largest:g} to {largest:g}, "
        "such as 1"
    )


EFFICIENTNET = Law(alpha=1.2, beta=1.1, gamma=1.15)
"""The paper's coefficients, found for EfficientNet-B0 (section 3.3); their nominal growth is 1.92, not 2."""
