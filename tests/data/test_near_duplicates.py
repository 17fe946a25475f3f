"""The search for near duplicates misses none at cell borders, and reports none if all images look alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from triscale.data.checks.near_duplicates import find_similar
from triscale.data.images.fingerprint import Fingerprints, fingerprints_of, shrink, unpack


def fingerprints(luma: np.ndarray) -> tuple[Fingerprints, np.ndarray]:
    """Return gray fingerprints and the sizes of square images."""
    rounded = luma.clip(0, 255).round().astype(np.float32)
    return Fingerprints(rounded, np.full((len(luma), 32), 128, np.float32)), np.full((len(luma), 2), 100.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(40, 60), st.floats(0, 2), st.floats(-2, 2))
def test_duplicates_are_found_across_cell_borders(seed: int, contrast: float, noise: float, brighter: float) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, contrast, (300, 4, 4)).repeat(4, axis=1).repeat(4, axis=2).reshape(300, 256)
    originals = rng.uniform(100, 156, (300, 1)) + coarse
    copies = originals + brighter + rng.normal(0, noise, originals.shape)
    result = find_similar(*fingerprints(np.concatenate([originals, copies])))
    assert {(pair.first, pair.second) for pair in result} >= {(index, index + 300) for index in range(300)}


def test_similar_images_are_not_certain_duplicates() -> None:
    rng = np.random.default_rng(0)
    scene = rng.normal(128, 40, 256)
    luma = scene + rng.normal(0, 3, (3000, 256))
    luma[1] = luma[0]
    assert not any(pair.certain for pair in find_similar(*fingerprints(luma)))


def test_image_order_only_renumbers_pairs() -> None:
    rng = np.random.default_rng(1)
    originals = rng.normal(128, 50, (200, 256))
    luma = np.concatenate([originals, originals[:50] + rng.normal(0, 1, (50, 256))])
    order = rng.permutation(len(luma))
    place = np.argsort(order)
    before = {tuple(sorted((place[a], place[b]))) for a, b, _, _ in find_similar(*fingerprints(luma))}
    assert before == {(pair.first, pair.second) for pair in find_similar(*fingerprints(luma[order]))}
    assert len(before) == 50


def test_images_of_any_shape_have_a_fingerprint() -> None:
    sizes = [(1, 1), (1, 3000), (5000, 1), (16, 16), (17, 15), (4000, 3000)]
    images = [Image.new("RGB", size, (10, 200, 30)) for size in sizes]
    values = unpack(fingerprints_of([shrink(image) for image in images]))
    assert (values.luma == values.luma[0, 0]).all()
    assert find_similar(values, np.array(sizes, float)) == []
