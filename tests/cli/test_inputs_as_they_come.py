"""Inputs that are refused on purpose, and the messages about images that contradict each other or are few."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from cli.command import refused, run
from conftest import COLORS, write_classes
from triscale.cli.support.messages import summarize
from triscale.families.find import find_network
from triscale.jobs.core.run import RunFolder
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


@pytest.mark.parametrize("setting", ["class_weights=auto", "sampler=balanced"])
def test_other_names_of_balancing_are_corrected(capsys, images, tiny_file, tmp_path, setting):
    line = refused(capsys, "train", images, "--network", tiny_file, "--set", setting, "--out", tmp_path / "run")
    assert "'none' or 'balanced'" in line or "did you mean sampling" in line
