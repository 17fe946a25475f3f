"""What a scan tolerates, and what it says of data sets that cannot be trained on."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from triscale.data.images.decode import ImageLimits
from triscale.data.options import DataOptions
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.errors import DataError

from .pictures import write_classes


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Training images of three classes, of which one has no validation images and one no test images."""
    root = tmp_path / "images"
    write_classes(root / "train", {"a": 6, "b": 6, "c": 6})
    write_classes(root / "val", {"a": 3, "b": 3})
    write_classes(root / "test", {"b": 3, "c": 3})
    return root


def test_missing_classes_are_refused_with_the_way_out(images):
    with pytest.raises(DataError, match=r"val images .* c is missing; .*--allow-missing-classes.*data check"):
        scan(images)


def test_missing_classes_are_accepted_on_request_and_noted(images):
    found = scan(images, options=DataOptions(allow_missing_classes=True))
    assert found.classes == ("a", "b", "c")
    assert found.counts["val"] == {"a": 3, "b": 3, "c": 0}
    assert found.notes == (
        "1 of 3 classes has no val images: c; its figures are not measured there",
        "1 of 3 classes has no test images: a; its figures are not measured there",
    )
    assert len(make_split(found).val) == 6


def test_empty_class_folder_of_a_split_counts_as_missing(images):
    (images / "val" / "c").mkdir()
    shutil.rmtree(images / "test")
    with pytest.raises(DataError, match=r"no val images of class c.*--allow-missing-classes"):
        scan(images)
    assert scan(images, options=DataOptions(allow_missing_classes=True)).counts["val"]["c"] == 0


def test_classes_only_outside_training_stay_refused(images):
    write_classes(images / "test", {"d": 2})
    with pytest.raises(DataError, match="d is not among the training classes"):
        scan(images, options=DataOptions(allow_missing_classes=True))


def test_training_classes_stay_required(images):
    shutil.rmtree(images / "train" / "c")
    (images / "train" / "c").mkdir()
    with pytest.raises(DataError, match="no train images of class c"):
        scan(images, options=DataOptions(allow_missing_classes=True))


def test_all_problems_are_listed_without_strictness(images):
    write_classes(images / "val", {"d": 2})
    for number in range(3):
        (images / "train" / "a" / f"bad{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    found = scan(images, strict=False)
    assert len(found.problems) == 3
    assert "c is missing and d is not among" in found.problems[0]
    assert "test images" in found.problems[1]
    assert "3 of 35 files" in found.problems[2]
    assert "--max-bad 9%" in found.problems[2]
    assert found.counts["val"]["d"] == 2


def test_share_of_bad_files_can_be_raised(images):
    for number in range(2):
        (images / "train" / "a" / f"bad{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    options = DataOptions(allow_missing_classes=True)
    with pytest.raises(DataError, match=r"--max-bad 7%"):
        scan(images, options=options)
    assert len(scan(images, options=options.replace(max_bad=0.07)).bad) == 2


def test_large_photographs_are_read_and_limits_can_be_set(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("1", (9600 + number, 6400), number % 2).save(tmp_path / name / f"{number}.png", compress_level=1)
    assert scan(tmp_path).sides.median == 6400
    with pytest.raises(DataError, match="raise the limit with --max-pixels"):
        scan(tmp_path, options=DataOptions(limits=ImageLimits(pixels=50_000_000)))
    small = DataOptions(limits=ImageLimits(file_bytes=100))
    with pytest.raises(DataError, match="raise it with --max-file-size"):
        scan(tmp_path, options=small)
