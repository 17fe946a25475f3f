"""File names of recordings, patients and plants are noticed; plain numbering is not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.data.checks.group_names import group_suggestion, suggested_regex
from triscale.data.sources.scanned import Scan, ScannedImage

CLASSES = ("cat", "dog")


def regex_of(names: list[str]) -> str | None:
    """Return what the names suggest; the class is the first folder."""
    labels = {name: label for label, name in enumerate(sorted({name.partition("/")[0] for name in names}))}
    return suggested_regex([ScannedImage(name, labels[name.partition("/")[0]], 8, 8, 9, "PNG") for name in names])


def found_groups(names: list[str]) -> set[str]:
    regex = regex_of(names)
    assert regex is not None
    matches = [re.search(regex, name) for name in names]
    assert all(matches)
    return {match.group(1) for match in matches if match}


@pytest.mark.parametrize(
    "names",
    [
        [f"{name}/{name}.{i}.jpg" for name in CLASSES for i in range(1, 100)],
        [f"{name}/IMG_{i:04d}.JPG" for name in CLASSES for i in range(100)],
        [f"{name}/image_{i:04d}.jpg" for name in CLASSES for i in range(100)],
        [f"{name}/{i}.jpg" for name in CLASSES for i in range(100)],
        [f"{name}/{name} ({i}).jpg" for name in CLASSES for i in range(100)],
        [f"{name}/IMG_202401{1 + i % 28:02d}_{101010 + 137 * i}.jpg" for name in CLASSES for i in range(100)],
        [f"{name}/2024-01-{1 + i % 28:02d} 10.{i % 60:02d}.{i % 7}.jpg" for name in CLASSES for i in range(200)],
        [f"{name}/IMG-202401{1 + i % 28:02d}-WA{i // 9:04d}.jpg" for name in CLASSES for i in range(200)],
        [f"{name}/{breed}_{i}.jpg" for name in CLASSES for breed in ("pug", "lab", "tabby", "manx") for i in range(9)],
        [f"{name}/{breed}/{i}.jpg" for name in CLASSES for breed in ("pug", "lab", "tabby", "manx") for i in range(9)],
        [f"{name}/batch_{part}/{i}.jpg" for name in CLASSES for part in range(9) for i in range(9)],
        [f"{name}/part{part}_{i}.jpg" for name in CLASSES for part in range(9) for i in range(9)],
        [f"{name}/{prefix}{i}_100.jpg" for name in CLASSES for prefix in ("", "r_") for i in range(99)],
        [f"{name}/n0{name == 'cat'}440764_{i}.jpg" for name in CLASSES for i in range(99)],
        [f"train/{name}/{i:05d}.jpg" for name in CLASSES for i in range(99)],
        [f"{name}/p{p}_{i}.jpg" for name in CLASSES for p in range(2) for i in range(2)],
    ],
)
def test_plain_numbering_suggests_nothing(names: list[str]) -> None:
    assert regex_of(names) is None


@pytest.mark.parametrize(
    ("form", "group"),
    [
        ("{name}/patient{group}_{i:03d}.png", "patient{group}"),
        ("{name}/patient_{group}_{i:03d}.png", "patient_{group}"),
        ("{name}/IMG_plant{group}-{i}.jpg", "IMG_plant{group}"),
        ("{name}/cow-{group:02d}/frame_{i:04d}.png", "cow-{group:02d}"),
        ("train/{name}/cow-{group:02d}/left/{i:04d}.png", "cow-{group:02d}"),
        ("{name}/cow-{group:02d}_frame_{i:04d}.png", "cow-{group:02d}"),
        ("{name}/slide{group}_x{i}_y{i}.tif", "slide{group}"),
        ("{name}/{group:04d}_c{i}s1_000{i}51_0{i}.jpg", "{group:04d}"),
        ("{name}/scan{group}_aug{i}.png", "scan{group}"),
        ("{name}/IMG{group}_jpg.rf.{i}3f5a8c.jpg", "IMG{group}"),
        ("{name}/leaf {group} ({i}).jpg", "leaf {group}"),
    ],
)
def test_names_of_groups_are_noticed(form: str, group: str) -> None:
    pairs = [(name, number) for number in range(20) for name in (CLASSES if number % 2 else CLASSES[:1])]
    names = [form.format(name=name, group=number, i=i) for name, number in pairs for i in range(1, 6)]
    assert found_groups(names) == {group.format(group=number) for number in range(20)}


def test_some_names_may_have_another_form() -> None:
    names = [f"{name}/plant{name}{number}_{i}.png" for name in CLASSES for number in range(9) for i in range(5)]
    groups = found_groups([*names, "cat/overview.png"])
    assert len(groups) == 19
    assert "overview" in groups


WORDS = st.from_regex(r"[A-Za-z]{1,8}", fullmatch=True)


@given(
    st.lists(st.tuples(WORDS, st.sampled_from(["", "_", "-", ".", " ", "_0"])), min_size=2, max_size=4),
    st.integers(0, 5),
    st.integers(1, 80),
    st.integers(0, 5000),
)
def test_one_prefix_per_class_suggests_nothing(
    forms: list[tuple[str, str]], width: int, count: int, start: int
) -> None:
    names = [
        f"c{label}/{word}{separator}{i:0{width}d}.jpg"
        for label, (word, separator) in enumerate(forms)
        for i in range(start, start + count)
    ]
    assert regex_of(names) is None


@given(
    WORDS.filter(
        lambda word: not re.search("(?i)(data|set|part|batch|fold|split|chunk|shard|archive|train|test|val|v)", word)
    ),
    st.sampled_from("_-"),
    st.integers(4, 12),
    st.integers(2, 9),
    st.integers(0, 1),
)
def test_numbered_groups_of_counted_images_are_noticed(
    word: str, separator: str, number: int, count: int, first: int
) -> None:
    names = [
        f"c{label}/{word}{group}{separator}{i:03d}.png"
        for label in range(2)
        for group in range(label * number, (label + 1) * number)
        for i in range(first, first + count)
    ]
    assert found_groups(names) == {f"{word}{group}" for group in range(2 * number)}


def test_suggestion_is_an_option_that_works() -> None:
    images = [ScannedImage(f"c/cow{i // 4}_{i % 4}.jpg", i // 16, 8, 8, 9, "JPEG") for i in range(32)]
    found = Scan(root="/c", classes=("a", "b"), unsplit=tuple(images))
    sentence = group_suggestion(found)
    assert sentence is not None
    assert sentence.startswith("file names suggest 8 groups")
    assert sentence.endswith('--group-regex "([^/]+)_[^_/]+$"')
    assert group_suggestion(found.replace(grouped_by="something")) is None


def test_given_splits_that_keep_groups_apart_are_not_doubted() -> None:
    images = [ScannedImage(f"c/cow{i // 4}_{i % 4}.jpg", i // 16, 8, 8, 9, "JPEG") for i in range(48)]
    apart = Scan(root="/c", classes=("a", "b", "c"), train=images[:24], val=images[24:32], test=images[32:])
    assert group_suggestion(apart) is None
    mixed = Scan(root="/c", classes=("a", "b", "c"), train=images[:25], val=images[25:32], test=images[32:])
    assert group_suggestion(mixed) is not None
