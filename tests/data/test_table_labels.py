"""A cell or a row with several labels never becomes a class of its own silently."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest

from triscale.data.options import DataOptions
from triscale.data.sources.manifest import read_manifest
from triscale.data.sources.several_labels import label_sets
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
        ["clear primary", "clear primary water", "clear primary road", "haze primary"],
        ["clear primary", "clear primary water", "clear primary road", "haze primary", "haze primary water", "cloudy"],
        ["clear primary", "clear primary water", "clear primary road", "haze primary", "cloudy"],
        ["sea sand", "sea sand sun", "sea sand boat", "sun boat", "sun boat sea", "sun boat sand"],
        ["cat", "dog", "cat dog", "dog cat"],
        ["cat dog", "dog cat", "bird"],
        ["cat dog", "dog bird", "bird cat"],
        ["cat & dog", "dog & cat"],
        ["1 2", "2 1", "3 4"],
    ],
)
def test_the_same_words_in_another_order_or_within_other_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(DataError, match="several labels"):
        names(labels)
    assert names(labels, "none") == (labels, [])


@pytest.mark.parametrize(
    ("joint", "proposed"),
    [
        (" & ", "' & '"),
        (" + ", "' + '"),
        (" / ", "' / '"),
        (" - ", "' - '"),
        (" and ", "' and '"),
        ("&", "'&'"),
        ("+", "+"),
        ("/", "/"),
        (" ", "' '"),
    ],
)
def test_the_proposed_separator_gives_the_labels(joint: str, proposed: str) -> None:
    cells = ["cat", "dog", f"cat{joint}dog"]
    with pytest.raises(DataError) as caught:
        names(cells)
    assert f"with --label-separator {proposed}, or" in str(caught.value)
    (separator,) = shlex.split(proposed)
    places = ["line 2", "line 3", "line 4"]
    assert label_sets(Path("t.csv"), places, cells, separator)[0] == [("cat",), ("dog",), ("cat", "dog")]


def test_a_hyphen_is_proposed_as_the_command_line_reads_it() -> None:
    with pytest.raises(DataError, match="with --label-separator='-', or"):
        names(["cat", "dog", "cat-dog"])


def test_other_separators_than_the_given_one_are_noted() -> None:
    places = ["line 2", "line 3", "line 4"]
    notes = label_sets(Path("t.csv"), places, ["cat;dog", "cat,dog", "cat"], ";")[1]
    assert notes[-1] == (
        't.csv: 1 of 3 labels holds commas, such as "cat,dog", and stays one label; if these are several labels, give '
        "--label-separator ',', or write the same separator everywhere"
    )
    assert len(label_sets(Path("t.csv"), places, ["cat;dog", "dog", "cat"], ";")[1]) == 1


@pytest.mark.parametrize(
    ("label", "character"),
    [
        ("cat\u200b", "U\\+200B ZERO WIDTH SPACE"),
        ("c\u00adat", "U\\+00AD SOFT HYPHEN"),
        ("\u202ecat", "U\\+202E RIGHT-TO-LEFT OVERRIDE"),
        ("ca\x07t", "U\\+0007 CONTROL CHARACTER"),
    ],
)
def test_labels_with_invisible_characters_are_refused_by_the_name_of_the_character(label: str, character: str) -> None:
    with pytest.raises(DataError, match=f"cannot be seen \\({character}\\); remove it"):
        names(["cat", label])
    with pytest.raises(DataError, match=character):
        label_sets(Path("t.csv"), ["line 2"], [f"dog;{label}"], ";")


def test_joiners_that_scripts_need_are_labels() -> None:
    labels = ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f33e"]  # "I want", a farmer
    assert names(labels) == (labels, [])


def test_the_note_on_integers_names_one_that_changes() -> None:
    assert names(["0", "0.0", "1"]) == (["0", "0", "1"], ["t.csv: labels such as 0.0 are read as 0"])


@pytest.mark.parametrize(
    "labels",
    [
        ["golden retriever", "labrador retriever", "pug"],
        ["red car", "red truck", "blue car", "blue truck"],
        ["sea lion", "california sea lion", "steller sea lion"],
        ["Tomato leaf", "Tomato leaf late blight", "Tomato leaf mosaic virus", "Apple rust leaf", "Corn leaf blight"],
        ["1/2", "2/1", "3/4"],
        ["Tomato___healthy", "Tomato___late_blight", "Apple___healthy"],
        ["T-shirt/top", "Trouser", "Ankle boot"],
        ["0", "1", "2"],
    ],
)
def test_names_of_several_words_are_classes(labels: list[str]) -> None:
    assert names(labels) == (labels, [])


@pytest.mark.parametrize("others", [[], ["poodle"], ["husky", "poodle", "pug"]])
def test_a_class_and_its_kinds_are_classes_with_a_note(others: list[str]) -> None:
    labels = ["golden retriever", "golden retriever puppy", "golden retriever adult", *others]
    found, notes = names(labels)
    assert found == labels
    assert notes == ['t.csv: labels with spaces, such as "golden retriever puppy", are used as classes of their own']


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
