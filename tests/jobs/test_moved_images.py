"""A run whose images have moved: what works without them, and how they are attached again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli.command import refused, run
from conftest import write_classes
from sizes import stressed
from triscale.jobs.core.run import RunFolder
from triscale.serve.model import ServedModel


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos") / "photos", 40)


def test_run_predicts_exports_and_is_served_after_its_images_have_moved(capsys, moved, monkeypatch):
    folder, after = moved
    assert run(capsys, "predict", folder, after / "red").code == 0
    exported = run(capsys, "export", folder)
    assert exported.code == 0
    assert "the file is checked on synthetic images alone" in exported.err
    served = ServedModel(RunFolder.open(folder), pixels=1_000_000)
    assert served.answer((after / "red" / "000.png").read_bytes(), 1, with_map=False).classes


@pytest.mark.usefixtures("one_engine")
@pytest.mark.parametrize(
    "command",
    [
        ("evaluate",), ("explain",), ("report",),
        *stressed((("export", "--precision", "int8", "--bound", "100"),), (("deploy", "--precisions", "float32"),)),
    ],
)  # fmt: skip
def test_command_attaches_moved_images_again(capsys, moved, command):
    folder, after = moved
    if command[0] not in ("report", "deploy"):  # whose other parts need no images
        assert "say where they are now: with --images" in refused(capsys, command[0], folder, *command[1:])
    result = run(capsys, command[0], folder, *command[1:], "--images", after)
    assert result.code == 0, result.err
    assert f"now takes its 90 images from {after}" in result.err
    assert run(capsys, "evaluate", folder).code == 0


@pytest.mark.stress
@pytest.mark.usefixtures("one_engine")
def test_deployment_after_images_have_moved_says_why_there_are_no_lower_precisions(capsys, moved):
    folder, _ = moved
    result = run(capsys, "deploy", folder)
    assert result.code == 0, result.err
    assert "note: no lower precisions: 90 of 90 images of the split are no longer in" in result.err


def test_images_that_differ_are_refused_with_what_differs(capsys, moved, tmp_path):
    folder, after = moved
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (after / "red" / "000.png").unlink()
    (after / "red" / "001.png").rename(after / "red" / "renamed.png")
    shutil.copy(after / "blue" / "003.png", after / "green" / "003.png")
    message = refused(capsys, "evaluate", folder, "--images", after)
    assert "of 90, 2 missing (" in message
    assert "red/000.png" in message
    assert "1 of another content (green/003.png)" in message
    assert "triscale weights run" in message
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_other_classes_are_another_data_set(capsys, moved, trained_run):
    folder, after = moved
    (after / "blue").rename(after / "azure")
    assert "30 missing (blue/" in refused(capsys, "evaluate", folder, "--images", after)


def test_run_without_recorded_content_compares_names_and_says_so(capsys, moved):
    folder, after = moved
    (folder / "contents.json").unlink()
    result = run(capsys, "evaluate", folder, "--images", after)
    assert result.code == 0
    assert "does not record the content of its images" in result.err


def test_training_resumes_with_moved_images(capsys, tiny_file, images, tmp_path):
    options = ("--network", tiny_file, "--epochs", 2, "--set", "batch=8")
    assert run(capsys, "train", images, *options, "--out", tmp_path / "whole").code == 0
    options = (*options, "--out", tmp_path / "run")
    assert run(capsys, "train", images, *options, "--max-time", "1s").code in (0, 143)
    images.rename(tmp_path / "moved")
    result = run(capsys, "train", tmp_path / "moved", *options)
    assert result.code == 0, result.err
    assert f"now takes its 60 images from {tmp_path / 'moved'}" in result.err
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1]
    other = write_classes(tmp_path / "other", 20, seed=7)
    assert "60 of another content" in refused(capsys, "train", other, *options)
    assert "different request (" in refused(capsys, "train", other, *options, "--seed", 1)


def test_run_of_weights_takes_moved_images(capsys, weights, photos, tmp_path):
    first = shutil.copytree(photos, tmp_path / "first")
    assert run(capsys, "weights", "run", weights, first, "--out", tmp_path / "run").code == 0
    first.rename(tmp_path / "second")
    assert "--images" in refused(capsys, "evaluate", tmp_path / "run")
    assert run(capsys, "evaluate", tmp_path / "run", tmp_path / "second").code == 0
    without = tmp_path / "without"
    assert run(capsys, "weights", "run", weights, "--out", without).code == 0
    assert "was made without images" in refused(capsys, "evaluate", without, tmp_path / "second")
