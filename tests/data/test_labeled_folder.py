"""Folders of images with tables, as Kaggle and Hugging Face ImageFolder have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triscale.data.options import DataOptions
from triscale.data.pipeline.scan import scan
from triscale.errors import DataError

from .pictures import noise, write_classes


def images(folder: Path, count: int = 8, first: int = 0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        noise(index).save(folder / f"{index}.png")
    return [f"{index}.png" for index in range(first, first + count)]


def table(file: Path, names: list[str], header: str = "id,label") -> None:
    file.write_text("\n".join([header, *(f"{name},{'ab'[index % 2]}" for index, name in enumerate(names))]))


@pytest.mark.parametrize("folders", [("train", "test"), ("train_images", "test_images"), ("train/train", "test/test")])
def test_kaggle_competition(tmp_path: Path, folders: tuple[str, str]) -> None:
    stems = [name.removesuffix(".png") for name in images(tmp_path / folders[0])]
    images(tmp_path / folders[1], 3, 20)
    table(tmp_path / "train.csv", stems)
    (tmp_path / "test.csv").write_text("id\n20\n21\n22\n")
    (tmp_path / "sample_submission.csv").write_text("id,label\n20,a\n21,a\n22,a\n")
    found = scan(tmp_path)
    assert found.counts == {"unsplit": {"a": 4, "b": 4}}
    assert {image.path.rpartition("/")[0] for image in found.unsplit} == {folders[0]}
    assert found.notes[0] == "the images are labeled by the table train.csv"
    assert any("test.csv" in note and "not read" in note for note in found.notes)


def test_tables_of_two_splits(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", [f"images/{name}" for name in images(tmp_path / "images")], "path,label")
    table(tmp_path / "test.csv", [f"images/{name}" for name in images(tmp_path / "images", 4, 20)], "path,label")
    assert scan(tmp_path).counts == {"train": {"a": 4, "b": 4}, "test": {"a": 2, "b": 2}}
    table(tmp_path / "test.csv", ["images/0.png", "images/1.png"], "path,label")
    with pytest.raises(DataError, match="is in the tables of the splits train and test"):
        scan(tmp_path)


def test_training_images_in_class_folders_and_test_images_in_none(tmp_path: Path) -> None:
    rows = [f"{index % 2},Train/{index % 2}/{name}" for index, name in enumerate(images(tmp_path / "all"))]
    for row in rows:
        file = tmp_path / row.split(",")[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / file.name).rename(file)
    (tmp_path / "all").rmdir()
    (tmp_path / "Train.csv").write_text("\n".join(["ClassId,Path", *rows]))
    table(tmp_path / "Test.csv", [f"Test/{name}" for name in images(tmp_path / "Test", 4, 20)], "Path,ClassId")
    (tmp_path / "Test.csv").write_text((tmp_path / "Test.csv").read_text().replace(",a", ",0").replace(",b", ",1"))
    assert scan(tmp_path).counts == {"train": {"0": 4, "1": 4}, "test": {"0": 2, "1": 2}}


def test_images_in_numbered_folders(tmp_path: Path) -> None:
    names = images(tmp_path / "images_part_1", 4) + images(tmp_path / "images_part_2", 4, 10)
    table(tmp_path / "metadata.csv", [name.removesuffix(".png") for name in names], "image_id,dx")
    assert scan(tmp_path).counts == {"unsplit": {"a": 4, "b": 4}}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("splits", [("",), ("train", "test"), ("train",), ("train", "validation", "test")])
def test_hugging_face_image_folder(tmp_path: Path, kind: str, splits: tuple[str, ...]) -> None:
    for number, split in enumerate(splits):
        names = images(tmp_path / split, 4, 10 * number)
        if kind == "csv":
            table(tmp_path / split / "metadata.csv", names, "file_name,label")
        else:
            lines = [json.dumps({"file_name": name, "label": index % 2}) for index, name in enumerate(names)]
            (tmp_path / split / "metadata.jsonl").write_text("\n".join(lines))
    found = scan(tmp_path)
    assert found.num_images == 4 * len(splits)
    roles = {"": "unsplit", "validation": "val"}
    expected = {roles.get(split, split) for split in splits} if len(splits) > 1 else {"unsplit"}
    assert {role for role, of_role in found.by_role.items() if of_role} == expected


@pytest.mark.parametrize("name", ["_classes.csv", "classes.csv"])
def test_one_hot_tables_of_splits_as_roboflow_exports_them(tmp_path: Path, name: str) -> None:
    marks = {"train": ["1, 0", "0, 1", "1, 1", "0, 0"], "valid": ["1, 0", "0, 1"], "test": ["0, 1", "1, 0"]}
    for number, (split, rows) in enumerate(marks.items()):
        names = images(tmp_path / split, len(rows), 10 * number)
        lines = [f"{image}, {row}" for image, row in zip(names, rows, strict=True)]
        (tmp_path / split / name).write_text("\n".join(["filename, cat, dog", *lines]))
    found = scan(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.multi_label
    assert {role: [image.labels for image in of_role] for role, of_role in found.by_role.items()} == {
        "train": [(0,), (1,), (0, 1), ()],
        "val": [(0,), (1,)],
        "test": [(1,), (0,)],
    }
    (tmp_path / "train" / name).write_text("filename, cat, dog\n0.png, 1, 0\n1.png, 0, 1\n2.png, 1, 0\n")
    assert not scan(tmp_path).multi_label
    (tmp_path / "valid" / name).write_text("filename, cat, dog\n10.png, 1, 1\n11.png, 0, 1\n")
    assert scan(tmp_path).multi_label


def test_lists_of_classes_in_split_folders_label_nothing(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / split, {"cat": 4, "dog": 4})
        (tmp_path / split / "classes.csv").write_text("id,name\n0,cat\n1,dog\n")
    assert scan(tmp_path).counts == {"train": {"cat": 4, "dog": 4}, "test": {"cat": 4, "dog": 4}}


def test_table_and_folder_of_images(tmp_path: Path) -> None:
    table(tmp_path / "set" / "labels.csv", images(tmp_path / "set" / "images"), "filename,class")
    images(tmp_path / "set" / "masks", 3)
    (tmp_path / "set" / "README.txt").write_text("About this data set.\nIt is small.\n")
    assert scan(tmp_path).classes == ("a", "b")
    (tmp_path / "set" / "other.csv").write_bytes((tmp_path / "set" / "labels.csv").read_bytes())
    with pytest.raises(DataError, match=r"holds 2 tables of images \(labels.csv, other.csv\); give one of them"):
        scan(tmp_path)


def test_class_folders_win_over_a_table(tmp_path: Path) -> None:
    write_classes(tmp_path / "set", {"cat": 4, "dog": 4})
    paths = sorted(path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.png"))
    table(tmp_path / "set" / "labels.csv", paths)
    found = scan(tmp_path / "set")
    assert found.classes == ("cat", "dog")
    assert "the class folders are used, not labels.csv" in found.notes[0]
    assert scan(tmp_path / "set", options=DataOptions(label_column="label")).classes == ("a", "b")
    (tmp_path / "set" / "labels.csv").write_text("class,description\ncat,furry\n")
    assert scan(tmp_path / "set").notes == ()


def test_options_for_tables_need_a_table(tmp_path: Path) -> None:
    write_classes(tmp_path / "set", {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match="--label-column applies to tables"):
        scan(tmp_path / "set", options=DataOptions(label_column="label"))
