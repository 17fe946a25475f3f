"""The digits are written atomically, once, and never overwrite anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from triscale.data.pipeline.scan import scan
from triscale.data.sources.digits import write_digits
from triscale.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("parent") / "new" / "digits")


def test_digits_have_train_and_test_split(folder: Path) -> None:
    result = scan(folder)
    assert result.classes == tuple("0123456789")
    assert (len(result.train), len(result.test), len(result.bad)) == (1438, 359, 0)
    assert result.sides == (32, 32, 32)
    for name in result.classes:
        train, test = result.counts["train"][name], result.counts["test"][name]
        assert abs(test / (train + test) - 0.2) < 0.01


def test_digits_are_upscaled_originals(folder: Path) -> None:
    digits = load_digits()
    paths = sorted(folder.rglob("*.png"), key=lambda path: path.name)
    assert [int(path.stem) for path in paths] == list(range(1797))
    assert [int(path.parent.name) for path in paths] == digits.target.tolist()
    for index in (0, 700, 1796):
        with Image.open(paths[index]) as image:
            assert (image.mode, image.size) == ("L", (32, 32))
            small = np.asarray(image.resize((8, 8), Image.Resampling.BOX)).astype(float)
        assert np.corrcoef(small.ravel(), digits.images[index].ravel())[0, 1] > 0.97


def test_existing_digits_are_kept(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_digits(folder) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]


def test_empty_folder_is_accepted(tmp_path: Path) -> None:
    write_digits(tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) == 1797


def test_folder_with_other_files_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something other"):
        write_digits(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        write_digits(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="cannot write"):
        write_digits(tmp_path / "notes.txt" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_failure_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(DataError, match="No space left"):
        write_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []
