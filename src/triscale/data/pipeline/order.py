"""The order of the samples: a pure function of seed and epoch, so that no random state is ever saved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def epoch_order(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of the samples in an epoch: a permutation of ``0 .. size - 1``.

    It sorts random 64-bit keys. NumPy guarantees the stream of their generator (Philox) across versions, unlike the
    result of its ``permutation``.

    Args:
        size: Number of samples.
        seed: 0 or more.
        epoch: 0 or more.

    Example:
        >>> sorted(epoch_order(4, seed=0, epoch=1).tolist())
        [0, 1, 2, 3]
    """
    keys = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(size)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def drawn_order(weights: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return an epoch's order in which samples are drawn in proportion to weights, as many as there are samples.

    The draw is systematic: a sample occurs as often as expected, rounded up or down. Its further occurrences are
    numbered ``index + size``, ``index + 2 * size`` and so on, so that each is augmented differently.

    Args:
        weights: Positive, one for each sample.
        seed: 0 or more.
        epoch: 0 or more.

    Example:
        >>> weights = np.array([1.0, 1.0, 1.0, 3.0])
        >>> sorted(drawn_order(weights, seed=0, epoch=1) % 4)[-2:]
        [np.int64(3), np.int64(3)]
    """
    size = len(weights)
    order = epoch_order(size, seed, epoch)
    raw = np.random.Philox(np.random.SeedSequence([seed, epoch, 1])).random_raw(size + 1)
    ends = np.cumsum(weights[order])
    points = (np.arange(size) + int(raw[size] >> np.uint64(11)) / (1 << 53)) * (ends[-1] / size)
    drawn = np.minimum(np.searchsorted(ends, points, side="right"), size - 1)  # ascending positions in the order
    firsts = np.searchsorted(drawn, drawn, side="left")
    numbered = order[drawn] + size * (np.arange(size) - firsts)
    result: NDArray[np.int64] = numbered[np.argsort(raw[:size], kind="stable")]
    return result


def is_replayed(step: int, every: int) -> bool:
    """Return whether a step is taken twice, so that silent corruption is found: one in the middle of ``every`` steps.

    Args:
        step: The step of the training, counted from 0.
        every: Steps from one that is replayed to the next; 0 for none.

    Example:
        >>> [step for step in range(300) if is_replayed(step, 100)]
        [50, 150, 250]
    """
    return every > 0 and step % every == every // 2


def batch_slices(size: int, batch: int) -> list[slice]:
    """Divide ``size`` samples into ``ceil(size / batch)`` batches whose sizes differ by at most one.

    Every sample is in exactly one batch, and no batch is larger than ``batch``.

    Example:
        >>> batch_slices(5, batch=2)
        [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    return [batch_slice(size, batch, step) for step in range(num_batches(size, batch))]


def num_batches(size: int, batch: int) -> int:
    """Return the number of batches of at most ``batch`` samples."""
    return -(-size // batch)


def batch_slice(size: int, batch: int, step: int) -> slice:
    """Return the range of one batch in the order of an epoch; see :func:`batch_slices`."""
    count = num_batches(size, batch)
    return slice(step * size // count, (step + 1) * size // count)


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Mix seed, epoch and the sample's index into the 63-bit seed of its augmentation.

    Each number goes through one round of SplitMix64 (https://prng.di.unimi.it/splitmix64.c), whose low 32 bits are as
    random as the others: PyTorch's CPU generator uses only those.
    """
    state = 0
    for number in (seed, epoch, index):
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
