"""Images with any number of labels, from the table to predictions, files, maps and the server."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

import triscale as ts
from cli.command import refused, run
from colors import NAMES, write_colors
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.inference.predict import predict
from triscale.serve.model import ServedModel
from triscale.training.context import ExecutionContext

TRAINED = {"recipe": "small", "epochs": 10, "seed": 1, "settings": {"batch": 16, "min_steps": 200}}
DATA = ("--label-separator", " ")


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    return write_colors(tmp_path_factory.mktemp("colors") / "set")


@pytest.fixture(scope="module")
def made(colors, tiny_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("colors") / "run"
    ts.fit(colors, budget="400k", baseline=tiny_file, out=out, data={"label_separator": " "}, progress=False, **TRAINED)
    return out


def rows_of(folder):
    return list(csv.DictReader(io.StringIO((folder / "predictions.csv").read_text())))


def test_metrics_are_those_of_scikit_learn_on_the_predictions(made):
    opened = ts.Run.open(made)
    metrics, split = opened.metrics, RunFolder(made).split
    assert split.multi_label
    truth = np.array([[label in sample.labels for label in range(3)] for sample in split.test])
    chosen = [set(row["predicted"].split("|")) for row in rows_of(made)]
    predicted = np.array([[name in labels for name in NAMES] for labels in chosen])
    assert metrics.count == len(split.test)
    assert metrics.micro_f1 == pytest.approx(f1_score(truth, predicted, average="micro"))
    assert metrics.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
    results = list(opened.predict([f"{split.root}/{sample.path}" for sample in split.test], top=3))
    scores = np.array([[{one.name: one.probability for one in result.classes}[n] for n in NAMES] for result in results])
    expected = average_precision_score(truth, scores, average="macro")
    assert metrics.mean_average_precision == pytest.approx(expected, abs=1e-6)
    assert metrics.mean_average_precision > 0.9
    assert [set(result.labels) or {""} for result in results] == chosen


def test_exported_file_and_server_give_the_labels_of_the_run(made, colors):
    image = colors / "images" / "003.png"
    of_run = ts.Run.open(made).predict(image)
    (exported,) = predict(made / "model.onnx", (image,))
    assert exported.labels == of_run.labels == tuple(json.loads(of_run.to_json())["labels"])
    answer = ServedModel(RunFolder.open(made), 10**6).answer(image.read_bytes(), 3, with_map=True)
    assert answer.labels == of_run.labels
    assert answer.classes[0].probability == pytest.approx(of_run.classes[0].probability, abs=1e-5)


def test_commands_and_report_say_what_was_measured(capsys, made, colors, tmp_path):
    page = (made / "report.html").read_text()
    assert "Mean average precision" in page
    wrong = any(row["truth"] != row["predicted"] for row in rows_of(made))
    assert ("Images with wrong labels" in page) == wrong
    assert "exactly the right labels" in page
    printed = run(capsys, "evaluate", made, "--split", "val").out
    assert "mean average precision" in printed
    assert "exactly the right labels" in printed.replace("\n", " ")
    score = ts.Run.open(made).metrics.score
    assert run(capsys, "evaluate", made, "--fail-under", f"{score - 1e-3:.4f}").code == 0
    failed = run(capsys, "evaluate", made, "--fail-under", "1")
    assert (failed.code, "mean average precision" in failed.err) == ((0, False) if score == 1 else (1, True))
    labels = ts.Run.open(made).predict(colors / "images" / "003.png").labels
    printed = run(capsys, "predict", made, colors / "images" / "003.png").out
    assert [name for name in NAMES if f" {name} " in printed] == sorted(labels)
    assert run(capsys, "predict", made, colors / "images", "--out", tmp_path / "p.csv").code == 0
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert len(rows) == 120
    assert {label for row in rows for label in row["labels"].split("|")} <= {*NAMES, ""}
    done = run(capsys, "features", made, colors / "labels.csv", *DATA, "--out", tmp_path / "f.npy")
    assert done.code == 0
    assert "blue|green" in (tmp_path / "f.csv").read_text()
    explained = run(capsys, "explain", made, colors / "images" / "003.png", "--out", tmp_path / "maps")
    assert explained.code == 0


def test_model_card_has_the_metrics_of_labels(made, tmp_path):
    opened = ts.Run.open(made, progress=False)
    card = opened.card(tmp_path / "card.md").read_text()
    assert "predicts the labels of an image, any number of 3" in card
    assert f"{opened.metrics.map_low:.4f} to {opened.metrics.map_high:.4f}" in card
    assert "one of the 3 classes" not in card
    for row in opened.metrics.per_class:
        assert f"| {row.name} | {row.count} |" in card


def test_calibration_moves_thresholds_with_the_probabilities(made, colors, tmp_path):
    """Before and after, every image has the same labels, in the run and in an exported file."""
    opened = ts.Run.open(shutil.copytree(made, tmp_path / "run"))
    (opened.path / "calibration.json").unlink()
    before = opened.predict(colors / "images")
    record = opened.calibrate(coverage=0.8, progress=False)
    # So few validation images leave the temperature at 1.
    record.replace(confidence=record.confidence.replace(temperature=2.0)).save(opened.path / "calibration.json")
    opened = ts.Run.open(opened.path)
    opened.evaluate(progress=False)
    after = opened.predict(colors / "images")
    assert [one.labels for one in after] == [one.labels for one in before]
    assert [one.classes for one in after] != [one.classes for one in before]
    opened.export(progress=False)
    of_file = tuple(predict(opened.path / "model.onnx", (colors / "images",), top=5))
    assert [(one.labels, one.prediction_set) for one in of_file] == [(one.labels, one.prediction_set) for one in after]
    check = opened.metrics.confidence
    assert check.covered_low <= check.covered <= check.covered_high
    limits = dict(zip(opened.classes, opened.metrics.thresholds, strict=True))
    for one in after:
        assert set(one.labels) == {c.name for c in one.classes if c.probability >= limits[c.name]}


def test_searches_need_one_class_per_image(capsys, colors, tiny_file, tmp_path):
    message = refused(capsys, "compare", colors, "--baseline", tiny_file, "--out", tmp_path / "c", *DATA)
    assert "any number of labels" in message


def test_stopped_training_is_resumed_bitwise(capsys, colors, tiny_file, tmp_path):
    options = ("--network", tiny_file, "--epochs", 4, "--batch", 16, "--set", "loss=asymmetric", "--set", "cutmix=1",
               "--set", "sampling=balanced", "--set", "class_weights=balanced", *DATA)  # fmt: skip
    assert run(capsys, "train", colors, "--out", tmp_path / "whole", *options).code == 0
    stopped = ("train", colors, "--out", tmp_path / "stopped", *options)
    assert run(capsys, *stopped, "--max-time", "0.05s").code == 143
    assert run(capsys, *stopped, "--workers", 2).code == 0
    for name in ("model.safetensors", "metrics.json", "decision.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.process
@pytest.mark.stress
def test_two_processes_match_one(colors, tiny_file, tmp_path):
    options = ["train", str(colors), "--network", str(tiny_file), "--epochs", "2", "--batch", "16",
               "--set", "micro_batches=2", "--set", "sampling=balanced", "--threads", "1", "--label-separator",
               " ", "--out"]  # fmt: skip
    for out, start in (("one", []), ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])):
        command = [sys.executable, *start, "-m", "triscale", *options, str(tmp_path / out)]
        subprocess.run(command, check=True, capture_output=True, timeout=150)
    for name in ("model.safetensors", "metrics.json", "decision.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_evaluation_can_be_repeated(made):
    before = (made / "metrics.json").read_bytes()
    evaluate_run(RunFolder.open(made), ExecutionContext())
    assert (made / "metrics.json").read_bytes() == before
