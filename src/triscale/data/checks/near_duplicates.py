"""Which images look the same, found without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triscale.data.images.fingerprint import SIDE, Fingerprints

CERTAIN = 5.0
"""Greatest difference of brightness (root mean square over 16 x 16 places, levels of 0 to 255) of a certain copy.

Copies of 1000 CIFAR-10 images (JPEG of quality 50 to 95, half the side by bicubic, PNG, grey) differ by 4.6 at most, of
1000 photographs of 100 px by 1.1; the two most similar of 2062 such photographs, all of hands before a wall, by 10.4.
"""

POSSIBLE = 7.5
"""Greatest difference of a possible copy, such as one with other colors."""

CERTAIN_SHARE, POSSIBLE_SHARE = 0.2, 0.25
"""Greatest difference as a share of the image's contrast (standard deviation of its brightness)."""

MIN_CONTRAST = 3.0
"""Images with less, such as blank pages, are never said to look the same."""

SAME_COLOR = 4.0
"""Greatest difference of color of a certain copy; those measured differ by 2.6 at most."""

ALMOST_GREY = 2.5
"""An image whose colors are no farther from grey may be the grey copy of any other."""

STANDS_OUT = 3.0
"""A copy is so many times closer than the rest of the set: before a fixed camera, every two images look the same."""

VARIED = 12.0
"""Where the rest of the set is closer, no copy is certain; it is 18.4 away, or more, in the sets measured."""

# The rest of the set is a sample, of which so many images may be as close: copies of the same image, and a few more.
_SAMPLE = 2048
_CLOSE_IMAGES, _CLOSE_SHARE = 5, 0.02

# Candidates agree in the lowest coefficients of the cosine transform within _MARGIN, the first of which is 16 times the
# mean brightness (copies as above: 21.1, and 17.8 in the others, at most). They meet in cells four times as wide.
_LOWEST = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
_MARGIN = np.array([48.0] + [24.0] * 7, np.float32)
_WIDTH = 4 * _MARGIN
_NEIGHBORS = 64  # of a crowded cell, each image is compared with so many that follow it in brightness
_CHUNK = 1 << 16  # pairs that are compared at a time

_Indices = NDArray[np.int64]


class SimilarPair(NamedTuple):
    """Two images that look the same: their places, how much they differ, and whether they are certainly copies."""

    first: int
    second: int
    difference: float
    certain: bool


def find_similar(fingerprints: Fingerprints, aspects: NDArray[np.float64]) -> list[SimilarPair]:
    """Return the pairs of images that look the same, sorted by their places.

    Time grows about linearly with the number of images: 60 000 take under a second.

    Args:
        fingerprints: of N images.
        aspects: float64 ``[N, 2]``, width and height of each image in pixels.
    """
    luma, chroma = fingerprints
    contrast = luma.std(axis=1)
    plain = contrast < MIN_CONTRAST
    coefficients = luma @ _basis()
    found: list[tuple[_Indices, _Indices, NDArray[np.float32]]] = []
    for one, other in _candidates(coefficients, ~plain):
        near = (np.abs(coefficients[one] - coefficients[other]) <= _MARGIN).all(axis=1)
        near &= _same_shape(aspects[one], aspects[other])
        first, second = one[near], other[near]
        difference = np.sqrt(((luma[first] - luma[second]) ** 2).mean(axis=1))
        least = np.minimum(contrast[first], contrast[second])
        near = difference <= np.minimum(POSSIBLE, POSSIBLE_SHARE * least)
        found.append((first[near], second[near], difference[near]))
    if not found:
        return []
    first, second = (np.concatenate([part[place] for part in found]) for place in (0, 1))
    difference = np.concatenate([part[2] for part in found])
    usual = _usual(luma, first, second)
    near = difference * STANDS_OUT < usual
    first, second, difference, usual = first[near], second[near], difference[near], usual[near]
    color = np.sqrt(((chroma[first] - chroma[second]) ** 2).mean(axis=1))
    grey = np.sqrt(((chroma - 128) ** 2).mean(axis=1)) <= ALMOST_GREY
    certain = difference <= np.minimum(CERTAIN, CERTAIN_SHARE * np.minimum(contrast[first], contrast[second]))
    certain &= usual >= VARIED
    certain &= (color <= SAME_COLOR) | grey[first] | grey[second]
    pairs = zip(first.tolist(), second.tolist(), difference.tolist(), certain.tolist(), strict=True)
    return sorted({SimilarPair(a, b, round(d, 2), c) for a, b, d, c in pairs})


def _basis() -> NDArray[np.float32]:
    """Return the lowest functions of the two-dimensional cosine transform (DCT-II, orthonormal), ``[256, 8]``."""
    place = np.arange(SIDE)
    waves = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * SIDE))
    waves[0] /= np.sqrt(2)
    return np.stack([np.outer(waves[y], waves[x]).ravel() for y, x in _LOWEST], axis=1).astype(np.float32)


def _candidates(coefficients: NDArray[np.float32], wanted: NDArray[np.bool_]) -> Iterator[tuple[_Indices, _Indices]]:
    """Yield pairs of places, first < second, that share a cell; a pair may come more than once.

    Each image is put into all cells that the box with the sides ``_MARGIN`` around it touches, so that any two images
    which differ by no more in each coefficient meet in one.
    """
    low = np.floor((coefficients - _MARGIN / 2) / _WIDTH).astype(np.int64)
    high = np.floor((coefficients + _MARGIN / 2) / _WIDTH).astype(np.int64)
    images = np.flatnonzero(wanted).astype(np.int64)
    cells = np.zeros(len(images), np.int64)
    for axis in range(low.shape[1]):  # 7 bits hold any cell of a coefficient, which is no larger than 16 * 255
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
    """Whether sizes have the same ratio of width to height, but for 5 % and the rounding of the sides."""
    slack = 0.05 + 0.5 / np.minimum(one.min(axis=1), other.min(axis=1))
    ratio = one[:, 0] * other[:, 1] / (one[:, 1] * other[:, 0])
    return np.asarray(np.abs(np.log(ratio)) <= slack)


def _usual(luma: NDArray[np.float32], first: _Indices, second: _Indices) -> NDArray[np.float32]:
    """Return how far the rest of the set is from pairs: from the image of each that has more images near it."""
    size = len(luma)
    sample = luma[np.arange(min(size, _SAMPLE)) * size // min(size, _SAMPLE)]
    place = _CLOSE_IMAGES + int(_CLOSE_SHARE * len(sample))
    usual = np.full(size, np.inf, np.float32)
    if place < len(sample):
        images = np.unique(np.concatenate([first, second]))
        squares = (sample**2).sum(axis=1)
        for start in range(0, len(images), 1024):
            part = luma[images[start : start + 1024]]
            distances = (part**2).sum(axis=1)[:, None] + squares - 2 * part @ sample.T
            usual[images[start : start + 1024]] = np.partition(distances, place, axis=1)[:, place]
        usual = np.sqrt(np.maximum(usual, 0) / luma.shape[1])
    return np.minimum(usual[first], usual[second])
