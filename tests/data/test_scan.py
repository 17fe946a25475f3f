"""A scan decodes everything, modifies nothing, and stops where training on the rest would hide a mistake."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from triscale.data.pipeline.scan import scan
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError
from triscale.results.data_summary import BadFile

from .pictures import encode, noise, write_classes


def test_images_are_listed_by_role_with_size_and_format(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 2})
    write_classes(tmp_path / "test", {"a": 1, "b": 1})
    content = encode(Image.new("RGB", (40, 30)), "JPEG")
    (tmp_path / "train" / "a" / "wide.png").write_bytes(content)
    result = scan(tmp_path)
    assert result.root == str(tmp_path)
    assert result.classes == ("a", "b")
    wide = result.train[1]
    assert wide == ScannedImage(
        "train/a/wide.png", 0, 40, 30, len(content), "JPEG", hashlib.sha256(content).hexdigest(), wide.fingerprint
    )
    assert result.counts == {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}}
    assert result.num_images == 6
    assert result.sides == (16, 16, 30)
    assert Scan.from_json(result.to_json()) == result


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_result_does_not_depend_on_the_number_of_threads(tmp_path: Path, workers: int) -> None:
    write_classes(tmp_path, {"a": 50, "b": 41})
    assert scan(tmp_path, workers=workers) == scan(tmp_path, workers=3)


def test_progress_counts_up_to_all_files(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    scan(write_classes(tmp_path, {"a": 40, "b": 35}), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 75), (32, 75), (64, 75), (75, 75)]


def test_interrupted_scan_ends_its_threads(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(write_classes(tmp_path, {"a": 100, "b": 100}), progress=stop)


def test_nothing_is_written_into_image_folder(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "broken.png").write_bytes(b"\x89PNG")

    def state() -> list[tuple[str, int, int, int]]:
        entries = [tmp_path, *sorted(tmp_path.rglob("*"))]
        return [(str(path), path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_mode) for path in entries]

    before = state()
    scan(tmp_path)
    assert state() == before


def test_single_bad_file_is_listed_and_skipped(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "001.png").write_bytes(b"")
    result = scan(tmp_path)
    assert result.bad == (BadFile("a/001.png", "empty"),)
    assert [image.path for image in result.unsplit[:2]] == ["a/000.png", "a/002.png"]


def test_hostile_files_among_many_are_listed(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 300, "b": 300})
    (tmp_path / "a" / "text.jpg").write_text("not an image")
    (tmp_path / "a" / "dangling.png").symlink_to(tmp_path / "missing")
    (tmp_path / "b" / "folder.jpg").mkdir()
    noise(1).save(tmp_path / "b" / "folder.jpg" / "inside.png")
    os.mkfifo(tmp_path / "b" / "pipe.png")
    (tmp_path / "stray.png").write_bytes((tmp_path / "a" / "000.png").read_bytes())
    result = scan(tmp_path)
    assert {file.path: file.reason.split(" (")[0] for file in result.bad} == {
        "stray.png": "is outside every class folder",
        "a/text.jpg": "not an image",
        "a/dangling.png": "cannot be read",
        "b/pipe.png": "not a regular file",
    }
    assert "b/folder.jpg/inside.png" in [image.path for image in result.unsplit]


def test_name_that_is_not_utf8_is_a_bad_file(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 2})
    try:
        shutil.copy(tmp_path / "a" / "000.png", tmp_path / "a" / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system takes text only")
    result = scan(tmp_path)
    assert result.bad == (BadFile(r"a/\xff.png", "the name is not valid UTF-8"),)
    assert Scan.from_json(result.to_json()) == result


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan(root)
    return str(caught.value)


def test_more_than_one_percent_bad_files_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 50, "b": 50})
    for name in ("x.png", "y.png"):
        (tmp_path / "a" / name).write_bytes(b"")
    message = refused(tmp_path)
    assert "2 of 102 files" in message
    assert "are bad, more than 1% (" in message
    assert "a/x.png, a/y.png: empty" in message


def test_more_than_ten_percent_bad_files_in_class_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 290, "b": 12})
    for name in ("000.png", "001.png"):
        (tmp_path / "b" / name).write_bytes(b"")
    assert "2 of 12 files of class b" in refused(tmp_path)


def test_class_left_empty_by_bad_file_is_rejected(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 20, "b": 1})
    (tmp_path / "b" / "000.png").write_bytes(b"")
    assert "no images of class b" in refused(tmp_path)


def test_empty_folder_is_rejected(tmp_path: Path) -> None:
    assert "there are no images" in refused(tmp_path)
    assert "there is no folder" in refused(tmp_path / "missing")


def test_class_folders_without_files_are_rejected(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 0, "b": 0})
    assert "2 class folders hold no files" in refused(tmp_path)


def test_folders_of_other_files_are_rejected(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 0, "b": 0})
    for name in ("a/1.txt", "b/1.csv"):
        (tmp_path / name).write_text("text")
    message = refused(tmp_path)
    assert "none of the 2 files" in message
    assert "JPEG" in message


def test_images_without_class_folders_are_rejected_with_advice(tmp_path: Path) -> None:
    for index in range(3):
        noise(index).save(tmp_path / f"{index}.png")
    message = refused(tmp_path)
    assert "3 images such as 0.png" in message
    assert "their own folder" in message


def test_test_folder_without_class_folders_is_rejected(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 2, "b": 2})
    (tmp_path / "test").mkdir()
    noise(1).save(tmp_path / "test" / "1.png")
    assert "the test folder" in refused(tmp_path)


def test_single_class_is_rejected(tmp_path: Path) -> None:
    assert "only one class, a" in refused(write_classes(tmp_path, {"a": 3}))


def test_empty_class_is_rejected_by_name(tmp_path: Path) -> None:
    assert "no images of class b" in refused(write_classes(tmp_path, {"a": 3, "b": 0, "c": 2}))


def test_train_and_test_classes_must_match(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 2, "b": 2, "c": 2})
    write_classes(tmp_path / "test", {"a": 2, "c": 2})
    message = refused(tmp_path)
    assert "b is missing" in message
    write_classes(tmp_path / "test", {"b": 2, "d": 2, "e": 1})
    assert "d, e are not among the training classes" in refused(tmp_path)


def test_labels_follow_class_name_order(tmp_path: Path) -> None:
    for role in ("train", "val"):
        write_classes(tmp_path / role, {"10": 1, "9": 1, "a b": 1})
    result = scan(tmp_path)
    assert result.classes == ("10", "9", "a b")
    for images in result.by_role.values():
        assert all(image.path.split("/")[1] == result.classes[image.label] for image in images)
