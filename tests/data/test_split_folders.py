"""Split folders are found under any of the usual names, and never taken for classes."""

from pathlib import Path

import pytest

from triscale.data.sources.source import Layout, find_images
from triscale.errors import DataError


def layout_of(root: Path, *folders: str) -> Layout:
    """The layout of folders that hold an image each."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    return find_images(root)


@pytest.mark.parametrize(
    ("first", "second", "role"),
    [
        ("Training", "Testing", "test"),
        ("TRAIN", "VALID", "val"),
        ("train_set", "val_set", "val"),
        ("trainset", "testset", "test"),
        ("TrainImages", "TestImages", "test"),
        ("train2017", "val2017", "val"),
        ("train-1", "test-1", "test"),
        ("train", "dev", "val"),
        ("train", "eval", "test"),
        ("flowers_train", "flowers_test", "test"),
        ("flower_photos_train", "other_name_test", "test"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("images/train", "images/val", "val"),
        ("train/images", "test/images", "test"),
        ("data/Training", "data/Testing", "test"),
    ],
)
def test_splits_are_found_under_usual_names(tmp_path, first, second, role):
    found = layout_of(tmp_path, *(f"{split}/{name}" for split in (first, second) for name in ("cat", "dog")))
    assert found.classes == {"train": ("cat", "dog"), role: ("cat", "dog")}
    assert [len(found.files[split]) for split in ("train", role)] == [2, 2]


def test_unusual_names_are_noted(tmp_path):
    usual = layout_of(tmp_path / "usual", "train/a", "train/b", "test/a", "test/b")
    unusual = layout_of(tmp_path / "unusual", "Training/a", "Training/b", "dev/a", "dev/b")
    assert usual.notes == ()
    assert unusual.notes == ("used as splits: Training as train, dev as val",)


def test_splits_inside_class_folders_are_found(tmp_path):
    found = layout_of(tmp_path, *(f"{name}/{split}" for name in ("cat", "dog") for split in ("train", "test")))
    assert found.classes == {"train": ("cat", "dog"), "test": ("cat", "dog")}
    assert [file.path for file in found.files["test"]] == ["cat/test/1.jpg", "dog/test/3.jpg"]
    assert "used as splits" in found.notes[0]


def test_folders_beside_the_images_are_named(tmp_path):
    found = layout_of(
        tmp_path, *(f"images/{split}/{name}" for split in ("train", "val") for name in ("a", "b")), "labels/train"
    )
    assert found.classes == {"train": ("a", "b"), "val": ("a", "b")}
    assert "only the folder images is read, not labels" in found.notes


@pytest.mark.parametrize(
    "folders",
    [
        ("fold_1", "fold_2", "fold_3"),
        ("part A", "part B"),
        ("2019", "2020"),
        ("query", "gallery"),
    ],
)
def test_folders_that_look_like_folds_are_refused(tmp_path, folders):
    with pytest.raises(DataError, match=r"look like splits or folds.*table"):
        layout_of(tmp_path, *(f"{folder}/{name}" for folder in folders for name in ("cat", "dog")))


@pytest.mark.parametrize(
    "classes",
    [
        ("apple", "train", "zebra"),  # CIFAR-100 has a class that is called train
        ("train", "plane"),
        ("test tube", "train station"),
        ("Training", "Resting"),
        ("bullet train", "steam train"),
        ("testudo", "trainer", "valley"),
        ("dog", "validation stamp"),
    ],
)
def test_classes_with_names_like_splits_are_classes(tmp_path, classes):
    found = layout_of(tmp_path, *classes)
    assert found.classes == {"unsplit": tuple(sorted(classes))}
    assert found.notes == ()


def test_classes_with_one_folder_of_the_same_name_are_classes(tmp_path):
    assert layout_of(tmp_path, "cat/images", "dog/images").classes == {"unsplit": ("cat", "dog")}
    assert layout_of(tmp_path / "more", "cat/old", "cat/new", "dog/old").classes == {"unsplit": ("cat", "dog")}


def test_a_class_called_train_can_be_within_splits(tmp_path):
    found = layout_of(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in ("plane", "train")))
    assert found.classes == {"train": ("plane", "train"), "test": ("plane", "train")}


def test_two_folders_of_a_split_are_refused(tmp_path):
    with pytest.raises(DataError, match="Testing and test"):
        layout_of(tmp_path, *(f"{split}/{name}" for split in ("train", "test", "Testing") for name in ("a", "b")))


def test_splits_without_training_are_refused(tmp_path):
    with pytest.raises(DataError, match="no folder train"):
        layout_of(tmp_path, *(f"{split}/{name}" for split in ("Testing", "Validation") for name in ("a", "b")))


@pytest.mark.parametrize(
    "folders",
    [
        ("cat_train", "cat_test", "dog_train", "dog_test"),
        ("cat train", "cat test", "dog train", "dog test"),
        ("catTrain", "catVal", "dogTrain", "dogVal"),
        ("train_cat", "test_cat", "train_dog", "test_dog"),
        ("train-hot dog", "valid-hot dog", "test-hot dog", "train-bird", "valid-bird", "test-bird"),
        ("images/cat_train", "images/cat_test", "images/dog_train", "images/dog_test"),
    ],
)
def test_class_and_split_in_one_name_are_refused(tmp_path, folders):
    with pytest.raises(DataError, match="whose names say a class and a split"):
        layout_of(tmp_path, *folders)


@pytest.mark.parametrize("folders", [("bullet train", "steam train"), ("train", "bus"), ("crash test", "bullet train")])
def test_names_with_one_split_each_are_classes_without_a_note(tmp_path, folders):
    found = layout_of(tmp_path, *folders)
    assert (found.classes, found.notes) == ({"unsplit": tuple(sorted(folders))}, ())


def test_class_with_two_splits_beside_other_classes_is_noted(tmp_path):
    found = layout_of(tmp_path, "crash test", "crash train", "bus")
    assert found.classes == {"unsplit": ("bus", "crash test", "crash train")}
    assert found.notes == (
        "the folders crash test and crash train are used as classes of their own, not as splits of one class",
    )
