"""Every image is tested in exactly one fold, stratified and in whole groups."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.data.checks.duplicates import Duplicates
from triscale.data.pipeline.folds import Fold, make_fold
from triscale.data.pipeline.split import Split
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError, RecordError


def images(counts: list[int], group: int = 0, prefix: str = "") -> tuple[ScannedImage, ...]:
    return tuple(
        ScannedImage(f"{prefix}{label}/{i:03d}", label, 8, 8, 9, "PNG", group=f"{label} {i // group}" if group else "")
        for label, count in enumerate(counts)
        for i in range(count)
    )


def folds_of(found: Scan, count: int, seed: int = 0, duplicates: Duplicates | None = None) -> list[Split]:
    return [
        make_fold(found, Fold(number=n, count=count), seed=seed, duplicates=duplicates or Duplicates())
        for n in range(1, count + 1)
    ]


@given(st.lists(st.integers(12, 50), min_size=2, max_size=4), st.integers(2, 6), st.integers(0, 2), st.integers(0, 99))
def test_each_image_is_tested_once(counts: list[int], count: int, group: int, seed: int) -> None:
    pictures = images(counts, group)
    found = Scan(
        root="/i", classes=tuple(map(str, range(len(counts)))), unsplit=pictures, grouped_by="x" if group else ""
    )
    folds = folds_of(found, count, seed)
    assert Counter(sample.path for split in folds for sample in split.test) == Counter(i.path for i in pictures)
    for split in folds:
        parts = [[sample.path for sample in samples] for samples in (split.train, split.val, split.test)]
        assert sorted(path for part in parts for path in part) == sorted(i.path for i in pictures)
        assert all({int(path[0]) for path in part} == set(range(len(counts))) for part in parts)
        if group:
            groups = [{found.groups[path] for path in part} for part in parts]
            assert sum(map(len, groups)) == len(set.union(*groups))
    for label, total in enumerate(counts):
        tested = [sum(sample.label == label for sample in split.test) for split in folds]
        assert max(tested) - min(tested) <= max(1, group), (tested, total)


def test_folds_depend_only_on_seed_and_names() -> None:
    pictures = images([20, 20])
    found = Scan(root="/i", classes=("a", "b"), unsplit=pictures)
    assert folds_of(found, 4) == folds_of(found.replace(unsplit=pictures[::-1]), 4)
    assert folds_of(found, 4) != folds_of(found, 4, seed=1)


def test_duplicates_are_in_one_fold() -> None:
    found = Scan(root="/i", classes=("a", "b"), unsplit=images([12, 12]))
    copies = Duplicates(exact=(("0/000", "0/007"), ("0/003", "1/003")))
    for split in folds_of(found, 4, duplicates=copies):
        tested = {sample.path for sample in split.test}
        assert ("0/000" in tested) == ("0/007" in tested)
        assert ("0/003" in tested) == ("1/003" in tested)


def test_given_test_split_is_left_aside() -> None:
    found = Scan(
        root="/i",
        classes=("a", "b"),
        train=images([9, 9]),
        val=images([3, 3], prefix="val"),
        test=images([5, 5], prefix="test"),
    )
    folds = folds_of(found, 3)
    assert sum(len(split.test) for split in folds) == 24
    assert not any("test" in sample.path for split in folds for sample in (*split.train, *split.val, *split.test))
    assert "the 10 images of the test folder are not used" in folds[0].how


def test_folds_keep_validation_images_of_their_own() -> None:
    found = Scan(root="/i", classes=("a", "b"), unsplit=images([60, 60]))
    held = [{sample.path for sample in split.val} for split in folds_of(found, 4)]
    assert len({frozenset(paths) for paths in held}) == 4


def test_too_few_images_or_groups_for_the_folds_are_named() -> None:
    few = Scan(root="/i", classes=("a", "b"), unsplit=images([10, 4]))
    with pytest.raises(DataError, match=r"class b has 4 images only; 5 folds need at least 5 images .* fewer folds"):
        folds_of(few, 5)
    grouped = Scan(root="/i", classes=("a", "b"), unsplit=images([20, 20], 5), grouped_by="the column")
    with pytest.raises(DataError, match="class a has images of 4 groups only"):
        folds_of(grouped, 5)


@pytest.mark.parametrize(("number", "count"), [(0, 3), (4, 3), (1, 1), (1, 101)])
def test_impossible_folds_are_refused(number: int, count: int) -> None:
    with pytest.raises(RecordError):
        Fold(number=number, count=count)
