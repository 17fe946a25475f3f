"""Compute the phi that published multipliers imply.

The authors set the multipliers of B1 to B8 by hand, so depth, width and resolution of one network imply different phi;
for B7 they are 6.2-7.3.
"""

from __future__ import annotations

import math

from triscale.scaling.law import Law


def implied_phi(
    depth: float, width: float, resolution: int, law: Law, baseline_resolution: int
) -> tuple[float | None, float | None, float | None]:
    """Return the phi at which a law has a given depth, width and resolution.

    Each is ``log(multiplier) / log(coefficient)``, which is equation 3 of Tan & Le 2019 solved for phi.

    Args:
        depth: Depth multiplier.
        width: Width multiplier.
        resolution: In pixels.
        law: The scaling law.
        baseline_resolution: Resolution of the baseline in pixels.

    Returns:
        The phi of depth, width and resolution; None if the coefficient is 1 and does not determine phi.

    Example:
        >>> from triscale.scaling.law import EFFICIENTNET
        >>> [round(phi, 1) for phi in implied_phi(3.1, 2.0, 600, EFFICIENTNET, 224)]  # EfficientNet-B7
        [6.2, 7.3, 7.0]
    """
    return (
        _exponent(depth, law.alpha),
        _exponent(width, law.beta),
        _exponent(resolution / baseline_resolution, law.gamma),
    )


def _exponent(multiplier: float, coefficient: float) -> float | None:
    return None if coefficient == 1 else math.log(multiplier) / math.log(coefficient)
