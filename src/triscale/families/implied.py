"""What a published table of multipliers says about phi.

The authors' coefficients for B1 to B8 were set by hand: depth, width and resolution of one network imply different
phi, which for B7 lie between 6.2 and 7.3.
"""

from __future__ import annotations

import math

from triscale.scaling.law import Law


def implied_phi(
    depth: float, width: float, resolution: int, law: Law, baseline_resolution: int
) -> tuple[float | None, float | None, float | None]:
    """Return the phi at which a law has these multipliers of depth and width, and this resolution in pixels.

    Each is ``log(multiplier) / log(coefficient)`` (equation 3 of Tan & Le 2019 solved for phi), or None where the
    law's coefficient is 1 and says nothing about phi.
    """
    return (
        _exponent(depth, law.alpha),
        _exponent(width, law.beta),
        _exponent(resolution / baseline_resolution, law.gamma),
    )


def _exponent(multiplier: float, coefficient: float) -> float | None:
    return None if coefficient == 1 else math.log(multiplier) / math.log(coefficient)
