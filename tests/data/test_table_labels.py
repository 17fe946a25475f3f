"""A cell or a row with several labels never becomes a class of its own silently."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from triscale.data.options import DataOptions
from triscale.data.sources.manifest import read_manifest
from triscale.data.sources.table_labels import class_names
from triscale.errors import DataError

TAGS = [["desert"], ["desert", "mountains"], ["sea"], ["sea", "sunset"], ["trees"]] * 4


def names(labels: list[str], separator: str | None = None) -> tuple[list[str], list[str]]:
    places = [f"line {index}" for index in range(2, len(labels) + 2)]
    return class_names(Path("t.csv"), places, labels, combinations=separator == "none")


@pytest.mark.parametrize("separator", [" ", ",", ";", "|", ", ", "; ", "/", "+", " & "])
def test_combinations_are_refused(separator: str) -> None:
    labels = [separator.join(tags) for tags in TAGS]
    with pytest.raises(DataError, match=r"8 of 20 rows .*seem to have several labels.*--label-separator none"):
        names(labels)
    assert names(labels, "none") == (labels, [])


@pytest.mark.parametrize("wrap", [str, lambda tags: str(tags).replace("'", '"'), lambda tags: f"[{' '.join(tags)}]"])
def test_lists_are_refused_and_lists_of_one_are_read(wrap: object) -> None:
    assert callable(wrap)
    with pytest.raises(DataError, match=r"written as lists .* with --multi-label"):
        names([wrap(tags) for tags in TAGS])
    assert names([wrap(tags[:1]) for tags in TAGS])[0] == [tags[0] for tags in TAGS]


@pytest.mark.parametrize("separator", ["_", "-"])
def test_words_joined_to_one_are_refused_if_all_parts_are_labels(separator: str) -> None:
    with pytest.raises(DataError, match="several labels"):
        names(["cat", "dog", f"cat{separator}dog"])
    assert names(["cat", f"polar{separator}bear"])[1] == []


def test_tags_that_never_stand_alone_are_refused() -> None:
    with pytest.raises(DataError, match="several labels"):
        names(
            ["clear primary", "clear primary water", "haze primary", "haze primary water", "clear water", "haze water"]
        )


@pytest.mark.parametrize(
    "labels",
    [
        ["golden retriever", "labrador retriever", "pug"],
        ["red car", "red truck", "blue car", "blue truck"],
        ["Tomato___healthy", "Tomato___late_blight", "Apple___healthy"],
        ["T-shirt/top", "Trouser", "Ankle boot"],
        ["0", "1", "2"],
    ],
)
def test_names_of_several_words_are_classes(labels: list[str]) -> None:
    assert names(labels) == (labels, [])


def test_doubtful_names_are_classes_with_a_note() -> None:
    assert '"tench, Tinca tinca", are used as classes of their own' in names(["tench, Tinca tinca", "hen"])[1][0]
    labels = ["iris", "bearded iris", "fire lily", "tiger lily", "canna lily"]
    assert '"bearded iris", are used as classes' in names(labels)[1][0]
    assert 'the label "None" is a class' in names(["None", "rust"])[1][0]


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["sea sunset", "", "sea", "sunset sea"], " "),
        (["sea, sunset", "nan", "sea,", "sunset,sea"], ","),
        (["sea:sunset", "", "sea", "sea : sunset"], ":"),
        (["['sea', 'sunset']", "[]", '["sea"]', '["sunset", "sea"]'], None),
        (["sea and sunset", "", "sea", "sunset and sea"], " and "),
    ],
)
def test_cells_are_read_as_labels(folder: Path, cells: list[str], separator: str | None) -> None:
    (folder / "t.csv").write_text("")
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "tags"), *((f"{i}.png", cell) for i, cell in enumerate(cells))])
    layout = read_manifest(folder / "t.csv", DataOptions(label_separator=separator, multi_label=True))
    assert [file.class_name for file in layout.files["unsplit"]] == [("sea", "sunset"), (), ("sea",), ("sea", "sunset")]
    assert layout.classes["unsplit"] == ("sea", "sunset")
    assert "1.25 on average (2 of 4 rows have several, 1 have none)" in layout.notes[-1]
    if separator is not None:
        assert read_manifest(folder / "t.csv", DataOptions(label_separator=separator)) == layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(4):
        (tmp_path / f"{index}.png").touch()
    return tmp_path


def table(folder: Path, header: str, rows: list[str]) -> Path:
    lines = [f"{index}.png,{row}" for index, row in enumerate(rows)]
    (folder / "t.csv").write_text("\n".join([header, *lines]))
    return folder / "t.csv"


def test_one_row_for_each_label_is_refused(folder: Path) -> None:
    (folder / "t.csv").write_text("path,label\n0.png,a\n0.png,b\n1.png,a\n")
    with pytest.raises(DataError, match=r"in line 2 and line 3, with the labels a and b; .* --multi-label"):
        read_manifest(folder / "t.csv")
    layout = read_manifest(folder / "t.csv", DataOptions(multi_label=True))
    assert [file.class_name for file in layout.files["unsplit"]] == [("a", "b"), ("a",)]
    assert "1 rows of t.csv repeat an image and add their labels to it (0.png in line 3)" in layout.notes[-1]


def test_one_hot_columns(folder: Path) -> None:
    layout = read_manifest(table(folder, "image,a,b,c", ["1,0,0", "0,1,0", "0.0,0.0,1.0", "1,0,0"]))
    assert [file.class_name for file in layout.files["unsplit"]] == ["a", "b", "c", "a"]
    assert "the column with a 1 is the class: a, b, c" in layout.notes[-1]
    layout = read_manifest(table(folder, "image,a,b,c", ["1,1,0", "0,0,0", "0,0,1", "1,0,0"]))
    assert [file.class_name for file in layout.files["unsplit"]] == [("a", "b"), (), ("c",), ("a",)]
    assert "each column with a 1 is a label: a, b, c" in layout.notes[-2]
    file = table(folder, "image,a,b,c", ["1,0,0", "0,1,0", "0,0,1", "1,0,0"])
    layout = read_manifest(file, DataOptions(multi_label=True))
    assert [file.class_name for file in layout.files["unsplit"]] == [("a",), ("b",), ("c",), ("a",)]
    with pytest.raises(DataError, match=r"1 of 4 rows .* have no 1"):
        read_manifest(table(folder, "image,a,b,c", ["0,0,0", "0,1,0", "0,0,1", "1,0,0"]))
    layout = read_manifest(folder / "t.csv", DataOptions(label_column="a"))
    assert layout.classes["unsplit"] == ("0", "1")
