"""A run is calibrated by its validation images, and everything that predicts uses it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import triscale as ts
from cli.command import refused, run
from conftest import write_picture
from triscale.deploy.contract import read_contract
from triscale.deploy.engines import open_file
from triscale.jobs.core.run import RunFolder
from triscale.network.contract import Decision
from triscale.results.confidence import Calibration
from triscale.results.metrics import Metrics

OPTIONS = {"epochs": 3, "batch_size": 16, "threads": 1, "workers": 0, "progress": False}


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Pictures in colors that no class has."""
    folder = tmp_path_factory.mktemp("others")
    for index in range(25):
        write_picture(folder / f"{index}.png", (15 * (index % 3), 10 * index, 255 - 10 * index), index)
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def calibrated(trained_run, tmp_path) -> ts.Run:
    """A copy of a trained run, which has been calibrated by its training."""
    return ts.Run.open(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.fixture
def old(calibrated) -> ts.Run:
    """A run of a version without calibration."""
    (calibrated.path / "calibration.json").unlink()
    metrics = json.loads((calibrated.path / "metrics.json").read_text())
    del metrics["confidence"]
    (calibrated.path / "metrics.json").write_text(json.dumps(metrics))
    return calibrated


def picture_of(opened: ts.Run) -> Path:
    split = RunFolder(opened.path).split
    return Path(split.root) / split.test[0].path


def own_logits(opened: ts.Run, picture: Path) -> np.ndarray:
    """Logits by the run's module and transform, with nothing of the prediction in between."""
    from PIL import Image

    with torch.inference_mode():
        return opened.model()(opened.transform()(Image.open(picture).convert("RGB"))[None]).double().numpy()[0]


def test_training_calibrates_and_test_images_have_no_part_in_it(calibrated):
    record = calibrated.calibration
    split = RunFolder(calibrated.path).split
    assert record.images == len(split.val) < 20
    assert "validation images are too few" in record.notes[0]
    assert record.confidence.coverage == 0.9
    assert calibrated.metrics.confidence.temperature == record.confidence.temperature
    without_test = split.replace(test=())
    without_test.save(calibrated.path / "split.json")
    assert calibrated.calibrate(progress=False) == record


def test_every_way_to_predict_uses_the_calibration(capsys, calibrated, tmp_path):
    confidence = calibrated.calibration.confidence.replace(
        temperature=2.5, set_threshold=0.2, unknown_threshold=1e6, coverage=0.8
    )
    calibrated.calibration.replace(confidence=confidence).save(calibrated.path / "calibration.json")
    picture = picture_of(calibrated)
    scaled = own_logits(calibrated, picture) / 2.5
    expected = np.exp(scaled - scaled.max()) / np.exp(scaled - scaled.max()).sum()
    opened = ts.Run.open(calibrated.path)
    found = opened.predict(picture, top=3)
    assert [one.probability for one in found.classes] == pytest.approx(sorted(expected, reverse=True), rel=1e-4)
    assert set(found.prediction_set) == {name for name, p in zip(opened.classes, expected, strict=True) if p >= 0.2}
    assert found.unknown is True
    printed = run(capsys, "predict", opened.path, picture)
    assert printed.out.rstrip().endswith("unknown")
    assert "unknown: the logits are lower than for 95% of the validation images" in printed.err
    assert len(printed.out.splitlines()) == 1
    run(capsys, "predict", opened.path, picture, "--out", tmp_path / "p.csv", "--top", "1")
    (row,) = csv.DictReader((tmp_path / "p.csv").open())
    assert row["unknown"] == "yes"
    assert row["prediction_set"].split("|") == list(found.prediction_set)
    # An exported file has it inside, and its graph has not changed.
    opened.export(progress=False)
    answer = json.loads(run(capsys, "predict", opened.path / "model.onnx", picture, "--json").out)[0]
    assert [one["probability"] for one in answer["classes"]] == pytest.approx(sorted(expected)[::-1], rel=1e-4)
    assert answer["prediction_set"] == list(found.prediction_set)
    assert answer["unknown"] is True
    exported = open_file(opened.path / "model.onnx", 1)
    assert read_contract(exported.contract_text, picture).decision == RunFolder(opened.path).decision
    # So do the metrics and the table of the test images.
    metrics = opened.evaluate(progress=False)
    assert metrics.confidence.called_unknown == 1.0
    rows = list(csv.DictReader((opened.path / "predictions.csv").open()))
    assert float(rows[0]["confidence"]) == pytest.approx(expected.max(), abs=2e-6)
    evaluated = run(capsys, "evaluate", opened.path / "model.onnx", "--images", picture.parent.parent, "--json")
    of_file = json.loads(evaluated.out)
    assert of_file["confidence"]["temperature"] == 2.5


def test_runs_without_calibration_work_as_before(capsys, old):
    picture = picture_of(old)
    scores = own_logits(old, picture)
    expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    found = old.predict(picture, top=3)
    assert old.calibration is None
    assert old.metrics.confidence is None
    assert (found.prediction_set, found.unknown) == (None, None)
    assert [one.probability for one in found.classes] == pytest.approx(sorted(expected, reverse=True), rel=1e-4)
    assert "prediction_set" not in json.loads(found.to_json())
    assert "set:" not in run(capsys, "predict", old.path, picture).out
    assert RunFolder(old.path).decision == Decision()
    old.report()
    assert 'id="confidence"' not in (old.path / "report.html").read_text()
    printed = run(capsys, "calibrate", old.path)
    assert printed.code == 0
    assert old.calibration is not None
    assert old.metrics.confidence is not None
    assert 'id="confidence"' in (old.path / "report.html").read_text()


def test_other_images_are_measured_and_change_nothing_else(capsys, old, others):
    first = old.calibrate(progress=False)
    second = old.calibrate(unknown_images=others, progress=False)
    assert second.replace(unknown=None) == first
    unknown = second.unknown
    assert (unknown.images, unknown.unreadable, unknown.folder) == (25, 1, others.name)
    assert 0 <= unknown.auroc_low <= unknown.auroc <= unknown.auroc_high <= 1
    printed = run(capsys, "calibrate", old.path, "--unknown-images", others)
    assert f"AUROC {unknown.auroc:.3f}" in printed.out
    assert "1 unreadable" in printed.out
    assert "AUROC, other images" in (old.path / "report.html").read_text()
    listed = json.loads((old.path / "manifest.json").read_text())["files"]
    assert "calibration.json" in {file["name"] for file in listed}


def test_resumed_job_keeps_the_calibration_of_the_user(images, tiny, tmp_path):
    made = ts.train(images, tiny, out=tmp_path / "run", **OPTIONS)
    before = (made.path / "model.safetensors").read_bytes()
    mine = made.calibrate(0.6, kept=0.5, progress=False)
    again = ts.train(images, tiny, out=tmp_path / "run", **OPTIONS)
    assert again.calibration == mine
    assert again.calibration.confidence.coverage == 0.6
    assert (again.path / "model.safetensors").read_bytes() == before


def test_calibration_is_the_same_twice_and_shows_as_json(capsys, calibrated):
    first = (calibrated.path / "calibration.json").read_bytes()
    printed = run(capsys, "calibrate", calibrated.path, "--json")
    assert (calibrated.path / "calibration.json").read_bytes() == first
    assert json.loads(printed.out) == json.loads(first)


def test_exported_files_of_before_are_named(capsys, calibrated):
    calibrated.export(progress=False)
    printed = run(capsys, "calibrate", calibrated.path, "--coverage", "80%")
    assert "files exported before have no or another calibration inside (model.onnx)" in " ".join(printed.err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--coverage", "0"), "is not a share between 0 and 1"),
        (("--coverage", "100%"), "is not a share"),
        (("--keep", "many"), "is not a share"),
        (("--unknown-images", "nowhere"), "nowhere does not exist"),
    ],
)
def test_bad_options_are_refused(capsys, calibrated, options, message):
    assert message in refused(capsys, "calibrate", calibrated.path, *options)


def test_images_of_the_run_are_not_unknown(capsys, calibrated):
    root = Path(RunFolder(calibrated.path).split.root)
    before = (calibrated.path / "calibration.json").read_bytes()
    message = refused(capsys, "calibrate", calibrated.path, "--unknown-images", root / "red")
    assert "holds 30 images of the run itself" in message
    assert (calibrated.path / "calibration.json").read_bytes() == before
    with pytest.raises(ts.UserError, match="coverage 1 is not a share"):
        calibrated.calibrate(1.0, progress=False)


def test_folder_without_images_and_weights_are_refused(capsys, calibrated, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    message = refused(capsys, "calibrate", calibrated.path, "--unknown-images", tmp_path / "texts")
    assert "none of the 1 files" in message
    run(capsys, "weights", "run", calibrated.path, "--out", tmp_path / "weights")
    assert "no validation images" in refused(capsys, "calibrate", tmp_path / "weights")


def test_missing_test_images_leave_calibration_and_metrics_as_they_were(capsys, calibrated, tmp_path):
    folder = RunFolder(calibrated.path)
    copied = Path(shutil.copytree(folder.split.root, tmp_path / "images"))
    folder.split.replace(root=str(copied)).save(calibrated.path / "split.json")
    (copied / folder.split.test[0].path).unlink()
    before = (calibrated.path / "calibration.json").read_bytes()
    assert folder.split.test[0].path in refused(capsys, "calibrate", calibrated.path, "--coverage", "70%")
    assert (calibrated.path / "calibration.json").read_bytes() == before


def test_report_and_evaluation_show_what_the_record_says(capsys, calibrated):
    check = calibrated.metrics.confidence
    printed = " ".join(run(capsys, "evaluate", calibrated.path).out.split())
    assert f"calibration error {calibrated.metrics.calibration_error:.1%}" in printed
    compared = f"calibration error {check.calibration_error_before:.1%} before and" in printed
    assert compared == (check.temperature != 1)  # otherwise it is the same figure again
    record = Calibration.load(calibrated.path / "calibration.json")
    if record.confidence.set_threshold is not None:
        assert f"{check.covered:.1%} contain the right class" in printed
    assert isinstance(calibrated.metrics, Metrics)
    text = (calibrated.path / "report.html").read_text()
    assert f"{record.images} validation images" in text
