"""A manifest is read as written, or refused with the line of the mistake."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triscale.data.options import DataOptions
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.data.sources.manifest import read_manifest
from triscale.data.sources.source import FoundFile
from triscale.errors import DataError

from .pictures import noise, write_classes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images in a folder that is not a class: pool/00.png to pool/19.png."""
    (tmp_path / "set" / "pool").mkdir(parents=True)
    for index in range(20):
        noise(index).save(tmp_path / "set" / "pool" / f"{index:02d}.png")
    return tmp_path / "set"


def write(folder: Path, *lines: str, name: str = "manifest.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def refused(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(file)
    return str(caught.value)


def test_labels_are_read_from_manifest(folder: Path) -> None:
    lines = [f"pool/{index:02d}.png,{'even' if index % 2 == 0 else 'odd'}" for index in range(20)]
    result = scan(write(folder, "path,label", *lines))
    assert result.root == str(folder)
    assert result.classes == ("even", "odd")
    assert result.counts == {"unsplit": {"even": 10, "odd": 10}}
    assert all(image.label == int(image.path[5:7]) % 2 for image in result.unsplit)
    assert len(make_split(result).test) == 4


def test_splits_are_read_in_any_column_order(folder: Path) -> None:
    parts = ["train"] * 12 + ["Valid"] * 4 + ["test"] * 4
    lines = [f"{part},c{index % 2},pool/{index:02d}.png" for index, part in enumerate(parts)]
    result = scan(write(folder, "split,label,path", *reversed(lines)))
    assert (len(result.train), len(result.val), len(result.test)) == (12, 4, 4)
    assert [image.path for image in result.train] == [f"pool/{index:02d}.png" for index in range(12)]


def test_quotes_bom_and_empty_lines_are_accepted(folder: Path) -> None:
    (folder / "pool" / "00.png").rename(folder / "pool" / "a, b.png")
    file = write(folder, "path,label", '"pool/a, b.png", x ', "", 'pool/01.png,"y, z"')
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_manifest(file).files == {"unsplit": (FoundFile("pool/01.png", "y, z"), FoundFile("pool/a, b.png", "x"))}


def test_existing_paths_outside_folder_are_accepted(folder: Path, tmp_path: Path) -> None:
    noise(50).save(tmp_path / "outside.png")
    noise(51).save(tmp_path / "absolute.png")
    inside = folder / "pool" / "00.png"
    file = write(
        folder, "path,label", "../outside.png,a", f"{tmp_path}/absolute.png,b", f"{inside},a", "pool/../pool/01.png,b"
    )
    outside = {f"{tmp_path}/outside.png", f"{tmp_path}/absolute.png"}
    assert {result.path for result in read_manifest(file).files["unsplit"]} == {*outside, "pool/00.png", "pool/01.png"}
    assert {image.path for image in scan(file).unsplit} == {*outside, "pool/00.png", "pool/01.png"}
    message = refused(write(folder, "path,label", "../nothing.png,a", "/nothing/at/all.png,b", f"{inside},a"))
    assert "2 of 3 files" in message
    assert "../nothing.png (line 2), /nothing/at/all.png (line 3)" in message


def test_symlink_before_dots_is_resolved(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "deep").mkdir(parents=True)
    noise(60).save(tmp_path / "far" / "x.png")
    noise(61).save(folder / "x.png")
    (folder / "link").symlink_to(tmp_path / "far" / "deep")
    file = write(folder, "path,label", "link/../x.png,a", "x.png,b")
    paths = [result.path for result in read_manifest(file).files["unsplit"]]
    assert [(folder / path).resolve() for path in paths] == [tmp_path / "far" / "x.png", folder / "x.png"]


BAD = {
    "path,lable,weight\npool/00.png,a,1": "has no column label; did you mean lable; its columns are",
    "path,weight,size\npool/00.png,a,1": "name it with --label-column",
    "path\npool/00.png": "has no column label",
    "label,split\na,train": "has no column path",
    "path,label,label\npool/00.png,a,a": "two columns label",
    "": "has no column path",
    "path,label": "lists no images",
    "path,label\npool/00.png": "line 2 of",
    "path,label\npool/00.png,a,b": "has 3 fields; expected 2",
    'path,label\n"pool/00.png,a': "is damaged",
    "path,label,split\npool/00.png,a,train\npool/00.png,a,test": "with the splits train and test; keep",
    "path,label\npool/00.png,a\npool/./00.png,b": "with the labels a and b",
    "path,label\n,a": "line 2 of",
    "path,label\npool/00.png, ": "is not a class name",
    "path,label\npool/00.png,a\npool,b": "1 of 2 files",
    "path,label\npool/00.png,a\npool/01.png,a": "only one label, a",
    "path,label,split\npool/00.png,a,tets\npool/01.png,b,train": 'the split "tets" in line 2',
    "path,label,split\npool/00.png,a,train\npool/01.png,b,": "give it for all or none",
    "path,label,split\npool/00.png,a,train\npool/01.png,b,train": "only images of the split train;",
    "path,label,split\npool/00.png,a,val\npool/01.png,b,test": "only images of the split val and test;",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_invalid_manifests_are_rejected(folder: Path, text: str) -> None:
    assert BAD[text] in refused(write(folder, text))


def test_splits_with_different_classes_follow_the_options(folder: Path) -> None:
    rows = [f"pool/{index:02d}.png,{'ab'[index % 2]},{'train' if index < 12 else 'val'}" for index in range(16)]
    file = write(folder, "path,label,split", *rows, "pool/16.png,a,test", "pool/18.png,a,test")
    with pytest.raises(DataError, match="b is missing; add images of them, or accept it with --allow-missing-classes"):
        scan(file)
    assert scan(file, options=DataOptions(allow_missing_classes=True)).counts["test"] == {"a": 2, "b": 0}
    write(folder, "path,label,split", *rows, "pool/16.png,a,test", "pool/17.png,b,test", "pool/18.png,c,test")
    with pytest.raises(DataError, match="c is not among the training classes"):
        scan(file)


def test_missing_manifest_and_spreadsheets_are_rejected(folder: Path) -> None:
    assert "there is no manifest" in refused(folder / "nothing.csv")
    assert "save it as CSV" in refused(folder / "labels.xlsx")
    with pytest.raises(DataError, match="there is no manifest"):
        scan(folder / "nothing.csv")


def test_folder_named_like_manifest_is_a_folder(tmp_path: Path) -> None:
    assert scan(write_classes(tmp_path / "set.csv", {"a": 2, "b": 2})).num_images == 4


def test_bad_images_of_a_manifest_are_listed(folder: Path) -> None:
    (folder / "pool" / "03.png").write_bytes(b"")
    lines = [f"pool/{index:02d}.png,{index % 2}" for index in range(20)]
    assert [bad.path for bad in scan(write(folder, "path,label", *lines)).bad] == ["pool/03.png"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=8), min_size=2, max_size=8))
def test_any_label_round_trips_or_is_rejected(folder: Path, labels: list[str]) -> None:
    try:
        with (folder / "any.csv").open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            writer.writerow(("path", "label"))
            writer.writerows((f"pool/{index:02d}.png", label) for index, label in enumerate(labels))
        result = read_manifest(folder / "any.csv").files["unsplit"]
    except (DataError, UnicodeEncodeError, csv.Error):
        return
    assert len(result) == len(labels)
    assert all(image.class_name == image.class_name.strip() and image.class_name for image in result)


def test_message_without_pyarrow_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    (folder / "set.parquet").write_bytes(b"PAR1")
    assert "pip install 'triscale[parquet]'" in refused(folder / "set.parquet")


def test_parquet_and_csv_give_the_same_result(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = [f"pool/{index:02d}.png" for index in range(20)]
    labels = [index % 2 for index in range(20)]
    parts = ["train", "train", "test", "test"] * 5
    table = {"path": paths, "label": labels, "split": parts}
    parquet.write_table(pyarrow.table(table), folder / "set.parquet")
    lines = [f"{path},{label},{part}" for path, label, part in zip(paths, labels, parts, strict=True)]
    assert read_manifest(folder / "set.parquet") == read_manifest(write(folder, "path,label,split", *lines))
    for changed, message in (
        ({"label": [index / 2 for index in range(20)]}, "look like measurements"),
        ({"path": [None, *paths[1:]]}, "row 1 of"),
        ({"split": [*parts[:19], "tets"]}, 'the split "tets" in row 20'),
    ):
        parquet.write_table(pyarrow.table(table | changed), folder / "bad.parquet")
        assert message in refused(folder / "bad.parquet")
    (folder / "bad.parquet").write_bytes((folder / "set.parquet").read_bytes()[:-20])
    assert "not a readable Parquet file" in refused(folder / "bad.parquet")
