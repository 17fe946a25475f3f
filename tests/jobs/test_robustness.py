"""The accuracy of a run on corrupted test images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import triscale as ts
from cli.command import refused, run
from triscale.data.images.corruptions import CORRUPTIONS, corrupt, reduced
from triscale.jobs.core.run import RunFolder
from triscale.results.robustness import Robustness
from triscale.training.metrics import wilson


@pytest.fixture
def made(trained_run, tmp_path) -> ts.Run:
    """A copy of a trained run."""
    return ts.Run.open(shutil.copytree(trained_run, tmp_path / "run"))


def test_accuracies_are_those_of_predictions_for_corrupted_files(made, tmp_path):
    """Corrupted images are written to files, which the run classifies as any others."""
    found = made.robustness(seed=3, progress=False)
    split = RunFolder(made.path).split
    assert found.images == found.available == len(split.test)
    right = {}
    for sample in split.test:
        image = reduced(Image.open(Path(split.root) / sample.path).convert("RGB"), found.side)
        for kind, strength in [("", 0), *((kind, s) for kind in CORRUPTIONS for s in (1, 5))]:
            changed = corrupt(image, kind, strength, f"3 {sample.path}") if kind else image
            guess = made.predict(changed, top=1).classes[0].name
            right.setdefault((kind, strength), []).append(guess == split.classes[sample.label])
    assert found.all_classes.clean.value == pytest.approx(np.mean(right["", 0]))
    for row in found.strengths:
        if row.strength in (1, 5):
            hits = right[row.corruption, row.strength]
            assert row.top1.value == pytest.approx(np.mean(hits))
            assert (row.top1.low, row.top1.high) == pytest.approx(wilson(sum(hits), len(hits)))


def test_means_over_strengths_and_classes_agree(made):
    found = made.robustness(progress=False)
    assert [row.name for row in found.classes] == list(made.classes)
    assert sum(row.count for row in found.classes) == found.images
    for number, kind in enumerate(found.kinds):
        of_strengths = [row.top1.value for row in found.strengths if row.corruption == kind]
        assert len(of_strengths) == 5
        assert found.all_classes.corrupted[number].value == pytest.approx(np.mean(of_strengths))
        weighted = sum(row.count * row.corrupted[number].value for row in found.classes) / found.images
        assert weighted == pytest.approx(np.mean(of_strengths))
    assert found.all_classes.clean.value == pytest.approx(made.metrics.top1)


def test_result_is_the_same_twice_and_stands_in_run_and_report(capsys, made):
    printed = run(capsys, "robustness", made.path, "--json")
    assert printed.code == 0
    first = (made.path / "robustness.json").read_bytes()
    assert json.loads(printed.out) == json.loads(first)
    assert Robustness.load(made.path / "robustness.json") == made.robustness(progress=False)
    text = (made.path / "report.html").read_text()
    assert 'id="robustness"' in text
    assert "Accuracy on corrupted images" in text
    listed = json.loads((made.path / "manifest.json").read_text())["files"]
    assert "robustness.json" in {file["name"] for file in listed}


def test_limit_takes_a_random_sample(capsys, made):
    first = made.robustness(4, progress=False)
    assert (first.images, first.available) == (4, len(RunFolder(made.path).split.test))
    printed = run(capsys, "robustness", made.path, "--limit", "4", "--seed", "1").out
    assert f"4 of {first.available} test images" in printed
    counts = {tuple(row.count for row in made.robustness(4, seed=seed, progress=False).classes) for seed in range(6)}
    assert len(counts) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--limit", "0"), "is not a number of images"), (("--seed", "-1"), "is negative"),
     (("--device", "none"), "none")],
)  # fmt: skip
def test_bad_options_are_refused(capsys, made, options, message):
    assert message in refused(capsys, "robustness", made.path, *options)


def test_runs_without_test_images_and_exported_files_are_refused(capsys, made, tmp_path):
    split = RunFolder(made.path).split
    split.replace(test=()).save(made.path / "split.json")
    assert "no test images" in refused(capsys, "robustness", made.path)
    (tmp_path / "model.onnx").write_bytes(b"")
    assert "is an exported file" in refused(capsys, "robustness", tmp_path / "model.onnx")
    assert not (made.path / "robustness.json").exists()


def test_several_labels_are_refused(capsys, made):
    (made.path / "decision.json").write_text(
        json.dumps({"triscale": "decision", "schema": 1, "link": "sigmoid", "thresholds": [0.5, 0.5, 0.5]})
    )
    assert "any number of labels" in refused(capsys, "robustness", made.path)


def test_missing_images_are_named(capsys, made, tmp_path):
    folder = RunFolder(made.path)
    folder.split.replace(root=str(tmp_path / "gone")).save(made.path / "split.json")
    assert "gone" in refused(capsys, "robustness", made.path)
