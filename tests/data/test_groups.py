"""Images of one group never lie in two splits, however groups are given."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from triscale.data.checks.duplicates import Duplicates
from triscale.data.images.capture_time import capture_time
from triscale.data.options import DataOptions
from triscale.data.pipeline.leaks import find_leaks, refuse_leaks
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import Split, make_split
from triscale.data.sources.pack import pack
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError, RecordError

from .pictures import encode, noise


def grouped(rows: list[tuple[str, int, str]], classes: int = 2) -> Scan:
    """Return a scan of images given by path, label and group."""
    images = tuple(ScannedImage(path, label, 8, 8, 9, "PNG", group=group) for path, label, group in rows)
    return Scan(
        root="/images", classes=tuple(f"c{i}" for i in range(classes)), unsplit=images, grouped_by='the column "id"'
    )


def groups_of(split: Split, found: Scan) -> list[set[str]]:
    return [{found.groups[s.path] for s in samples} for samples in (split.train, split.val, split.test)]


SIZES = st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=15), min_size=2, max_size=4)


@given(SIZES, st.integers(0, 1000), st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_groups_of_one_class_stay_together(sizes: list[list[int]], seed: int, test: float, val: float) -> None:
    rows = [
        (f"{label}/{number}-{index}", label, f"{label} {number}")
        for label, of_class in enumerate(sizes)
        for number, size in enumerate(of_class)
        for index in range(size)
    ]
    found = grouped(rows, len(sizes))
    split = make_split(found, seed=seed, test_share=test, val_share=val, duplicates=Duplicates())
    train, held, tested = groups_of(split, found)
    assert not (train & held) | (train & tested) | (held & tested)
    assert len(split.train) + len(split.val) + len(split.test) == len(rows)
    assert split.num_groups == sum(map(len, sizes))
    for samples in (split.train, split.val, split.test):
        assert {sample.label for sample in samples} == set(range(len(sizes)))
    counts = Counter(sample.label for sample in split.test)
    for label, of_class in enumerate(sizes):
        assert counts[label] <= test * sum(of_class) + max(of_class)


@given(st.integers(0, 10_000), st.integers(6, 40), st.integers(2, 4))
def test_groups_of_several_classes_are_stratified(seed: int, number: int, classes: int) -> None:
    rows = [
        (f"{group}-{index}", (group + index // (1 + seed % 3)) % classes, str(group))
        for group in range(number)
        for index in range(8)
    ]
    found = grouped(rows, classes)
    split = make_split(found, seed=seed, duplicates=Duplicates())
    assert sum(map(len, groups_of(split, found))) == number
    assert 0.1 * len(rows) <= len(split.test) <= 0.4 * len(rows)


def test_split_of_groups_depends_only_on_seed_and_names() -> None:
    rows = [(f"{group}-{index}", group % 2, f"g{group}") for group in range(30) for index in range(4)]
    first = make_split(grouped(rows), seed=3)
    assert make_split(grouped(rows[::-1]), seed=3) == first
    assert make_split(grouped(rows), seed=4) != first
    assert "30 groups by the column" in first.how
    assert len(first.test) == 24


def test_duplicates_join_groups() -> None:
    rows = [(f"{group}-{index}", group % 2, f"g{group}") for group in range(12) for index in range(2)]
    copies = Duplicates(exact=(("0-0", "2-1"), ("2-0", "4-0"), ("6-0", "8-0")))
    for seed in range(20):
        split = make_split(grouped(rows), seed=seed, duplicates=copies)
        where = {s.path: role for role in ("train", "val", "test") for s in getattr(split, role)}
        assert where["0-0"] == where["2-0"] == where["4-1"]
        assert where["6-1"] == where["8-0"]


def test_too_few_groups_are_named() -> None:
    rows = [(f"{label}-{group}-{i}", label, f"{label} {group}") for label in (0, 1) for group in (0, 1) for i in (0, 1)]
    with pytest.raises(DataError, match=r"class c0 has images of 2 groups only, class c1 .* at least 3 groups"):
        make_split(grouped(rows))


def test_groups_that_hold_all_classes_crosswise_are_refused() -> None:
    rows = [("a", 0, "1"), ("b", 0, "2"), ("c", 0, "3"), ("d", 1, "1"), ("e", 1, "2"), ("f", 1, "4"), ("g", 2, "1")]
    rows += [("h", 2, "3"), ("i", 2, "4"), ("j", 3, "2"), ("k", 3, "3"), ("l", 3, "4")]
    with pytest.raises(DataError, match="no division was found"):
        make_split(grouped(rows, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five cows with three frames each, a table, and capture times 10 s apart within a cow."""
    root = tmp_path_factory.mktemp("groups") / "cows"
    rows = []
    for number in range(10):
        for frame in range(3):
            path = root / "ab"[number % 2] / f"cow{number}_{frame}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 {number:02d}:00:{10 * frame:02d}"
            noise(3 * number + frame).save(path, exif=exif)
            rows.append((path.relative_to(root.parent), "ab"[number % 2], f"C{number}"))
    with (root.parent / "cows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "cow id"), *rows])
    return root


@pytest.mark.parametrize(
    ("source", "options", "name"),
    [
        ("cows.csv", DataOptions(group="cow id"), "C3"),
        ("cows.csv", DataOptions(group="3"), "C3"),
        ("cows", DataOptions(group_regex=r"cow\d+"), "cow3"),
        ("cows", DataOptions(group_regex=r"/cow(\d+)_"), "3"),
        ("cows", DataOptions(group_by="time"), "b/cow3_0.jpg"),
        ("cows", DataOptions(group_by="time:10"), "b/cow3_0.jpg"),
    ],
)
def test_every_way_finds_the_same_groups(folder: Path, source: str, options: DataOptions, name: str) -> None:
    found = scan(folder.parent / source, options=options)
    of_cow: dict[str, set[str]] = {}
    for path, group in found.groups.items():
        of_cow.setdefault(path.rpartition("_")[0][-4:], set()).add(group)
    assert [len(names) for names in of_cow.values()] == [1] * 10
    assert of_cow["cow3"] == {name}
    assert make_split(found).num_groups == 10


def test_shorter_gap_divides_recordings(folder: Path) -> None:
    assert len(set(scan(folder, options=DataOptions(group_by="time:9")).groups.values())) == 30


def test_near_duplicates_form_chains(tmp_path: Path) -> None:
    for number in range(12):
        picture = noise(number, 64)
        for version, quality in enumerate((95, 80)):
            path = tmp_path / "ab"[number % 2] / f"{number}{version}.jpg"
            path.parent.mkdir(exist_ok=True)
            picture.save(path, quality=quality)
    found = scan(tmp_path, options=DataOptions(group_by="near-duplicates"))
    assert Counter(found.groups.values()) == {f"{'ab'[number % 2]}/{number}0.jpg": 2 for number in range(12)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "a", "group_regex": "b"}, "--group and --group-regex both say"),
        ({"group_by": "colour"}, "expected time, time:SECONDS .* or near-duplicates"),
        ({"group_by": "time:-1"}, "is unknown"),
        ({"group_regex": "("}, "is not a regular expression"),
        ({"group_regex": ""}, "is empty"),
        ({"group": ""}, "is empty"),
    ],
)
def test_contradictions_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        DataOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DataOptions(group_regex=r"cow[0-4]"), "15 of 30 images .* such as a/cow6_0.jpg"),
        (DataOptions(group_regex="cow"), "form one group"),
        (DataOptions(group="cow id"), "--group applies to tables"),
    ],
)
def test_images_without_group_are_refused(folder: Path, options: DataOptions, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scan(folder, options=options)


def test_rows_without_group_are_refused(folder: Path, tmp_path: Path) -> None:
    text = (folder.parent / "cows.csv").read_text().replace(",C3", ",", 1)
    (folder.parent / "holes.csv").write_text(text)
    with pytest.raises(DataError, match=r"1 of 30 rows .* have no group, such as line 11"):
        scan(folder.parent / "holes.csv", options=DataOptions(group="cow id"))


def test_column_of_groups_is_noticed(folder: Path) -> None:
    text = (folder.parent / "cows.csv").read_text().replace("cow id", "animal_id")
    (folder.parent / "named.csv").write_text(text)
    assert any("--group animal_id" in note for note in scan(folder.parent / "named.csv").notes)
    assert not any("--group" in note for note in scan(folder.parent / "cows.csv").notes)


def test_group_on_both_sides_of_given_splits_is_a_leak() -> None:
    rows = [(f"{i:02d}", i % 2, f"g{i // 4}") for i in range(24)]
    images = [ScannedImage(path, label, 8, 8, 9, "PNG", group=group) for path, label, group in rows]
    found = Scan(root="/i", classes=("a", "b"), train=images[:18], test=images[18:], grouped_by="the column")
    split = make_split(found, duplicates=Duplicates())
    leaks = find_leaks(split, Duplicates(), found.groups)
    assert {(leak.path, leak.match) for leak in leaks} == {("18", "group"), ("19", "group")}
    with pytest.raises(DataError, match=r"2 test or validation images are of a group .* --allow-leak"):
        refuse_leaks(split.root, leaks)


def test_packing_refuses_to_lose_groups(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not keep the groups"):
        pack(scan(folder, options=DataOptions(group_regex=r"cow\d+")), tmp_path / "shards")


@given(st.binary(max_size=200))
def test_damaged_capture_times_are_none(damage: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 00:00:00"
    whole = exif.tobytes()
    for block in (whole[: len(damage)] + damage, damage):
        capture_time(encode(noise(0), "JPEG", exif=block))


def test_default_options_keep_their_digest() -> None:
    assert "group" not in DataOptions().to_json()
    assert (
        "num_groups"
        not in make_split(grouped([(f"{i}", i % 2, "") for i in range(20)]).replace(grouped_by="")).to_json()
    )
