"""The main job end to end, on small images."""

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from cli.command import run
from conftest import COLORS, write_classes, write_picture
from triscale.deploy.contract import read_contract
from triscale.deploy.engines import open_file
from triscale.jobs.core.run import RunFolder
from triscale.scaling.fit import Fit

pytestmark = pytest.mark.process

OPTIONS = ("--epochs", 4, "--batch", 16, "--budget", "300k")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("fit") / "photos & <b>", 24)


@pytest.fixture(scope="module")
def made(folder, tiny_file):
    out = folder.parent / "run"
    subprocess.run(
        [sys.executable, "-m", "triscale", "fit", folder, "--baseline", tiny_file, "--out", out, *map(str, OPTIONS)],
        check=True,
        capture_output=True,
        text=True,
    )
    return out


def test_fit_writes_all_documented_files(made):
    for name in (
        "run.json",
        "split.json",
        "network.json",
        "data.json",
        "history.jsonl",
        "model.safetensors",
        "metrics.json",
        "predictions.csv",
        "model.onnx",
        "export.json",
        "latency.json",
        "explain/maps.json",
        "report.html",
        "manifest.json",
    ):
        assert (made / name).stat().st_size > 0, name


def test_fit_learns_within_budget(made):
    assert json.loads((made / "metrics.json").read_text())["top1"] > 0.9
    fit = RunFolder.open(made).spec.fit
    assert isinstance(fit, Fit)
    (limit,) = fit.limits
    assert limit.achieved <= limit.requested == 300_000


def test_manifest_digests_match_files(made):
    files = json.loads((made / "manifest.json").read_text())["files"]
    assert {file["name"] for file in files} >= {"model.onnx", "report.html", "run.json"}
    for file in files:
        assert hashlib.sha256((made / file["name"]).read_bytes()).hexdigest() == file["sha256"]


def test_split_is_stratified_and_disjoint(made):
    split = RunFolder.open(made).split
    parts = [split.train, split.val, split.test]
    assert sum(map(len, parts)) == 72
    assert len({sample.path for part in parts for sample in part}) == 72
    for part in parts:
        counts = np.bincount([sample.label for sample in part])
        assert counts.max() == counts.min()


def test_history_has_one_line_per_epoch(made):
    lines = [json.loads(line) for line in (made / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


def test_export_stores_contract_and_agrees(made):
    exported = open_file(made / "model.onnx")
    contract = read_contract(exported.contract_text, made / "model.onnx")
    spec = RunFolder.open(made).spec
    assert contract.preprocessing == spec.preprocessing
    assert contract.classes == ("blue", "green", "red")
    onnx.checker.check_model(onnx.load(made / "model.onnx"))
    side = spec.preprocessing.resolution
    images = torch.randn(5, 3, side, side)
    with torch.inference_mode():
        expected = RunFolder.open(made).model()(images).numpy()
    np.testing.assert_allclose(exported(images.numpy()), expected, atol=1e-4)


def test_predictions_cover_each_test_image_once(made):
    rows = list(csv.DictReader((made / "predictions.csv").open()))
    assert sorted(row["file"] for row in rows) == sorted(sample.path for sample in RunFolder.open(made).split.test)
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["count"] == len(rows)
    assert metrics["top1"] == np.mean([row["truth"] == row["predicted"] for row in rows])


def test_report_is_one_escaped_file(made):
    page = (made / "report.html").read_text()
    assert "photos &amp; &lt;b&gt;" in page
    assert "photos & <b>" not in page
    assert not re.search(r"""(src|href)=["']?https?:""", page)


def test_repeated_command_does_not_retrain(made, folder, tiny_file, capsys):
    before = (made / "model.safetensors").read_bytes(), (made / "history.jsonl").read_bytes()
    assert run(capsys, "fit", folder, "--baseline", tiny_file, "--out", made, *OPTIONS).code == 0
    assert ((made / "model.safetensors").read_bytes(), (made / "history.jsonl").read_bytes()) == before


def test_every_command_works_on_run(made, capsys, folder):
    result = run(capsys, "evaluate", made, "--json")
    assert json.loads(result.out)["split"] == "test"
    assert "blue" in run(capsys, "evaluate", made, "--split", "val").out
    assert "ONNX Runtime" in run(capsys, "measure", made).out
    assert json.loads(run(capsys, "export", made, "--json").out)["export"]["agreement"] == 1.0
    assert json.loads(run(capsys, "explain", made, "--json").out)["method"] == "exact"
    assert run(capsys, "report", made).out.strip() == str(made / "report.html")
    test_manifest_digests_match_files(made)


def test_run_and_exported_file_predict_the_same(made, folder, capsys):
    source = folder / "red"
    from_run = json.loads(run(capsys, "predict", made, source, "--json").out)
    from_file = json.loads(run(capsys, "predict", made / "model.onnx", source, "--json").out)
    assert len(from_run) == len(from_file) == 24
    for one, other in zip(from_run, from_file, strict=True):
        assert one["file"] == other["file"]
        assert [guess["name"] for guess in one["classes"]] == [guess["name"] for guess in other["classes"]]
        for left, right in zip(one["classes"], other["classes"], strict=True):
            assert left["probability"] == pytest.approx(right["probability"], abs=1e-4)
    assert sum(row["classes"][0]["name"] == "red" for row in from_run) > 20


def test_predict_lists_bad_file(made, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_text("no image")
    write_picture(tmp_path / "good.png", COLORS["red"], 1)
    result = run(capsys, "predict", made, tmp_path)
    assert result.code == 0
    assert "unreadable" in result.err
    assert "good.png" in result.out


def test_existing_splits_are_used(tmp_path, tiny_file, capsys):
    write_classes(tmp_path / "set" / "train", 12)
    write_classes(tmp_path / "set" / "valid", 6, seed=1)
    result = run(
        capsys,
        "train",
        tmp_path / "set",
        *("--network", tiny_file, "--out", tmp_path / "run", "--epochs", 1, "--json"),
    )
    assert result.code == 0
    assert json.loads(result.out)["count"] == 18
    assert all(sample.path.startswith("valid/") for sample in RunFolder.open(tmp_path / "run").split.test)


def test_bad_file_is_skipped_and_listed(tmp_path, tiny_file, capsys):
    write_classes(tmp_path / "set", 12)
    (tmp_path / "set" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    out = tmp_path / "run"
    assert run(capsys, "train", tmp_path / "set", "--network", tiny_file, "--out", out, "--epochs", 1).code == 0
    (bad,) = json.loads((out / "data.json").read_text())["bad"]
    assert bad["path"] == "red/broken.png"
    assert "broken.png" in (out / "report.html").read_text()


@pytest.mark.stress
def test_custom_build_function_is_fitted(tmp_path, capsys, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n\n\ndef build(depth, width, classes):\n"
        "    channels = max(4, round(8 * width))\n"
        "    layers = [nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU()]\n"
        "    for _ in range(max(1, round(2 * depth))):\n"
        "        layers += [nn.Conv2d(channels, channels, 3, 1, 1), nn.BatchNorm2d(channels), nn.ReLU()]\n"
        "    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    images = write_classes(tmp_path / "images", 12)
    shown = run(capsys, "show", "own_network:build")
    assert shown.code == 0
    result = run(
        capsys, "fit", images, "--baseline", "own_network:build", "--budget", "500k", "--epochs", 2, "--out", "run"
    )
    assert result.code == 0, result.err
    spec = RunFolder.open(tmp_path / "run").spec
    assert spec.fit.limits[0].achieved <= 500_000
    assert json.loads((tmp_path / "run" / "explain" / "maps.json").read_text())["method"] == "Grad-CAM"


def train_process(folder, tiny_file, out, *extra):
    command = [sys.executable, "-m", "triscale", "train", folder, "--network", tiny_file, "--out", out]
    command += ["--epochs", "6", "--batch", "8", "--workers", "0", *extra]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_epoch(out, process, epochs):
    while process.poll() is None:
        file = out / "history.jsonl"
        if file.is_file() and len(file.read_text().splitlines()) >= epochs:
            return
    raise AssertionError(process.communicate()[1])


@pytest.fixture(scope="module")
def whole(folder, tiny_file, tmp_path_factory):
    """An uninterrupted training."""
    out = tmp_path_factory.mktemp("undisturbed") / "whole"
    process = train_process(folder, tiny_file, out)
    assert process.wait(120) == 0, process.communicate()[1]
    return out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.stress
def test_stopped_training_resumes_to_the_same_weights(whole, folder, tiny_file, tmp_path, number):
    out = tmp_path / "stopped"
    stopped = train_process(folder, tiny_file, out)
    wait_for_epoch(out, stopped, 2)
    os.kill(stopped.pid, number)
    _, stderr = stopped.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert stopped.returncode == -signal.SIGKILL
    else:
        assert stopped.returncode == 128 + number
        assert "everything is saved" in stderr
    again = train_process(folder, tiny_file, out)
    assert again.wait(120) == 0, again.communicate()[1]
    final = [(one / "model.safetensors").read_bytes() for one in (whole, out)]
    assert final[0] == final[1]
    histories = [
        [
            {key: value for key, value in json.loads(line).items() if key not in ("seconds", "images_per_second")}
            for line in (one / "history.jsonl").read_text().splitlines()
        ]
        for one in (whole, out)
    ]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.stress
def test_workers_do_not_change_the_result(folder, tiny_file, tmp_path, workers, capsys):
    weights = []
    for number in (0, workers):
        out = tmp_path / str(number)
        options = ("--network", tiny_file, "--out", out, "--epochs", 2, "--batch", 16, "--workers", number)
        assert run(capsys, "train", folder, *options).code == 0
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
