"""Quantization noise: signal-to-noise ratios of blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Signals = Mapping[str, NDArray[np.float32]]
"""The output of each block by its name, in the order of computation."""
CLEANEST = 120.0
"""Maximum ratio in decibels, about the precision of float32."""


def signal_to_noise_ratio(exact: NDArray[np.float32], rounded: NDArray[np.float32]) -> float:
    """Return the signal-to-noise ratio in decibels, at most 120.

    Example:
        >>> signal_to_noise_ratio(np.ones(4, np.float32), np.full(4, 1.1, np.float32)).__round__()
        20
    """
    signal = float(np.square(exact, dtype=np.float64).sum())
    noise = float(np.square(rounded.astype(np.float64) - exact).sum())
    if noise == 0:
        return CLEANEST
    return min(CLEANEST, 10 * math.log10(signal / noise)) if signal else 0.0


def noise_of_blocks(exact: Signals, rounded: Signals) -> dict[str, float]:
    """Return the signal-to-noise ratio of each block's output in decibels, including noise of earlier blocks."""
    return {name: signal_to_noise_ratio(exact[name], rounded[name]) for name in exact if name in rounded}


def added_noise(ratios: Mapping[str, float]) -> dict[str, float]:
    """Return the noise that each block adds, as a share of its signal's power, from ratios in decibels.

    A block that reduces noise adds 0.

    Example:
        >>> added_noise({"stem": 20.0, "head": 10.0})
        {'stem': 0.01, 'head': 0.09000000000000001}
    """
    added, previous = {}, 0.0
    for name, ratio in ratios.items():
        share = 10 ** (-ratio / 10)
        added[name] = max(0.0, share - previous)
        previous = share
    return added
