"""Inputs that are refused on purpose, and the messages about images that contradict each other or are few."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from cli.command import refused, run
from conftest import COLORS, write_classes
from progress import RecordedNotes
from triscale.cli.support.messages import summarize
from triscale.data.options import DataOptions
from triscale.data.pipeline.folds import Fold
from triscale.families.find import find_network
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.estimate import estimate_training
from triscale.jobs.training.prepare import prepare
from triscale.jobs.training.request import choose_training, make_request
from triscale.progress import NullProgress
from triscale.training.context import ExecutionContext
from triscale.training.metrics import measure_predictions


def test_rectangular_sizes_are_width_x_height_and_anything_else_is_refused(capsys, images, tiny, tmp_path):
    assert find_network("resnet18@64x32").input_shape == (3, 32, 64)
    line = refused(capsys, "train", images, "--network", "resnet18@64,32", "--out", tmp_path / "run")
    assert "width x height such as 720x184" in line
    (tmp_path / "wide.json").write_text(json.dumps(json.loads(tiny.to_json()) | {"resolution": [64, 32]}))
    line = refused(capsys, "train", images, "--network", tmp_path / "wide.json", "--out", tmp_path / "run")
    assert '"resolution": Input should be a valid integer' in line
    assert find_network("resnet18@32").resolution == 32


def test_check_prints_its_table_and_then_every_problem(capsys, tmp_path):
    write_classes(tmp_path / "set" / "train", 8)
    write_classes(tmp_path / "set" / "test", 3, seed=1)
    shutil.rmtree(tmp_path / "set" / "test" / "green")
    for number in range(3):
        (tmp_path / "set" / "train" / "red" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    result = run(capsys, "data", "check", tmp_path / "set")
    words = " ".join(result.out.split())
    assert result.code == 2
    assert words.index("3 classes") < words.index("problem")
    assert "green is missing; add images of them, or accept it with --allow-missing-classes" in words
    assert "3 of 33 files" in words
    assert "--max-bad 10%" in words
    accepted = ("--allow-missing-classes", "--max-bad", "30%")
    assert run(capsys, "data", "check", tmp_path / "set", *accepted).code == 0


def test_check_names_an_imbalance_and_what_to_set(capsys, tmp_path):
    write_classes(tmp_path / "set", 30, colors={"red": COLORS["red"]})
    write_classes(tmp_path / "set", 3, colors={"blue": COLORS["blue"]})
    words = " ".join(run(capsys, "data", "check", tmp_path / "set").out.split())
    assert "the largest class has 10 times as many images as the smallest; --set sampling=balanced" in words
    assert "fewer than 20 training images: blue" in words


def test_balanced_accuracy_and_missed_classes_are_printed(capsys, tmp_path):
    logits = np.tile(np.float32([5, -5]), (26, 1))
    metrics = measure_predictions(logits, np.array([0] * 24 + [1] * 2), ("healthy", "ill"), "test")
    summarize(metrics, tmp_path, "images")
    words = " ".join(capsys.readouterr().out.split())
    assert "accuracy 92.3% on 26" in words
    assert "balanced accuracy 50.0%" in words
    assert "no image of ill was recognized" in words


def test_a_class_without_test_images_has_dashes_in_the_terminal(capsys, tiny_file, tmp_path):
    for number, split in enumerate(("train", "test")):
        write_classes(tmp_path / "set" / split, 8, seed=number)
    shutil.rmtree(tmp_path / "set" / "test" / "green")
    options = ("--network", tiny_file, "--epochs", 1, "--threads", 1, "--allow-missing-classes")
    result = run(capsys, "train", tmp_path / "set", *options, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    lines = run(capsys, "evaluate", tmp_path / "run").out.splitlines()
    (green,) = [line.split() for line in lines if line.split()[:1] == ["green"]]
    assert green == ["green", "0", "-", "-", "-"]
    (red,) = [line.split() for line in lines if line.split()[:1] == ["red"]]
    assert red[1] == "8"
    assert red[3].endswith("%")


def test_images_in_several_classes_are_named_and_balancing_is_recorded(images, tiny, tmp_path):
    shutil.copy(images / "red" / "003.png", images / "blue" / "same.png")
    settings = {"sampling": "balanced", "class_weights": "balanced", "logit_adjustment": 1, "loss": "focal"}
    choice = choose_training("small", settings=settings)
    notes: list[str] = []
    progress = NullProgress()
    progress.note = notes.append
    (tmp_path / "run").mkdir()
    request = make_request(str(images), tiny, recipe=choice)
    recipe = prepare(RunFolder(tmp_path / "run"), request, ExecutionContext(progress=progress)).request.recipe
    assert "images in more than one class: 1, such as blue/same.png and red/003.png; keep one copy of each" in notes
    assert (recipe.sampling, recipe.class_weights, recipe.logit_adjustment) == ("balanced", "balanced", 1)
    assert recipe.loss.kind == "focal"


def test_a_dry_run_prints_the_notes_of_the_training(images, tiny, tmp_path):
    (images / "red").rename(images / "arrow_left")
    (images / "green").rename(images / "arrow_right")
    shutil.copy(images / "arrow_left" / "003.png", images / "blue" / "same.png")
    request = make_request(str(images), tiny, recipe=choose_training("small"))
    estimated, trained = RecordedNotes(), RecordedNotes()
    estimate_training(request, ExecutionContext(progress=estimated))
    (tmp_path / "run").mkdir()
    prepare(RunFolder(tmp_path / "run"), request, ExecutionContext(progress=trained))
    assert any("images in more than one class: 1, such as" in note for note in estimated.notes)
    assert any("images are not mirrored since" in note for note in estimated.notes)
    more = [note for note in trained.notes if note not in estimated.notes]
    assert all(note.startswith("training starts from random weights") for note in more)  # says nothing of the images


def test_folds_test_classes_that_a_split_lacks(tiny, tmp_path):
    write_classes(tmp_path / "set" / "train", 8)
    write_classes(tmp_path / "set" / "val", 3, seed=1)
    shutil.rmtree(tmp_path / "set" / "val" / "green")
    request = make_request(
        str(tmp_path / "set"), tiny, recipe=choose_training("small"), data=DataOptions(allow_missing_classes=True)
    )
    (tmp_path / "run").mkdir()
    for fold, is_noted in ((None, True), (Fold(number=1, count=2), False)):
        progress = RecordedNotes()
        folder = tmp_path / "run" / str(fold and fold.number)
        folder.mkdir()
        prepare(RunFolder(folder), request.replace(fold=fold), ExecutionContext(progress=progress))
        assert any("not measured there" in note for note in progress.notes) == is_noted


@pytest.mark.parametrize("setting", ["class_weights=auto", "sampler=balanced"])
def test_other_names_of_balancing_are_corrected(capsys, images, tiny_file, tmp_path, setting):
    line = refused(capsys, "train", images, "--network", tiny_file, "--set", setting, "--out", tmp_path / "run")
    assert "'none' or 'balanced'" in line or "did you mean sampling" in line
