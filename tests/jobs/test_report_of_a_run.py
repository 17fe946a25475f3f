"""Content of a run's report: most confident mistakes with thumbnails, latency, and published networks."""

import base64
import csv
import io
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.command import run
from triscale.families import FAMILIES
from triscale.jobs.core.run import RunFolder
from triscale.jobs.reports import run_results as report_results
from triscale.jobs.reports.run_report import collect_content, write_run_report


@pytest.fixture
def opened(trained_run, tmp_path):
    """A copy of a run with wrong predictions for two classes; confidence grows with the image number."""
    shutil.copytree(trained_run, tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    with (tmp_path / "run" / "predictions.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for index, row in enumerate(rows):
            predicted = {"blue": "red", "green": "blue", "red": "red"}[row["truth"]]
            writer.writerow((row["file"], row["truth"], predicted, f"{0.5 + index / 100:.6f}"))
    return RunFolder.open(tmp_path / "run")


def test_misclassified_images_are_most_confident_per_class(opened):
    result = collect_content(opened).wrong
    rows = [row for row in csv.DictReader(opened.predictions_file.open()) if row["truth"] != row["predicted"]]
    for truth in ("blue", "green"):
        expected = sorted((row for row in rows if row["truth"] == truth), key=lambda row: -float(row["confidence"]))[:6]
        made = [card.prediction for card in result if card.prediction.truth == truth]
        assert [prediction.file for prediction in made] == [row["file"] for row in expected]
    assert not [image for image in result if image.prediction.truth == "red"]


def test_images_are_embedded_as_thumbnails(opened):
    shown = collect_content(opened).wrong[0]
    file = f"{opened.split.root}/{shown.prediction.file}"
    with Image.open(io.BytesIO(shown.image)) as image, Image.open(file) as original:
        assert image.format == "JPEG"
        assert image.size == original.size == (24, 24)
        means = [np.asarray(one.convert("RGB"), dtype=float).mean(axis=(0, 1)) for one in (image, original)]
    np.testing.assert_allclose(*means, atol=6)


def test_report_names_no_folder_of_the_machine(opened, trained_run, tmp_path, monkeypatch):
    spec = opened.spec
    command = ("triscale", "train", opened.split.root, "--network", "tiny", f"--out={trained_run}")
    opened.spec_file.write_text(spec.replace(command=command).to_json())
    opened.latency_file.unlink(missing_ok=True)
    opened = RunFolder.open(opened.folder)
    assert collect_content(opened).repeat == (f"triscale train images --network tiny --out={trained_run.name}",)
    assert collect_content(opened).measure == "triscale measure run"
    page = write_run_report(opened).read_text()
    for folder in (tmp_path, trained_run.parent, opened.split.root, Path.home(), Path(tempfile.gettempdir())):
        assert f"{folder}/" not in page
        assert f"{folder}<" not in page
    monkeypatch.chdir(tmp_path)
    assert collect_content(RunFolder.open(tmp_path / "run")).measure == "triscale measure run"


def test_misclassified_images_are_limited_in_number_and_size(opened, monkeypatch):
    monkeypatch.setattr(report_results, "MAX_WRONG", 4)
    result = collect_content(opened).wrong
    assert [sum(image.prediction.truth == truth for image in result) for truth in ("blue", "green")] == [2, 2]
    monkeypatch.setattr(report_results, "MAX_WRONG_BYTES", 1)
    assert len(collect_content(opened).wrong) == 1


def test_missing_images_do_not_break_report(opened):
    split = json.loads(opened.split_file.read_text())
    opened.split_file.write_text(json.dumps(split | {"root": "/nowhere"}))
    result = collect_content(opened).wrong
    assert len(result) == 12
    assert all(image.image is None for image in result)
    assert result[0].prediction.file in write_run_report(opened).read_text()


def test_report_suggests_measure_command_then_shows_latency(opened, capsys, monkeypatch):
    monkeypatch.chdir(opened.folder.parent)
    command = f"triscale measure {opened.folder.name}"
    assert collect_content(opened).measure == command
    assert command in write_run_report(opened).read_text()
    words = run(capsys, *command.split()[1:], "--engines", "torch", "--json")
    measured = json.loads(words.out)[0]
    content = collect_content(opened)
    assert content.measure == ""
    (row,) = content.latency
    assert (row.median_ms, row.low_ms, row.high_ms) == (measured["median_ms"], measured["low_ms"], measured["high_ms"])
    assert row.machine.processor == measured["machine"]["processor"]
    assert row.noise == measured["noise"]
    assert f"Measured on {row.machine.processor}." in write_run_report(opened).read_text()


def test_published_accuracies_are_shown_and_labeled(opened):
    content = collect_content(opened)
    assert {point.name: point.top1 for point in content.families} == {
        member.name: None if member.top1 is None else pytest.approx(member.top1 / 100)
        for members in FAMILIES.values()
        for member in members
    }
    page = write_run_report(opened).read_text()
    assert page.count("on ImageNet as published") == sum(point.top1 is not None for point in content.families)
    assert content.images == "images"


def test_maps_are_shown_as_jpegs_of_misclassified_images(opened, capsys):
    assert run(capsys, "explain", opened.folder).code == 0
    content = collect_content(opened)
    assert len(content.maps) > 3
    for card in content.maps:
        with Image.open(io.BytesIO(card.overlay)) as image:
            assert (image.format, image.size) == ("JPEG", (160, 160))
    assert any(image.overlay for image in content.wrong)
    (opened.maps_folder / "00-image.png").write_bytes(b"damaged")
    assert len(collect_content(opened).maps) == len(content.maps) - 1
    page = write_run_report(opened).read_text()
    assert len(page) < 1_500_000
    for encoded in re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page):
        assert base64.b64decode(encoded, validate=True)[:3] == b"\xff\xd8\xff"


def test_unfinished_run_has_no_misclassified_images(opened):
    for file in (opened.metrics_file, opened.predictions_file, opened.weights_file):
        file.unlink()
    content = collect_content(opened)
    assert content.wrong == ()
    assert content.measure == ""
    assert "In training" in write_run_report(opened).read_text()
