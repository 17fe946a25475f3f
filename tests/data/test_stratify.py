"""Images with several labels are divided with every label's share, and drawn with balanced sampling."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.data.checks.duplicates import Duplicates
from triscale.data.pipeline.order import drawn_order
from triscale.data.pipeline.split import make_split
from triscale.data.sources.scanned import Scan, ScannedImage

LABELS = st.lists(st.frozensets(st.integers(0, 4), max_size=5), min_size=20, max_size=200)


def scan_of(sets) -> Scan:
    images = tuple(ScannedImage(f"{i:03d}.png", tuple(sorted(one)), 8, 8, 9, "PNG") for i, one in enumerate(sets))
    return Scan(root="/images", classes=tuple("abcde"), unsplit=images)


@settings(deadline=None, max_examples=60)
@given(LABELS, st.integers(0, 5))
def test_every_label_has_its_share(sets, seed):
    scan = scan_of([*sets, *[{label} for label in range(5) for _ in range(3)]])
    split = make_split(scan, seed=seed, test_share=0.25, val_share=0.25, duplicates=Duplicates())
    assert split == make_split(scan, seed=seed, test_share=0.25, val_share=0.25, duplicates=Duplicates())
    counts = {name: Counter(label for sample in getattr(split, name) for label in sample.labels)
              for name in ("train", "val", "test")}  # fmt: skip
    total = Counter(label for image in scan.unsplit for label in image.labels)
    for label, count in total.items():
        assert all(counts[name][label] >= 1 for name in counts)
        assert abs(counts["test"][label] - 0.25 * count) <= 2 + 0.1 * count
    without = sum(not image.labels for image in scan.unsplit)
    tested = sum(not sample.labels for sample in split.test)
    assert abs(tested - 0.25 * without) <= 2 + 0.1 * without


def test_rare_labels_are_in_every_split():
    generator = np.random.default_rng(0)
    rare = generator.permutation(400)[:6]
    images = []
    for i in range(400):
        labels = {j for j in range(4) if generator.random() < 0.4} | ({4} if i in rare else set())
        images.append(ScannedImage(f"{i:03d}.png", tuple(sorted(labels)), 8, 8, 9, "PNG"))
    scan = Scan(root="/images", classes=tuple("abcde"), unsplit=tuple(images))
    assert scan.multi_label
    assert scan.counts["unsplit"]["e"] == 6
    split = make_split(scan, duplicates=Duplicates())
    assert split.multi_label
    for samples, share in ((split.train, 0.72), (split.val, 0.08), (split.test, 0.2)):
        counts = Counter(label for sample in samples for label in sample.labels)
        assert counts[4] >= 1
        for label in range(4):
            total = sum(label in image.labels for image in images)
            assert counts[label] == pytest.approx(share * total, abs=0.03 * total + 2)
    assert type(split).from_json(split.to_json()) == split


def test_duplicates_with_several_labels_stay_together():
    images = [ScannedImage(f"{i:02d}.png", (i % 2,) if i % 3 else (0, 1), 8, 8, 9, "PNG") for i in range(40)]
    scan = Scan(root="/images", classes=("a", "b"), unsplit=tuple(images))
    pairs = tuple((f"{i:02d}.png", f"{i + 1:02d}.png") for i in range(0, 40, 2))
    split = make_split(scan, duplicates=Duplicates(exact=pairs))
    place = {sample.path: name for name in ("train", "val", "test") for sample in getattr(split, name)}
    assert all(place[first] == place[second] for first, second in pairs)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=200), st.integers(0, 3), st.integers(0, 3))
def test_samples_are_drawn_as_often_as_expected(weights, seed, epoch):
    size = len(weights)
    drawn = drawn_order(np.array(weights), seed, epoch)
    assert len(drawn) == size
    assert len(set(drawn.tolist())) == size
    expected = np.array(weights) * size / sum(weights)
    counts = np.bincount(drawn % size, minlength=size)
    assert (np.abs(counts - expected) < 1 + 1e-6).all()
    for index in range(size):
        copies = sorted(drawn[drawn % size == index] // size)
        assert copies == list(range(len(copies)))
    assert (drawn == drawn_order(np.array(weights), seed, epoch)).all()
