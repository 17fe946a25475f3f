"""Tables as spreadsheets, Windows, pandas and others write them are read, and what was concluded is reported."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from triscale.data.options import DataOptions
from triscale.data.sources.manifest import read_manifest
from triscale.data.sources.source import FoundFile, Layout
from triscale.errors import DataError

ROWS = [(f"pool/{index:02d}.png", "ab"[index % 2]) for index in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files pool/00.png to pool/07.png, which no test decodes."""
    (tmp_path / "set" / "pool").mkdir(parents=True)
    for path, _ in ROWS:
        (tmp_path / "set" / path).touch()
    return tmp_path / "set"


def put(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def body(separator: str = ",", header: str = "path,label", end: str = "\n", rows: Any = ROWS) -> str:
    lines = [header.replace(",", separator)] if header else []
    return end.join([*lines, *(separator.join(map(str, row)) for row in rows)]) + end


def is_usual(layout: Layout) -> bool:
    return layout.files == {"unsplit": tuple(FoundFile(*row) for row in ROWS)}


def refused(file: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(file, DataOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "CSV", "csv.gz"])
def test_separators_and_suffixes(folder: Path, separator: str, suffix: str) -> None:
    file = put(folder, body(separator), f"t.{suffix}")
    if suffix.endswith("gz"):
        file.write_bytes(gzip.compress(file.read_bytes()))
    layout = read_manifest(file)
    assert is_usual(layout)
    assert "is separated by" in layout.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(folder: Path, encoding: str, end: str) -> None:
    assert is_usual(read_manifest(put(folder, body(end=end), encoding=encoding)))


def test_windows_1252_is_read_with_a_note(folder: Path) -> None:
    layout = read_manifest(put(folder, body().replace(",a", ",café"), encoding="cp1252"))
    assert layout.classes["unsplit"] == ("b", "café")
    assert "is read as Windows-1252 (for example café)" in layout.notes[0]
    (folder / "t.csv").write_bytes(b"\xff\xfep")
    assert "not valid UTF-16" in refused(folder / "t.csv")
    (folder / "t.csv").write_bytes(b"path,label\n\0\0\0\0")
    assert "not a text file" in refused(folder / "t.csv")
    (folder / "t.csv.gz").write_bytes(b"\x1f\x8b\x08broken")
    assert "cannot be decompressed" in refused(folder / "t.csv.gz")


@pytest.mark.parametrize(
    "header",
    [
        "file_name,label",
        "Filename,Class",
        " File Name , class_name ",
        "image,category",
        "img_path,target",
        "image_id,diagnosis",
        "ID,Species",
        "filepath,dx",
        "image,whatever",
    ],
)
def test_usual_column_names_are_recognized_and_said(folder: Path, header: str) -> None:
    layout = read_manifest(put(folder, body(header=header)))
    assert is_usual(layout)
    assert "is read by the columns" in layout.notes[0]


def test_further_columns_are_ignored(folder: Path) -> None:
    rows = [(index, label, "x, y", path, 0.5 + index) for index, (path, label) in enumerate(ROWS)]
    text = body(header=",class,note,filename,age", rows=[(a, b, f'"{c}"', d, e) for a, b, c, d, e in rows])
    layout = read_manifest(put(folder, text))
    assert is_usual(layout)
    assert layout.notes == ("t.csv is read by the columns filename (path), class (label); ignored: note, age",)
    assert is_usual(read_manifest(put(folder, body(header="path,label,patient", rows=[(*row, 7) for row in ROWS]))))


def test_quoted_line_ends_empty_rows_and_trailing_separators(folder: Path) -> None:
    rows = [(path, label, '"two\nlines"', "") for path, label in ROWS]
    assert is_usual(read_manifest(put(folder, "sep=;\n" + body(";", "path,label,note,", rows=rows) + ";;;\n;;;;\n")))


def test_columns_are_named_by_options(folder: Path) -> None:
    rows = [(path, index % 3, label, f"{index}.5") for index, (path, label) in enumerate(ROWS)]
    file = put(folder, body(header="where,kind,sort,size", rows=rows))
    assert is_usual(read_manifest(file, DataOptions(path_column="where", label_column="SORT")))
    assert is_usual(read_manifest(file, DataOptions(path_column="1", label_column="3")))
    assert 'no column "srot" (--label-column); did you mean sort; its columns are' in refused(file, label_column="srot")
    assert "is given twice" in refused(file, path_column="1", label_column="1")
    assert 'no column "9"' in refused(file, label_column="9")


def test_several_candidates_are_listed(folder: Path) -> None:
    rows = [(path, path, label, "cd"[index // 4]) for index, (path, label) in enumerate(ROWS)]
    file = put(folder, body(header="image,file,class,species", rows=rows))
    assert "2 columns of" in refused(file)
    assert "could be the path (image, file); name one of them with --path-column" in refused(file)
    assert "could be the label (class, species)" in refused(file, path_column="file")
    assert is_usual(read_manifest(file, DataOptions(path_column="file", label_column="class")))


def test_ids_and_names_of_the_same_classes_are_one_choice(folder: Path) -> None:
    rows = [(path, "ab".index(label), label) for path, label in ROWS]
    assert is_usual(read_manifest(put(folder, body(header="path,class_id,class_name", rows=rows))))


def test_splits_by_other_names(folder: Path) -> None:
    rows = [(*row, "TRAIN" if index < 4 else "Validation") for index, row in enumerate(ROWS)]
    for header in ("path,label,split", "path,label,subset", "path,label,Set", "path,label,fold"):
        assert set(read_manifest(put(folder, body(header=header, rows=rows))).files) == {"train", "val"}
    file = put(folder, body(header="path,label,part", rows=rows))
    assert set(read_manifest(file, DataOptions(split_column="part")).files) == {"train", "val"}
    folds = put(folder, body(header="path,label,fold", rows=[(*row, index % 5) for index, row in enumerate(ROWS)]))
    layout = read_manifest(folds)
    assert is_usual(layout)
    assert "fold is not used as split" in layout.notes[-1]
    assert 'the split "0" in line 2' in refused(folds, split_column="fold")


@pytest.mark.parametrize("flags", [("False", "True"), ("0", "1"), ("false", "TRUE"), ("0.0", "1.0")])
@pytest.mark.parametrize("name", ["is_valid", "Is Valid", "is_val"])
def test_flags_of_validation_are_splits(folder: Path, name: str, flags: tuple[str, str]) -> None:
    rows = [(*row, flags[index >= 5]) for index, row in enumerate(ROWS)]
    layout = read_manifest(put(folder, body(header=f"fname,labels,{name}", rows=rows)))
    assert [file.path for file in layout.files["val"]] == [path for path, _ in ROWS[5:]]
    assert [file.path for file in layout.files["train"]] == [path for path, _ in ROWS[:5]]
    assert f"the column {name} of t.csv is the split: true or 1 is val, false or 0 is train" in layout.notes


def test_flags_yield_to_a_column_of_splits_and_must_differ(folder: Path) -> None:
    rows = [
        (*row, "True" if index < 4 else "False", "test" if index > 5 else "train") for index, row in enumerate(ROWS)
    ]
    assert set(read_manifest(put(folder, body(header="path,label,is_valid,split", rows=rows))).files) == {
        "train",
        "test",
    }
    file = put(folder, body(header="path,label,is_valid,other", rows=rows))
    assert set(read_manifest(file, DataOptions(split_column="is_valid")).files) == {"train", "val"}
    assert is_usual(read_manifest(put(folder, body(header="path,label,is_valid", rows=[(*row, 0) for row in ROWS]))))


def test_tables_without_header(folder: Path) -> None:
    layout = read_manifest(put(folder, body(header="")))
    assert is_usual(layout)
    assert "has no header: its first line names the image pool/00.png" in layout.notes[0]
    assert is_usual(read_manifest(put(folder, body(header="", rows=[row[::-1] for row in ROWS]))))
    rows = [(path.removesuffix(".png"), 5, label) for path, label in ROWS]
    file = put(folder, body(header="", rows=rows))
    assert is_usual(read_manifest(file, DataOptions(path_column="1", label_column="3")))
    assert "--path-column 1 --label-column 2" in refused(file)


@pytest.mark.parametrize("name", ["train.txt", "list.lst"])
def test_lists_of_paths_and_labels(folder: Path, name: str) -> None:
    numbers = {"a": "3", "b": "7"}
    layout = read_manifest(put(folder, "".join(f"{path} {numbers[label]}\n" for path, label in ROWS), name))
    assert layout.classes["unsplit"] == ("3", "7")
    (folder / "pool" / "00.png").rename(folder / "pool" / "my cat.png")
    text = "# a comment\npool/my cat.png grey cat\n" + "".join(f"{path} dog\n" for path, _ in ROWS[1:])
    assert read_manifest(put(folder, text, name)).classes["unsplit"] == ("dog", "grey cat")


def test_lists_without_labels_are_refused(folder: Path) -> None:
    assert "has no column label" in refused(put(folder, "".join(f"{path}\n" for path, _ in ROWS), "list.txt"))


def test_windows_paths(folder: Path) -> None:
    layout = read_manifest(put(folder, body(rows=[(path.replace("/", "\\"), label) for path, label in ROWS])))
    assert is_usual(layout)
    assert "backslashes in paths are read as / (8 rows)" in layout.notes[-1]
    layout = read_manifest(put(folder, body(rows=[(path.replace("png", "PNG"), label) for path, label in ROWS])))
    assert is_usual(layout)
    assert "other case" in layout.notes[-1]
    for prefix in ("C:\\data\\", "C:/data/", "D://data/", "/home/other/"):
        file = put(folder, body(rows=[(prefix + path, label) for path, label in ROWS]))
        assert "absolute paths, perhaps of another machine" in refused(file)


def test_folders_in_other_case(folder: Path) -> None:
    (folder / "Pics").mkdir()
    (folder / "pool").rename(folder / "Pics" / "Pool")
    rows = [(f"pics/{path}", label) for path, label in ROWS]
    layout = read_manifest(put(folder, body(rows=rows)))
    assert [file.path for file in layout.files["unsplit"]] == [f"Pics/{path.replace('p', 'P', 1)}" for path, _ in ROWS]
    assert "some names of files or folders are spelled with other case than in the table (8 rows)" in layout.notes[-1]
    stems = [(path.replace("/", "\\").removesuffix(".png"), label) for path, label in rows]
    layout = read_manifest(put(folder, body(rows=stems)))
    assert [file.path for file in layout.files["unsplit"]] == [f"Pics/{path.replace('p', 'P', 1)}" for path, _ in ROWS]
    for how in ("backslashes", "other case", "without suffix"):
        assert any(how in note for note in layout.notes), how
    assert "do not exist" in refused(put(folder, body(rows=[(f"pics/spool/{number}.png", "a") for number in (1, 2)])))


def test_folders_that_differ_in_case_alone_are_not_mixed_up(folder: Path) -> None:
    (folder / "POOL").mkdir()
    if len(list(folder.iterdir())) < 2:
        pytest.skip("the file system does not tell names in other case apart")
    (folder / "POOL" / "00.png").touch()
    assert is_usual(read_manifest(put(folder, body())))
    message = refused(put(folder, body(rows=[(path.replace("pool", "Pool"), label) for path, label in ROWS])))
    assert "POOL/00.png and " in message
    assert "give names in the case of their folders" in message


def test_addresses(folder: Path) -> None:
    for prefix in ("https://example.com/", "s3://bucket/"):
        assert "is an address on the web" in refused(
            put(folder, body(rows=[(prefix + path, label) for path, label in ROWS]))
        )
    rows = [((folder / path).as_uri(), label) for path, label in ROWS]
    assert is_usual(read_manifest(put(folder, body(rows=rows))))


def test_names_without_suffix(folder: Path) -> None:
    file = put(folder, body(header="image_id,label", rows=[(path.removesuffix(".png"), label) for path, label in ROWS]))
    layout = read_manifest(file)
    assert is_usual(layout)
    assert "names without suffix are completed" in layout.notes[-1]
    (folder / "pool" / "00.txt").touch()
    assert is_usual(read_manifest(file))
    (folder / "pool" / "00.jpg").touch()
    assert "pool/00 (line 2 of" in refused(file)
    assert "fits 00.jpg and 00.png" in refused(file)


@pytest.mark.parametrize("place", ["images", "t", "train_images", "../jpg", "pool", "images/inner"])
def test_images_in_a_folder_next_to_the_table(folder: Path, place: str) -> None:
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / "pool").rename(folder / place)
    file = put(folder, body(rows=[(path.removeprefix("pool/"), label) for path, label in ROWS]))
    layout = read_manifest(file)
    assert len(layout.files["unsplit"]) == 8
    assert f"are read from the folder {place}" in layout.notes[-1]
    options = DataOptions(image_folder=str(folder / place))
    assert read_manifest(file, options).files == layout.files
    assert read_manifest(file, options).notes == ()
    assert "there is no folder" in refused(file, image_folder=str(folder / "nowhere"))


def test_images_in_two_folders(folder: Path) -> None:
    rows = [(path.removeprefix("pool/"), label) for path, label in ROWS]
    for name in ("train", "test"):
        (folder / name).mkdir()
        for path, _ in rows:
            (folder / name / path).touch()
    assert "are in test and train; name the folder to use with --image-folder" in refused(put(folder, body(rows=rows)))
    layout = read_manifest(put(folder, body(rows=rows), "train.csv"))
    assert {file.path.split("/")[0] for file in layout.files["unsplit"]} == {"train"}
    for index, (path, _) in enumerate(rows):
        (folder / ("train", "test")[index % 2] / path).unlink()
    (folder / "pool").rename(folder / "elsewhere")
    for file in (folder / "elsewhere").iterdir():
        file.unlink()
    layout = read_manifest(put(folder, body(rows=rows)))
    assert "are read from the folders test, train" in layout.notes[-1]


def test_folders_of_other_sets_beside_the_table_are_not_mixed_in(folder: Path) -> None:
    rows = [(path.removeprefix("pool/"), label) for path, label in ROWS]
    file = put(folder, body(rows=rows))
    (folder / "pool").rename(folder / "images_1")
    for number, name in enumerate(("image_files_of_others", "images0", "images")):
        (folder.parent / name).mkdir()
        for path, _ in rows[number : number + 4]:
            (folder.parent / name / path).touch()
    layout = read_manifest(file)
    assert "are read from the folder images_1" in layout.notes[-1]
    (folder / "images_1" / rows[0][0]).unlink()
    assert f"1 of 8 files listed in {file} do not exist" in refused(file)


def test_names_of_columns_are_no_images(folder: Path) -> None:
    (folder / "pool").rename(folder / "images")
    (folder / "images" / "image.png").touch()
    layout = read_manifest(put(folder, body(header="image,label", rows=[(path[5:], label) for path, label in ROWS])))
    assert len(layout.files["unsplit"]) == 8


def test_labels_of_pandas(folder: Path) -> None:
    layout = read_manifest(put(folder, body(rows=[(path, "ab".index(label) + 0.0) for path, label in ROWS])))
    assert layout.classes["unsplit"] == ("0", "1")
    assert "labels such as 0.0 are read as 0" in layout.notes[-1]
    for empty in ("", "nan", "NaN", "<NA>", " "):
        file = put(folder, body(rows=[*ROWS[:6], (ROWS[6][0], empty), (ROWS[7][0], empty)]))
        assert "2 of 8 rows have no label in" in refused(file)
        assert "(line 8, line 9)" in refused(file)


def test_measurements_are_refused(folder: Path) -> None:
    file = put(folder, body(header="path,age", rows=[(path, index / 3) for index, (path, _) in enumerate(ROWS)]))
    assert "regression" in refused(file)


def test_repeated_rows_count_once(folder: Path) -> None:
    layout = read_manifest(put(folder, body(rows=[*ROWS, ROWS[0], ROWS[0]])))
    assert is_usual(layout)
    assert (
        "2 rows of t.csv repeat an image with the same label, and count once (pool/00.png in line 10)"
        in layout.notes[-1]
    )


def json_forms() -> dict[str, Any]:
    paths, labels = zip(*ROWS, strict=True)
    return {
        "records": [{"file_name": path, "label": label, "more": [1]} for path, label in ROWS],
        "mapping": dict(ROWS),
        "pairs": {"labels": [list(row) for row in ROWS]},
        "lists": {"path": list(paths), "label": list(labels)},
        "columns": {"path": dict(enumerate(paths)), "label": dict(enumerate(labels))},
        "by path": {path: {"label": label, "age": 3} for path, label in ROWS},
        "wrapped": {"data": [{"path": path, "label": label} for path, label in ROWS]},
        "coco": coco(),
    }


def coco() -> dict[str, Any]:
    return {
        "info": {},
        "images": [{"id": index, "file_name": path, "width": 8} for index, (path, _) in enumerate(ROWS)],
        "categories": [{"id": 5, "name": "a"}, {"id": 9, "name": "b"}],
        "annotations": [
            {"id": 2 * index + copy, "image_id": index, "category_id": 5 if label == "a" else 9, "bbox": [0, 0, 1, 1]}
            for index, (_, label) in enumerate(ROWS)
            for copy in range(2)
        ],
    }


@pytest.mark.parametrize("form", json_forms())
def test_json(folder: Path, form: str) -> None:
    assert is_usual(read_manifest(put(folder, json.dumps(json_forms()[form]), "t.json")))


def test_json_lines(folder: Path) -> None:
    text = "".join(json.dumps({"file_name": path, "label": label}) + "\n" for path, label in ROWS)
    assert is_usual(read_manifest(put(folder, text, "metadata.jsonl")))
    assert is_usual(read_manifest(put(folder, text, "t.json")))
    assert "line 9 of" in refused(put(folder, text + "{", "metadata.jsonl"))
    assert "is not valid JSON" in refused(put(folder, "[", "t.json"))
    assert "is not a table of images" in refused(put(folder, "[1, 2]", "t.json"))


def test_coco_images_have_one_category(folder: Path) -> None:
    content = coco()
    content["annotations"] = content["annotations"][:12]
    layout = read_manifest(put(folder, json.dumps(content), "t.json"))
    assert len(layout.files["unsplit"]) == 6
    assert "2 of 8 images in t.json have no annotation and are left out" in layout.notes
    content["annotations"][1]["category_id"] = 9
    message = refused(put(folder, json.dumps(content), "t.json"))
    assert """1 of 6 rows of""" in message
    assert """written as lists ("["a", "b"]" in image 0); read them as labels with --multi-label""" in message
    layout = read_manifest(folder / "t.json", DataOptions(multi_label=True))
    assert layout.files["unsplit"][0].class_name == ("a", "b")
    content["annotations"][1]["category_id"] = 77
    assert "category_id 77, which no category has" in refused(put(folder, json.dumps(content), "t.json"))


def test_parquet_with_other_names(folder: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    paths, labels = zip(*ROWS, strict=True)
    table = pyarrow.table({"age": [1.5] * 8, "class": labels, "filename": paths})
    parquet.write_table(table, folder / "t.parquet")
    assert is_usual(read_manifest(folder / "t.parquet"))
