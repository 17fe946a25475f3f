"""Find near duplicates by their fingerprints, without comparing every pair of images.

1. Each image is projected onto the lowest 8 coefficients of the cosine transform of its luma.
2. Images are hashed into the cells of a grid over these coefficients; only images that share a cell are compared.
3. A pair is a duplicate if its luma differs by little, absolutely, relative to its contrast, and relative to the
   distance from its images to the rest of the dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triscale.data.images.fingerprint import SIDE, Fingerprints

MAX_CERTAIN = 5.0
"""Maximum luma difference (RMS over 16 x 16 values, in levels of 255) of a certain duplicate.

Re-encoded versions of 1000 CIFAR-10 images (JPEG of quality 50-95, bicubic to half the side, PNG, gray) differ by at
most 4.6, those of 1000 photographs of 100 px by 1.1. The two most similar of 2062 different photographs of the sign
digits, all of a hand in front of a wall, differ by 10.4.
"""

MAX_POSSIBLE = 7.5
"""Maximum luma difference of a possible duplicate, for example one with other colors."""

MAX_CERTAIN_CONTRAST, MAX_POSSIBLE_CONTRAST = 0.2, 0.25
"""Maximum luma difference as a fraction of the image's contrast (standard deviation of its luma)."""

MIN_CONTRAST = 3.0
"""Images with less contrast, such as blank pages, are never reported as duplicates."""

MAX_COLOR_DIFFERENCE = 4.0
"""Maximum chroma difference of a certain duplicate; the measured ones differ by at most 2.6."""

MAX_GRAY_CHROMA = 2.5
"""An image whose chroma is within this distance of gray can be the gray version of any other."""

MIN_SEPARATION = 3.0
"""Minimum ratio of the distance to the rest of the dataset to the difference of a pair.

Under a fixed camera all images look alike, so a small difference alone proves nothing.
"""

MIN_BACKGROUND = 12.0
"""Below this distance to the rest of the dataset no duplicate is certain; measured datasets have at least 18.4."""

# The rest of the dataset is represented by a sample. A few of its images may be close without counting as the rest:
# other duplicates of the same image.
_SAMPLE = 2048
_CLOSE_IMAGES, _CLOSE_FRACTION = 5, 0.02

# Candidates agree within _MARGIN in the lowest coefficients of the cosine transform. The first coefficient is 16 times
# the mean luma. (Measured duplicates as above differ by at most 21.1 in it, and by 17.8 in the others.) The cells of
# the grid are four times as wide.
_LOWEST = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
_MARGIN = np.array([48.0] + [24.0] * 7, np.float32)
_WIDTH = 4 * _MARGIN
_NEIGHBORS = 64  # in a crowded cell, an image is compared with at most this many successors in order of brightness
_CHUNK = 1 << 16  # number of pairs compared at a time

_Indices = NDArray[np.int64]


class SimilarPair(NamedTuple):
    """Two images that look the same.

    Attributes:
        first: Index of the first image.
        second: Index of the second image, larger than ``first``.
        difference: RMS difference of their luma, in levels of 255.
        certain: Whether they are certainly the same image.
    """

    first: int
    second: int
    difference: float
    certain: bool


def find_similar(fingerprints: Fingerprints, aspects: NDArray[np.float64]) -> list[SimilarPair]:
    """Return the pairs of images that look the same, sorted by index.

    The time grows about linearly with the number of images: 60,000 take less than a second.

    Args:
        fingerprints: The fingerprints of N images.
        aspects: float64 ``[N, 2]``, width and height of each image in pixels.

    Example:
        >>> luma = np.random.default_rng(0).uniform(0, 255, (20, 256)).astype(np.float32)
        >>> luma[7] = luma[3] + 1
        >>> chroma = np.full((20, 32), 128, np.float32)
        >>> find_similar(Fingerprints(luma, chroma), np.full((20, 2), 100.0))
        [SimilarPair(first=3, second=7, difference=1.0, certain=True)]
    """
    luma, chroma = fingerprints
    contrast = luma.std(axis=1)
    flat = contrast < MIN_CONTRAST
    coefficients = luma @ _basis()
    chunks: list[tuple[_Indices, _Indices, NDArray[np.float32]]] = []
    for one, other in _candidates(coefficients, ~flat):
        near = (np.abs(coefficients[one] - coefficients[other]) <= _MARGIN).all(axis=1)
        near &= _same_shape(aspects[one], aspects[other])
        first, second = one[near], other[near]
        difference = np.sqrt(((luma[first] - luma[second]) ** 2).mean(axis=1))
        contrasts = np.minimum(contrast[first], contrast[second])
        near = difference <= np.minimum(MAX_POSSIBLE, MAX_POSSIBLE_CONTRAST * contrasts)
        chunks.append((first[near], second[near], difference[near]))
    if not chunks:
        return []
    first, second = (np.concatenate([chunk[index] for chunk in chunks]) for index in (0, 1))
    difference = np.concatenate([chunk[2] for chunk in chunks])
    background = _background_distance(luma, first, second)
    near = difference * MIN_SEPARATION < background
    first, second, difference, background = first[near], second[near], difference[near], background[near]
    color = np.sqrt(((chroma[first] - chroma[second]) ** 2).mean(axis=1))
    gray = np.sqrt(((chroma - 128) ** 2).mean(axis=1)) <= MAX_GRAY_CHROMA
    certain = difference <= np.minimum(
        MAX_CERTAIN, MAX_CERTAIN_CONTRAST * np.minimum(contrast[first], contrast[second])
    )
    certain &= background >= MIN_BACKGROUND
    certain &= (color <= MAX_COLOR_DIFFERENCE) | gray[first] | gray[second]
    pairs = zip(first.tolist(), second.tolist(), difference.tolist(), certain.tolist(), strict=True)
    return sorted({SimilarPair(a, b, round(d, 2), c) for a, b, d, c in pairs})


def _basis() -> NDArray[np.float32]:
    """Return the lowest functions of the two-dimensional cosine transform (DCT-II, orthonormal), ``[256, 8]``."""
    n = np.arange(SIDE)
    waves = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * n + 1) * n[:, None] / (2 * SIDE))
    waves[0] /= np.sqrt(2)
    return np.stack([np.outer(waves[y], waves[x]).ravel() for y, x in _LOWEST], axis=1).astype(np.float32)


def _candidates(coefficients: NDArray[np.float32], eligible: NDArray[np.bool_]) -> Iterator[tuple[_Indices, _Indices]]:
    """Yield pairs of indices, first < second, that share a cell; a pair may come more than once.

    Each image is put into all cells that the box of size ``_MARGIN`` around it touches, so that any two images that
    differ by at most ``_MARGIN`` in each coefficient share one::

        cell 0   |   cell 1          a: its box touches cells 0 and 1, so it is in both
             [ a | ]   [b]           b: its box touches only cell 1; a and b are compared there
    """
    low = np.floor((coefficients - _MARGIN / 2) / _WIDTH).astype(np.int64)
    high = np.floor((coefficients + _MARGIN / 2) / _WIDTH).astype(np.int64)
    images = np.flatnonzero(eligible).astype(np.int64)
    cells = np.zeros(len(images), np.int64)
    for axis in range(low.shape[1]):  # 7 bits per axis hold any cell: a coefficient is at most 16 * 255
        both = np.flatnonzero(low[images, axis] != high[images, axis])
        cells = np.concatenate(
            [
                (cells << 7) | (low[images, axis] & 127),
                (cells[both] << 7) | (high[images[both], axis] & 127),
            ]
        )
        images = np.concatenate([images, images[both]])
    order = np.lexsort((images, coefficients[images, 0], cells))
    images, cells = images[order], cells[order]
    for offset in range(1, _NEIGHBORS + 1):
        together = np.flatnonzero(cells[offset:] == cells[:-offset])
        if not len(together):
            return
        for start in range(0, len(together), _CHUNK):
            one = images[together[start : start + _CHUNK]]
            other = images[together[start : start + _CHUNK] + offset]
            yield np.minimum(one, other), np.maximum(one, other)


def _same_shape(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which sizes have the same aspect ratio, up to 5% and the rounding of the sides."""
    slack = 0.05 + 0.5 / np.minimum(one.min(axis=1), other.min(axis=1))
    ratio = one[:, 0] * other[:, 1] / (one[:, 1] * other[:, 0])
    return np.asarray(np.abs(np.log(ratio)) <= slack)


def _background_distance(luma: NDArray[np.float32], first: _Indices, second: _Indices) -> NDArray[np.float32]:
    """Return the distance from each pair to the rest of the dataset, the smaller one of its two images."""
    size = len(luma)
    sample = luma[np.arange(min(size, _SAMPLE)) * size // min(size, _SAMPLE)]
    rank = _CLOSE_IMAGES + int(_CLOSE_FRACTION * len(sample))
    background = np.full(size, np.inf, np.float32)
    if rank < len(sample):
        images = np.unique(np.concatenate([first, second]))
        squares = (sample**2).sum(axis=1)
        for start in range(0, len(images), 1024):
            chunk = luma[images[start : start + 1024]]
            distances = (chunk**2).sum(axis=1)[:, None] + squares - 2 * chunk @ sample.T  # (a - b)^2 expanded
            background[images[start : start + 1024]] = np.partition(distances, rank, axis=1)[:, rank]
        background = np.sqrt(np.maximum(background, 0) / luma.shape[1])
    return np.minimum(background[first], background[second])
