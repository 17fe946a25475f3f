"""Compound scaling: ``depth = alpha^phi, width = beta^phi, resolution = gamma^phi`` (Tan & Le 2019, equation 3)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from triscale.record import Record

MAX_MULTIPLIER = 1000.0

Multiplier = Annotated[float, Field(gt=0, le=MAX_MULTIPLIER)]
Coefficient = Annotated[float, Field(ge=1, le=100)]


class Scale(Record):
    """Multipliers of a baseline's depth, width and resolution (the paper's d, w, r)."""

    kind_name: ClassVar[str] = "scale"

    depth: Multiplier = 1.0
    width: Multiplier = 1.0
    resolution: Multiplier = 1.0

    def __str__(self) -> str:
        """Return the three multipliers in words."""
        return f"depth x{self.depth:.4g}, width x{self.width:.4g}, resolution x{self.resolution:.4g}"


class Law(Record):
    """Scaling coefficients, each at least 1; one unit of phi multiplies MACs by about ``nominal_growth``."""

    kind_name: ClassVar[str] = "law"

    alpha: Coefficient
    beta: Coefficient
    gamma: Coefficient

    def at(self, phi: float) -> Scale:
        """Return the multipliers at ``phi``; fractions and negative numbers (below the baseline) are as good as 1."""
        return Scale(depth=self.alpha**phi, width=self.beta**phi, resolution=self.gamma**phi)

    @property
    def nominal_growth(self) -> float:
        """``alpha * beta^2 * gamma^2``, about 2 in the paper; the real growth in MACs differs by the rounding."""
        return self.alpha * self.beta**2 * self.gamma**2

    @property
    def largest_phi(self) -> float:
        """The phi at which the first multiplier reaches 1000, the most that a :class:`Scale` takes."""
        fastest = math.log(max(self.alpha, self.beta, self.gamma))
        # A hair less, so that the multiplier does not end up above by noise of floating point.
        return math.log(MAX_MULTIPLIER) / fastest * (1 - 1e-9) if fastest else math.inf

    def __str__(self) -> str:
        """Return the coefficients in words."""
        return f"alpha {self.alpha:g}, beta {self.beta:g}, gamma {self.gamma:g}"


EFFICIENTNET = Law(alpha=1.2, beta=1.1, gamma=1.15)
"""The paper's coefficients, found for EfficientNet-B0 (section 3.3); their nominal growth is 1.92, not 2."""
