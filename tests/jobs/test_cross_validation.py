"""A cross-validation tests each image once, resumes, and says what it found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import triscale as ts
from cli.command import refused, run
from conftest import write_classes, write_picture
from triscale.jobs.core.run import RunFolder
from triscale.results.folds import FoldsSummary, t_interval

OPTIONS = ("--epochs", 1, "--set", "batch=16", "--set", "min_steps=1", "--threads", 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("folds") / "photos", 12)


@pytest.fixture(scope="module")
def made(photos: Path, tiny_file: Path) -> Path:
    """Three finished folds."""
    ts.train(
        photos, tiny_file, epochs=1, batch_size=16, settings={"min_steps": 1}, folds=3, out=photos.parent / "cv",
        threads=1, progress=False,
    )  # fmt: skip
    return photos.parent / "cv"


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "cv"))


def test_each_image_is_tested_once(made: Path, photos: Path) -> None:
    summary = FoldsSummary.load(made / "folds.json")
    splits = [RunFolder(made / fold.folder).split for fold in summary.folds]
    tested = sorted(sample.path for split in splits for sample in split.test)
    assert tested == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert summary.count == 36
    accuracies = [fold.top1 for fold in summary.folds]
    assert summary.mean == pytest.approx(sum(accuracies) / 3)
    assert (summary.mean_low is None) == (summary.deviation == 0)
    assert 0 < summary.top1_low < summary.top1 <= summary.top1_high
    assert "too narrow" in summary.caution
    assert all((made / fold.folder / "report.html").is_file() for fold in summary.folds)


def test_finished_folds_are_kept_and_missing_ones_trained(capsys, copied: Path, photos: Path, tiny_file: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.glob("fold-[12]/*")}
    weights = (copied / "fold-3" / "model.safetensors").read_bytes()
    summary = (copied / "folds.json").read_bytes()
    shutil.rmtree(copied / "fold-3")
    (copied / "folds.json").unlink()
    result = run(capsys, "train", photos, "--network", tiny_file, *OPTIONS, "--folds", 3, "--out", copied)
    assert result.code == 0
    assert "fold 1 of 3 is finished" in result.err
    assert "fold 3/3: train" in result.err
    assert "fold 2/3" not in result.err
    for expected in ("mean accuracy", "standard deviation over folds", "Wilson", "without --folds"):
        assert expected in " ".join(result.out.split())
    assert before == {path: path.stat().st_mtime_ns for path in copied.glob("fold-[12]/*")}
    assert (copied / "fold-3" / "model.safetensors").read_bytes() == weights
    assert (copied / "folds.json").read_bytes() == summary


def test_changed_images_are_refused_before_training(
    capsys, copied: Path, photos: Path, tiny_file: Path, tmp_path
) -> None:
    shutil.rmtree(copied / "fold-3")
    more = Path(shutil.copytree(photos, tmp_path / "moved" / "photos"))
    for split in copied.glob("fold-*/split.json"):  # as if the runs had been made of the copied images
        split.write_text(split.read_text().replace(json.dumps(str(photos)), json.dumps(str(more))))
        spec = split.parent / "run.json"
        spec.write_text(spec.read_text().replace(json.dumps(str(photos)), json.dumps(str(more))))
    write_picture(more / "red" / "new.png", (220, 50, 40), 77)
    options = ("--network", tiny_file, *OPTIONS, "--folds", 3, "--out", copied)
    assert "have changed since" in refused(capsys, "train", more, *options)
    assert not (copied / "fold-3").exists()


def test_contradictions_are_refused(capsys, copied: Path, photos: Path, tiny_file: Path, tmp_path: Path) -> None:
    command = ("train", photos, "--network", tiny_file, *OPTIONS)
    assert "3 in the run, 4 requested" in refused(capsys, *command, "--folds", 4, "--out", copied)
    assert "holds no run (fold-1" in refused(capsys, *command, "--out", copied)
    assert "from 2 to 100" in refused(capsys, *command, "--folds", 1, "--out", tmp_path / "new")
    message = refused(capsys, *command, "--folds", 3, "--test-share", 0.3, "--out", tmp_path / "new")
    assert "no effect on 3 folds" in message
    assert "at least 13 images" in refused(capsys, *command, "--folds", 13, "--out", tmp_path / "new")
    assert "no cross-validation" in refused(capsys, *command, "--folds", 3, "--out", copied / "fold-1")
    assert not (tmp_path / "new").exists()


def test_cross_validation_opens_from_python(made: Path) -> None:
    found = ts.CrossValidation.open(made)
    assert len(found.runs) == 3
    assert found.runs[1].metrics.top1 == found.summary.folds[1].top1
    assert "3 folds, mean accuracy" in repr(found)
    with pytest.raises(ts.RunError, match="no finished cross-validation"):
        ts.CrossValidation.open(made / "fold-1")


def test_t_interval_is_students() -> None:
    assert t_interval([0.7, 0.8, 0.9, 0.8, 0.8]) == pytest.approx(
        (0.8 - 2.776445 * 0.0707107 / 5**0.5, 0.8 + 2.776445 * 0.0707107 / 5**0.5)
    )
    assert t_interval([0.1, 0.99]) == (0.0, 1.0)
    assert t_interval([1.0, 1.0, 1.0]) is None


def test_groups_are_found_by_training_and_recorded(capsys, photos: Path, tiny_file: Path, tmp_path: Path) -> None:
    options = ("--network", tiny_file, *OPTIONS, "--group-regex", r"[a-z]+/0[01]", "--out", tmp_path / "run")
    message = refused(capsys, "train", photos, *options)
    assert "class blue has images of 2 groups only" in message
    result = run(capsys, "train", photos, *options[:-3], r"[a-z]+/..[0-9]", "--out", tmp_path / "run")
    assert result.code == 0
    split = RunFolder(tmp_path / "run").split
    assert split.num_groups == 36
    assert '36 groups by the regular expression "[a-z]+/..[0-9]"' in split.how
