"""Folders are interpreted the same on every system, and unknown layouts are refused with a message."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from triscale.data.sources.source import find_images
from triscale.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff" + name.encode(errors="surrogateescape"))
    return root


def test_class_folders_without_splits_are_read(tmp_path: Path) -> None:
    layout = find_images(touch(tmp_path, "dog/2.jpg", "dog/10.jpg", "cat/1.jpg", "cat/more/deep/dog/3.jpg"))
    assert layout.root == str(tmp_path)
    assert layout.classes == {"unsplit": ("cat", "dog")}
    assert tuple(file[:2] for file in layout.files["unsplit"]) == (
        ("cat/1.jpg", "cat"),
        ("cat/more/deep/dog/3.jpg", "cat"),
        ("dog/10.jpg", "dog"),
        ("dog/2.jpg", "dog"),
    )
    assert layout.stray == ()


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "TEST"), ("train", "valid"), ("train", "validation")])
def test_split_folder_names_are_case_insensitive(tmp_path: Path, names: tuple[str, str]) -> None:
    layout = find_images(touch(tmp_path, *(f"{role}/{name}/1.jpg" for role in names for name in ("a", "b"))))
    second = "test" if names[1].lower() == "test" else "val"
    assert layout.classes == {"train": ("a", "b"), second: ("a", "b")}
    assert layout.files["train"][0][:2] == (f"{names[0]}/a/1.jpg", "a")


def test_three_splits_with_stray_file_are_read(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{role}/{name}/1.jpg" for role in ("train", "val", "test") for name in "ab"))
    (tmp_path / "README.txt").write_text("about these images")
    layout = find_images(tmp_path)
    assert set(layout.classes) == {"train", "val", "test"}
    assert layout.stray == ()


def test_single_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "archive/images/a/1.jpg", "archive/images/b/1.jpg", "__MACOSX/archive/._1.jpg")
    assert find_images(tmp_path).root == str(tmp_path / "archive" / "images")


def test_single_train_folder_is_skipped(tmp_path: Path) -> None:
    layout = find_images(touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg"))
    assert (layout.root, layout.classes) == (str(tmp_path / "train"), {"unsplit": ("a", "b")})


def test_class_named_train_is_a_class(tmp_path: Path) -> None:
    assert find_images(touch(tmp_path, "train/1.jpg", "plane/1.jpg")).classes == {"unsplit": ("plane", "train")}


def test_hidden_and_system_files_are_ignored(tmp_path: Path) -> None:
    names = ("a/.1.jpg", "a/Thumbs.db", "a/@eaDir/1.jpg", "a/.ipynb_checkpoints/1-checkpoint.jpg", "a/desktop.ini")
    touch(tmp_path, "a/1.jpg", "b/1.jpg", *names, ".git/1.jpg", ".DS_Store", "__MACOSX/a/._1.jpg")
    assert [result.path for result in find_images(tmp_path).files["unsplit"]] == ["a/1.jpg", "b/1.jpg"]


def test_images_outside_class_folders_are_stray(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "train/a/1.jpg", "train/b/1.jpg", "train/2.jpg", "test/a/1.jpg", "test/b/1.jpg")
    assert find_images(tmp_path).stray == ("0.jpg", "train/2.jpg")


def test_symbolic_link_loops_are_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/deep/2.jpg", "b/1.jpg", "b/y/z/3.jpg")
    (tmp_path / "a" / "deep" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "root").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "other").symlink_to(tmp_path / "a" / "deep")
    paths = [result.path for result in find_images(tmp_path).files["unsplit"]]
    assert paths == ["a/1.jpg", "a/deep/2.jpg", "b/1.jpg", "b/y/z/3.jpg"]


def test_linked_folders_elsewhere_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "store", "x/1.jpg", "y/1.jpg", "y/2.jpg")
    root = tmp_path / "images"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "store" / "x")
    (root / "b").symlink_to(tmp_path / "store" / "y")
    assert [result.path for result in find_images(root).files["unsplit"]] == ["a/1.jpg", "b/1.jpg", "b/2.jpg"]


def test_self_linked_folder_does_not_loop(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_images(tmp_path).files == {"unsplit": ()}


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{name}/{index}.jpg" for name in "abc" for index in range(5)))
    before = find_images(tmp_path)
    real = os.scandir

    class Reversed:
        def __init__(self, path: Path) -> None:
            with real(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *exception: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert find_images(tmp_path) == before


def test_unicode_forms_of_name_are_one_class_across_splits(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    touch(tmp_path, f"train/{composed}/1.jpg", "train/a/1.jpg", f"test/{decomposed}/1.jpg", "test/a/1.jpg")
    assert set(find_images(tmp_path).classes.values()) == {("a", composed)}


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_images(root)
    return str(caught.value)


def test_missing_folder_and_file_are_rejected(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "missing")
    assert "is not a folder" in refused(touch(tmp_path, "1.jpg") / "1.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_folder_is_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a").chmod(0)
    try:
        assert "cannot read the folder" in refused(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)


def test_folder_without_list_permission_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", fail)
    assert "(Permission denied)" in refused(tmp_path)


def test_two_folders_of_one_split_are_rejected(tmp_path: Path) -> None:
    message = refused(touch(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "validation/a/1.jpg"))
    assert "val and validation" in message


def test_splits_without_train_are_rejected(tmp_path: Path) -> None:
    assert "no folder train" in refused(touch(tmp_path, "val/a/1.jpg", "test/a/1.jpg"))


def test_unknown_folder_next_to_splits_is_rejected(tmp_path: Path) -> None:
    assert "vaildation" in refused(touch(tmp_path, "train/a/1.jpg", "test/a/1.jpg", "vaildation/a/1.jpg"))
    assert "pred" in refused(touch(tmp_path / "other", "train/a/1.jpg", "test/a/1.jpg", "pred/1.jpg"))


def test_names_differing_only_in_unicode_form_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, *(unicodedata.normalize(form, "caf\u00e9") + "/1.jpg" for form in ("NFC", "NFD")))
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system makes them one")
    message = refused(tmp_path)
    assert r"caf\xe9" in message
    assert r"cafe\u0301" in message


def test_class_folder_name_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    try:
        touch(tmp_path, "a/1.jpg", os.fsdecode(b"b\xff/1.jpg"))
    except OSError:
        pytest.skip("this file system takes text only")
    assert "not valid UTF-8" in refused(tmp_path)
