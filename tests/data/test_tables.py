"""Datasets written by Hugging Face datasets are read without it, and to the same images."""

from __future__ import annotations

import io
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from triscale.data.checks import examine
from triscale.data.images.color import BadImage
from triscale.data.images.decode import ImageLimits, decode
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import check_present, make_split
from triscale.data.sources import scan_cache
from triscale.data.sources.pack import pack
from triscale.data.sources.scanned import Scan
from triscale.data.sources.store import open_store
from triscale.errors import DataError
from triscale.places import cache_folder

from .pictures import encode, noise

datasets = pytest.importorskip("datasets", reason="needs datasets")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")

NAMES = ["zebra", "Füchse", "ant"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets.disable_progress_bars()


def features(**more: Any) -> Any:
    return datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), **more})


def made(count: int, seed: int = 0) -> Any:
    """Return a dataset of noise with alternating classes."""
    rows = {
        "image": [noise(seed + number) for number in range(count)],
        "label": [number % 3 for number in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features=features())


def check(result: Scan, role: str, expected: Any) -> None:
    """Compare a split with the result of the library."""
    store = open_store(result.root)
    images = {int(image.path.rpartition("#")[2]): image for image in result.by_role[role]}
    assert sorted(images) == list(range(len(expected)))
    for row, image in images.items():
        assert image.label == expected[row]["label"]
        assert np.array_equal(np.asarray(decode(store.read(image.path))), np.asarray(expected[row]["image"]))


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan(root)
    return str(caught.value)


def test_dataset_saved_to_disk_is_read(tmp_path: Path) -> None:
    made(12).save_to_disk(tmp_path / "set")
    result = scan(tmp_path / "set")
    assert result.classes == tuple(NAMES)
    assert set(result.by_role) == {"unsplit"}
    check(result, "unsplit", datasets.load_from_disk(str(tmp_path / "set")))


def test_dataset_with_several_files_and_selected_rows_is_read(tmp_path: Path) -> None:
    made(30).select(range(29, 3, -2)).save_to_disk(tmp_path / "set", num_shards=2)
    result = scan(tmp_path / "set")
    saved = datasets.load_from_disk(str(tmp_path / "set"))
    store = open_store(result.root)
    paths = [f"data-{part:05d}-of-00002.arrow#{row}" for part, rows in ((0, 7), (1, 6)) for row in range(rows)]
    assert [image.path for image in result.unsplit] == sorted(paths)
    for row, path in enumerate(paths):
        assert np.array_equal(np.asarray(decode(store.read(path))), np.asarray(saved[row]["image"]))


def test_dataset_dict_splits_are_read(tmp_path: Path) -> None:
    parts = {"train": made(9), "validation": made(6, 100), "test": made(3, 200)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    result = scan(tmp_path / "set")
    for role, part in (("train", "train"), ("val", "validation"), ("test", "test")):
        check(result, role, parts[part])
    datasets.DatasetDict({"train": parts["train"]}).save_to_disk(tmp_path / "one")
    assert set(scan(tmp_path / "one").by_role) == {"unsplit"}
    datasets.DatasetDict({"train": parts["train"], "extra": parts["test"]}).save_to_disk(tmp_path / "other")
    assert "has a split extra" in refused(tmp_path / "other")


@pytest.mark.parametrize("folder", ["", "data"])
def test_folder_of_parquet_files_is_read(tmp_path: Path, folder: str) -> None:
    parts = {"train": made(700), "test": made(6, 1000)}
    root = tmp_path / "set" / folder
    root.mkdir(parents=True)
    for part, rows in parts.items():
        rows.to_parquet(root / f"{part}-00000-of-00001.parquet", batch_size=64)
    (tmp_path / "set" / "README.md").write_text("about it")
    before = sorted(path for path in (tmp_path / "set").rglob("*"))
    result = scan(tmp_path / "set")
    for role, rows in parts.items():
        check(result, role, rows)
    assert sorted(path for path in (tmp_path / "set").rglob("*")) == before
    kept = {path: path.stat().st_mtime_ns for path in (cache_folder() / "tables").iterdir()}
    assert scan(tmp_path / "set") == result
    assert {path: path.stat().st_mtime_ns for path in (cache_folder() / "tables").iterdir()} == kept


def test_parquet_of_other_writers_is_read(tmp_path: Path) -> None:
    table = {
        "picture": [{"bytes": encode(noise(number), "JPEG"), "path": None} for number in range(6)],
        "label": ["b", "a", "10", "9", "b", "a"],
        "more": list(range(6)),
    }
    parquet.write_table(sys.modules["pyarrow"].table(table), tmp_path / "x.parquet")
    result = scan(tmp_path)
    assert result.classes == ("9", "10", "a", "b")
    assert [result.classes[image.label] for image in result.unsplit] == table["label"]


def test_image_files_referenced_by_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows: list[dict[str, object]] = []
    for number in range(6):
        noise(number).save(tmp_path / f"{number}.png")
        rows.append({"bytes": None, "path": str(tmp_path / f"{number}.png")})
    table = sys.modules["pyarrow"].table({"image": rows, "label": [0, 1] * 3})
    table = table.cast(
        sys.modules["pyarrow"].schema(
            [
                ("image", sys.modules["pyarrow"].struct([("bytes", "binary"), ("path", "string")])),
                ("label", "int64"),
            ]
        )
    )
    parquet.write_table(table, tmp_path / "set" / "x.parquet")
    assert scan(tmp_path / "set").num_images == 6
    noise(77).save(tmp_path / "3.png")
    expected = (tmp_path / "3.png").read_bytes()
    assert open_store(str(tmp_path / "set")).read("x.parquet#3") == expected
    (tmp_path / "3.png").unlink()
    assert scan(tmp_path / "set").bad[0].reason == "cannot be read (No such file or directory)"


def test_rows_without_label_or_image_are_bad_files(tmp_path: Path) -> None:
    rows: dict[str, list[Any]] = {
        "image": [noise(number) for number in range(600)],
        "label": [number % 3 for number in range(600)],
    }
    rows["label"][4], rows["label"][5], rows["image"][6] = None, -1, None
    datasets.Dataset.from_dict(rows, features=features()).save_to_disk(tmp_path / "set")
    result = scan(tmp_path / "set")
    name = "data-00000-of-00001.arrow"
    assert {file.path: file.reason for file in result.bad} == {
        f"{name}#4": "it has no label",
        f"{name}#5": "it has no label",
        f"{name}#6": "the row has no image",
    }
    assert result.num_images == 597


def test_missing_or_ambiguous_columns_are_rejected(tmp_path: Path) -> None:
    one = made(6)
    one.remove_columns("label").save_to_disk(tmp_path / "a")
    assert "has no column of the feature ClassLabel; its columns are image" in refused(tmp_path / "a")
    one.remove_columns("image").save_to_disk(tmp_path / "b")
    assert "has no column of the feature Image" in refused(tmp_path / "b")
    two = one.add_column("coarse", [0] * 6).cast_column("coarse", datasets.ClassLabel(names=["x", "y"]))
    two.save_to_disk(tmp_path / "c")
    assert scan(tmp_path / "c").classes == tuple(NAMES)
    two.rename_column("label", "fine").save_to_disk(tmp_path / "d")
    assert "has 2 columns of the feature ClassLabel (fine, coarse)" in refused(tmp_path / "d")
    other = made(6, 50).cast_column("label", datasets.ClassLabel(names=["a", "b", "c"]))
    datasets.DatasetDict({"train": one, "test": other}).save_to_disk(tmp_path / "e")
    assert "differ; save them" in refused(tmp_path / "e")


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_truncated_or_overwritten_file_is_rejected(tmp_path: Path, kind: str) -> None:
    if kind == "arrow":
        made(30).save_to_disk(tmp_path / "set")
        file = tmp_path / "set" / "data-00000-of-00001.arrow"
    else:
        (tmp_path / "set").mkdir()
        file = tmp_path / "set" / "x.parquet"
        made(30).to_parquet(file)
    whole = file.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        file.write_bytes(whole[:length])
        assert str(file) in refused(tmp_path / "set"), length
    file.write_bytes(b"\0" * len(whole))
    assert str(file) in refused(tmp_path / "set")
    file.unlink()
    if kind == "arrow":
        (tmp_path / "set" / "other.arrow").write_bytes(whole)
        assert str(file) in refused(tmp_path / "set")


def test_row_store_reports_missing_rows_and_is_picklable(tmp_path: Path) -> None:
    made(30).save_to_disk(tmp_path / "set")
    store = open_store(str(tmp_path / "set"))
    name = "data-00000-of-00001.arrow"
    assert store.missing([f"{name}#29", f"{name}#30", f"{name}#x", "x#1"]) == [f"{name}#30", f"{name}#x", "x#1"]
    assert pickle.loads(pickle.dumps(store)).read(f"{name}#7") == store.read(f"{name}#7")
    with pytest.raises(BadImage, match="no such row"):
        store.read(f"{name}#30")
    with pytest.raises(BadImage, match="more than the limit"):
        store.read(f"{name}#3", ImageLimits(file_bytes=10))
    check_present(make_split(scan(tmp_path / "set")))


def test_scan_is_cached_and_rows_can_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_cache, "RECENT_SECONDS", 0.01)
    made(30).save_to_disk(tmp_path / "set")
    time.sleep(scan_cache.RECENT_SECONDS * 1.5)
    result = scan(tmp_path / "set")
    monkeypatch.setattr(examine, "open_image", lambda *arguments: pytest.fail("decoded again"))
    assert scan(tmp_path / "set") == result
    pack(result, tmp_path / "shards")
    monkeypatch.undo()
    packed = scan(tmp_path / "shards")
    assert packed == result.model_copy(update={"root": packed.root})


def test_message_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(6).save_to_disk(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'triscale\[parquet\]'"):
        scan(tmp_path / "set")


def test_class_folders_next_to_table_are_class_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(encode(noise(ord(name)), "PNG"))
    (tmp_path / "about.parquet").write_bytes(b"whatever")
    assert scan(tmp_path).classes == ("a", "b")


def test_image_bytes_equal_hugging_face_datasets(tmp_path: Path) -> None:
    content = [encode(noise(number), kind) for number, kind in enumerate(("JPEG", "PNG", "WEBP") * 2)]
    rows = {"image": [{"bytes": one, "path": None} for one in content], "label": [0, 1, 2] * 2}
    datasets.Dataset.from_dict(rows, features=features()).save_to_disk(tmp_path / "set")
    result = scan(tmp_path / "set")
    store = open_store(result.root)
    assert [store.read(image.path) for image in result.unsplit] == content
    assert [image.format for image in result.unsplit] == ["JPEG", "PNG", "WEBP"] * 2
    with Image.open(io.BytesIO(content[0])) as expected:
        assert np.array_equal(np.asarray(decode(content[0])), np.asarray(expected))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("folder", [".", "images"])
def test_manifest_next_to_tables_and_archives_is_used(tmp_path: Path, kind: str, folder: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / folder).mkdir(exist_ok=True)
    place = tmp_path / "set" if folder == "." else tmp_path / "images"
    paths = []
    for number in range(12):
        noise(number).save(place / f"{number}.png")
        paths.append(f"{number}.png" if folder == "." else f"../images/{number}.png")
    file = tmp_path / "set" / f"set.{kind}"
    if kind == "csv":
        lines = [f"{path},{number % 2}" for number, path in enumerate(paths)]
        file.write_text("\n".join(["path,label", *lines]))
    else:
        labels = [number % 2 for number in range(12)]
        parquet.write_table(sys.modules["pyarrow"].table({"path": paths, "label": labels}), file)
    if folder == ".":
        (tmp_path / "set" / "more.tar").write_bytes(b"an archive")
        (tmp_path / "set" / "more.parquet").write_bytes(b"a table")
    result = scan(file)
    assert result.num_images == 12
    split = make_split(result)
    check_present(split)
    assert open_store(split.root).read(split.test[0].path)
