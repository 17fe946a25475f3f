"""An image in two splits is refused by name; a generated split never has such a leak."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from triscale.data.checks.duplicates import DuplicatePair, Duplicates, find_duplicates
from triscale.data.pipeline.leaks import certain, find_leaks, refuse_leaks
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import Sample, Split, make_split
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError
from triscale.results.data_summary import Leak

from .pictures import write_classes


def split_of(train: str, val: str, test: str) -> Split:
    """Return a split in which every letter is an image."""
    parts = {
        name: tuple(Sample(path, 0) for path in paths)
        for name, paths in (("train", train), ("val", val), ("test", test))
    }
    return Split(root="/images", classes=("a", "b"), seed=0, how="by hand", **parts)


def test_image_with_copy_in_earlier_split_is_one_leak() -> None:
    copies = Duplicates(
        exact=(("a", "b"), ("c", "m", "x", "y")),
        reencoded=(DuplicatePair("d", "z", 1.0),),
        possible=(DuplicatePair("n", "w", 6.0),),
    )
    leaks = find_leaks(split_of("abcd", "mn", "wxyz"), copies)
    assert leaks == (
        Leak("m", "val", "c", "train", "exact"),
        Leak("x", "test", "c", "train", "exact"),
        Leak("y", "test", "c", "train", "exact"),
        Leak("z", "test", "d", "train", "reencoded"),
        Leak("w", "test", "n", "val", "possible"),
    )
    assert certain(leaks) == leaks[:4]
    with pytest.raises(DataError, match="4 test or validation images are copies") as caught:
        refuse_leaks("/photos", leaks)
    assert "m = c (the same file); " in str(caught.value)
    assert "and 1 more" in str(caught.value)
    assert "--allow-leak" in str(caught.value)


def test_copies_within_split_and_possible_copies_are_not_errors() -> None:
    split = split_of("ab", "m", "xy")
    leaks = find_leaks(split, Duplicates(exact=(("a", "b"), ("x", "y")), possible=(DuplicatePair("a", "m", 6.0),)))
    assert [leak.match for leak in leaks] == ["possible"]
    refuse_leaks(split.root, leaks)


def test_reencoded_test_image_is_found_on_disk(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 8, "b": 8})
    write_classes(tmp_path / "test", {"a": 3, "b": 3}, seed=1)
    with Image.open(tmp_path / "train" / "b" / "002.png") as image:
        image.resize((40, 40), Image.Resampling.BICUBIC).save(tmp_path / "test" / "b" / "copy.jpg", quality=90)
    result = scan(tmp_path)
    copies = find_duplicates(result)
    (leak,) = find_leaks(make_split(result, duplicates=copies), copies)
    assert leak == Leak("test/b/copy.jpg", "test", "train/b/002.png", leak.copy_split, "reencoded")


GROUPS = st.lists(st.lists(st.integers(0, 59), min_size=2, max_size=6, unique=True), max_size=10)


@given(GROUPS, st.integers(0, 1000), st.sampled_from([0.05, 0.2, 0.5]))
def test_split_never_separates_duplicates(groups: list[list[int]], seed: int, share: float) -> None:
    images = tuple(ScannedImage(f"{i % 2}/{i:02d}", i % 2, 8, 8, 1, "PNG") for i in range(60))
    copies = Duplicates(exact=tuple(tuple(images[i].path for i in group) for group in groups))
    result = Scan(root="/", classes=("0", "1"), unsplit=images)
    different = 60 - sum(len(group) - 1 for group in copies.groups)
    leading = [image.label for image in images if all(image.path not in group[1:] for group in copies.groups)]
    assert len(leading) == different
    if min(leading.count(0), leading.count(1)) < 3:
        with pytest.raises(DataError, match="not copies of each other"):
            make_split(result, seed=seed, test_share=share, duplicates=copies)
        return
    split = make_split(result, seed=seed, test_share=share, duplicates=copies)
    assert find_leaks(split, copies) == ()
    paths = [sample.path for part in (split.train, split.val, split.test) for sample in part]
    assert sorted(paths) == sorted(image.path for image in images)
    for part in (split.train, split.val, split.test):
        assert {sample.label for sample in part} == {0, 1}
    assert make_split(
        result.model_copy(update={"unsplit": images[::-1]}), seed=seed, test_share=share, duplicates=copies
    ) == (split)


def test_split_with_duplicate_pairs_keeps_proportions() -> None:
    images = tuple(
        ScannedImage(f"{label}/{i:03d}", label, 8, 8, 1, "PNG", f"{label} {i // 2}")
        for label in (0, 1)
        for i in range(100)
    )
    copies = Duplicates(exact=tuple((images[i].path, images[i + 1].path) for i in range(0, 200, 2)))
    split = make_split(Scan(root="/", classes=("0", "1"), unsplit=images), duplicates=copies)
    assert (len(split.test), len(split.val), len(split.train)) == (40, 16, 144)


def test_class_of_only_duplicates_is_rejected(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 5, "b": 1})
    for number in range(4):
        (tmp_path / "b" / f"copy{number}.png").write_bytes((tmp_path / "b" / "000.png").read_bytes())
    with pytest.raises(
        DataError, match="b has 1; every class needs at least 3 images that are not copies of each other"
    ):
        make_split(scan(tmp_path))
