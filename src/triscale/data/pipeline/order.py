"""The order of the images: a pure function of seed and epoch, so that nothing random is ever stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def epoch_order(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch goes through the samples: a permutation of ``0 .. size - 1``.

    Random 64-bit keys are sorted; their generator (Philox) is one whose numbers NumPy promises to keep, unlike those
    of its own ``permutation``.

    Args:
        size: number of samples.
        seed: 0 or more.
        epoch: 0 or more.
    """
    keys = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(size)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def batch_slices(size: int, batch: int) -> list[slice]:
    """Cut ``size`` samples into ``ceil(size / batch)`` batches that differ by one sample at most.

    Every sample is in exactly one batch, and no batch is larger than ``batch`` or much smaller than the others.
    """
    return [batch_slice(size, batch, step) for step in range(num_batches(size, batch))]


def num_batches(size: int, batch: int) -> int:
    """Return the number of batches of at most ``batch`` samples."""
    return -(-size // batch)


def batch_slice(size: int, batch: int, step: int) -> slice:
    """Return the place of one batch in the order of an epoch; see :func:`batch_slices`."""
    count = num_batches(size, batch)
    return slice(step * size // count, (step + 1) * size // count)


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Mix seed, epoch and the sample's index into the 63-bit seed of its augmentation.

    Each is taken in by one round of SplitMix64 (https://prng.di.unimi.it/splitmix64.c), whose low 32 bits, all that
    PyTorch's CPU generator uses, are as good as the others.
    """
    state = 0
    for number in (seed, epoch, index):
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
