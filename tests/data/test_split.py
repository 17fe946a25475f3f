"""A split depends only on seed and file names, and is stratified by class."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import Sample, Split, check_present, make_split
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError

from .pictures import write_classes


def images(counts: list[int], prefix: str = "") -> tuple[ScannedImage, ...]:
    return tuple(
        ScannedImage(f"{prefix}{label}/{index}.png", label, 8, 8, 100, "PNG")
        for label, count in enumerate(counts)
        for index in range(count)
    )


def scanned(counts: list[int], **roles: tuple[ScannedImage, ...]) -> Scan:
    classes = tuple(str(label) for label in range(len(counts)))
    return Scan(root="/images", classes=classes, **(roles or {"unsplit": images(counts)}))


def count(samples: tuple[Sample, ...], num_classes: int) -> list[int]:
    return [sum(sample.label == label for sample in samples) for label in range(num_classes)]


COUNTS = st.lists(st.integers(3, 60), min_size=2, max_size=5)
SHARES = st.floats(0.01, 0.9)


@given(COUNTS, st.integers(0, 2**40), SHARES, SHARES)
def test_splits_are_stratified(counts: list[int], seed: int, test: float, val: float) -> None:
    split = make_split(scanned(counts), seed=seed, test_share=test, val_share=val)
    parts = (split.train, split.val, split.test)
    assert sorted(sample.path for part in parts for sample in part) == sorted(i.path for i in images(counts))
    for label, total in enumerate(counts):
        train, held, tested = (count(part, len(counts))[label] for part in parts)
        assert min(train, held, tested) >= 1
        assert tested == min(max(1, round(test * total)), total - 2)
        assert held == min(max(1, round(val * (total - tested))), total - tested - 1)
    assert all([sample.path for sample in part] == sorted(sample.path for sample in part) for part in parts)


@given(COUNTS, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_split_does_not_depend_on_scan_order(counts: list[int], seed: int, chance: random.Random) -> None:
    result = scanned(counts)
    shuffled = list(result.unsplit)
    chance.shuffle(shuffled)
    assert make_split(result.model_copy(update={"unsplit": tuple(shuffled)}), seed=seed) == make_split(
        result, seed=seed
    )


def test_adding_a_class_keeps_split_of_others() -> None:
    before, after = make_split(scanned([40, 30])), make_split(scanned([40, 30, 50]))
    for part in ("train", "val", "test"):
        assert [sample for sample in getattr(after, part) if sample.label < 2] == list(getattr(before, part))


def test_adding_an_image_moves_few_others() -> None:
    before, after = make_split(scanned([100, 100])), make_split(scanned([101, 100]))
    assert len({sample.path for sample in before.test} ^ {sample.path for sample in after.test}) <= 2


def test_split_depends_on_seed() -> None:
    assert len({make_split(scanned([40, 40]), seed=seed).digest for seed in range(5)}) == 5


def test_existing_splits_are_kept() -> None:
    counts = [5, 6]
    parts = {role: images(counts, f"{role}/") for role in ("train", "val", "test")}
    split = make_split(scanned(counts, **parts))
    assert count(split.train, 2) == count(split.val, 2) == count(split.test, 2) == counts
    assert "as given by the folders" in split.how


@pytest.mark.parametrize("other", ["val", "test"])
def test_single_additional_split_is_the_test_set(other: str) -> None:
    parts = {role: images([20, 30], f"{role}/") for role in ("train", other)}
    split = make_split(scanned([20, 30], **parts))
    assert count(split.test, 2) == [20, 30]
    assert all(sample.path.startswith(other) for sample in split.test)
    assert (count(split.val, 2), count(split.train, 2)) == ([2, 3], [18, 27])
    assert "validation: 0.1 of the training images" in split.how


def test_too_few_images_are_rejected_with_required_number() -> None:
    with pytest.raises(DataError, match="1 has 2; every class needs at least 3"):
        make_split(scanned([3, 2]))
    parts = {role: images([2, 1], f"{role}/") for role in ("train", "test")}
    with pytest.raises(DataError, match="1 has 1; every class needs at least 2"):
        make_split(scanned([2, 1], **parts))


def test_train_split_alone_is_rejected() -> None:
    with pytest.raises(DataError, match="only training images"):
        make_split(scanned([4, 4], train=images([4, 4])))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_share_outside_open_unit_interval_is_rejected(share: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        make_split(scanned([4, 4]), test_share=share)
    with pytest.raises(DataError, match="between 0 and 1"):
        make_split(scanned([4, 4]), val_share=share)


def test_split_round_trips(tmp_path: Path) -> None:
    split = make_split(scan(write_classes(tmp_path / "images", {"a": 5, "b": 5})))
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_missing_files_of_split_are_reported(tmp_path: Path) -> None:
    split = make_split(scan(write_classes(tmp_path, {"a": 6, "b": 6})))
    check_present(split)
    for sample in (split.train[0], split.test[0]):
        (tmp_path / sample.path).unlink()
    with pytest.raises(DataError, match="2 of 12 images") as caught:
        check_present(split)
    assert split.train[0].path in str(caught.value)
