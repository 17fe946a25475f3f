"""Comparison of several runs: comparable runs, incomparable ones, and invalid input."""

import contextlib
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.command import refused, run
from conftest import write_classes
from triscale.cli import main
from triscale.jobs.reports.run_comparison import behind, compare_runs
from triscale.jobs.reports.runs_report import collect_runs_content
from triscale.jobs.studies.requests import CoefficientSearchRequest
from triscale.network.cost import count_network
from triscale.network.spec import Network
from triscale.report.runs.runs_view import tables


def train(*words):
    with contextlib.suppress(SystemExit):
        main(["train", *map(str, words), "--batch", "16"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runs(place, tiny_file):
    """Two runs on the same test images and one on others, all undertrained so that some predictions are wrong."""
    write_classes(place / "photos" / "train", 12)
    write_classes(place / "photos" / "test", 8, seed=1)
    write_classes(place / "others", 12, seed=2)
    train(place / "photos", "--network", tiny_file, "--epochs", 1, "--out", place / "short")
    train(place / "photos", "--network", tiny_file, "--epochs", 3, "--seed", 1, "--out", place / "long")
    train(place / "others", "--network", tiny_file, "--epochs", 1, "--out", place / "other")
    return place / "short", place / "long", place / "other"


def rights(folder: Path):
    rows = csv.DictReader((folder / "predictions.csv").open())
    return {row["file"]: row["truth"] == row["predicted"] for row in rows}


def test_rows_match_runs(runs):
    found = compare_runs(runs[:2])
    assert [test_set.count for test_set in found.test_sets] == [24]
    for row, folder in zip(found.runs, runs, strict=False):
        metrics = json.loads((folder / "metrics.json").read_text())
        network = Network.load(folder / "network.json")
        assert (row.top1, row.top1_low, row.top1_high) == (metrics["top1"], metrics["top1_low"], metrics["top1_high"])
        assert (row.macs, row.params) == (count_network(network).macs, count_network(network).params)
        assert row.name == folder.name
        assert row.latency is None
    best = max(found.runs, key=lambda row: row.top1)
    assert best.behind is None
    (other,) = (row for row in found.runs if row is not best)
    ours, theirs = rights(Path(best.folder)), rights(Path(other.folder))
    assert other.behind.share == pytest.approx(np.mean([ours[file] - theirs[file] for file in ours]))
    assert found.notes == ()


def test_only_differing_settings_are_listed(runs):
    found = {row.setting: row.values for row in compare_runs(runs[:2]).differences}
    assert found["epochs"] == ("1", "3")
    assert found["seed"] == ("0", "1")
    assert found.keys() == {"epochs", "seed"}


def test_different_test_sets_are_reported(runs, capsys, tmp_path):
    found = compare_runs(runs)
    assert [row.test_set for row in found.runs] == [0, 0, 1]
    assert "2 different test sets" in found.notes[0]
    assert found.runs[2].behind is None
    rows_of_each = [rows for _, rows in tables(collect_runs_content(found).compared)]
    assert [{run.name for _, run in rows} for rows in rows_of_each] == [{"short", "long"}, {"other"}]
    result = run(capsys, "report", *runs, "--out", tmp_path / "runs.html")
    assert "2 different test sets" in " ".join(result.out.split())
    page = (tmp_path / "runs.html").read_text()
    assert page.count("2 different test sets") == 2  # the headline and the note
    assert "cannot be ranked together" in page


def test_same_file_names_in_other_folders_are_different_images(runs, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(runs[0], moved)
    split = json.loads((moved / "split.json").read_text())
    (moved / "split.json").write_text(json.dumps(split | {"root": "/somewhere/else"}))
    found = compare_runs((runs[0], moved))
    assert [row.test_set for row in found.runs] == [0, 1]
    assert [test_set.name for test_set in found.test_sets] == ["photos (1)", "photos (2)"]


def test_test_images_in_another_training_set_are_reported(runs, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(runs[2], again)
    split = json.loads((again / "split.json").read_text())
    split["train"], split["test"] = split["test"], split["train"]
    (again / "split.json").write_text(json.dumps(split))
    notes = compare_runs((runs[2], again)).notes
    assert any("were training images of the runs on the test set others (2)" in note for note in notes)


def test_runs_of_equal_name_get_unique_names(runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(runs[0], tmp_path / name / "run")
    assert [row.name for row in compare_runs((tmp_path / "a/run", tmp_path / "b/run")).runs] == ["a/run", "b/run"]


def test_latencies_under_different_conditions_are_reported(runs, tmp_path):
    machine = json.loads((runs[0] / "run.json").read_text())["machine"]
    folders = []
    for threads in (1, 2):
        folders.append(tmp_path / f"threads-{threads}")
        shutil.copytree(runs[0], folders[-1])
        item = {
            "engine": "ONNX Runtime", "batch": 1, "threads": threads, "resolution": 16, "warmup_calls": 3,
            "samples": 30, "lower_quartile_ms": 1.0, "median_ms": 2.0, "upper_quartile_ms": 3.0, "machine": machine,
            "noise": "other processes are using the CPU" if threads == 2 else None,
        }  # fmt: skip
        torch_item = item | {"engine": "torch", "median_ms": 9.0}
        latencies = {"triscale": "latencies", "schema": 1, "measurements": [torch_item, item]}
        (folders[-1] / "latency.json").write_text(json.dumps(latencies))
    found = compare_runs(folders)
    assert [row.latency.median_ms for row in found.runs] == [2.0, 2.0]  # of the file, not of the module
    assert "different conditions" in found.notes[0]
    assert "noisy measurement" in found.notes[1]
    assert found.notes[1].endswith("threads-2")


def test_command_prints_table_or_json(runs, capsys, tmp_path):
    result = run(capsys, "report", *runs[:2], "--out", tmp_path / "runs.html")
    assert result.code == 0
    assert "short" in result.out
    page = (tmp_path / "runs.html").read_text()
    for folder in (tmp_path, runs[0].parent, Path.home()):
        assert str(folder) not in page
    data = json.loads(run(capsys, "report", *runs[:2], "--json").out)
    assert [row["name"] for row in data["runs"]] == ["short", "long"]
    assert data["triscale"] == "compared_runs"


def test_invalid_input_gives_one_sentence(runs, place, capsys, tmp_path):
    out = tmp_path / "runs.html"
    assert "holds no run" in refused(capsys, "report", runs[0], place / "photos", "--out", out)
    assert "given twice" in refused(capsys, "report", runs[0], runs[0], "--out", out)
    assert "--out runs.html" in refused(capsys, "report", *runs[:2])
    assert "does not end in .html" in refused(capsys, "report", *runs[:2], "--out", runs[0] / "run.json")
    assert "does not exist" in refused(capsys, "report", *runs[:2], "--out", tmp_path / "missing" / "runs.html")
    assert "is inside the image folder" in refused(capsys, "report", *runs[:2], "--out", place / "photos" / "runs.html")
    assert "for several runs" in refused(capsys, "report", runs[0], "--out", out)
    assert "nothing to report on" in refused(capsys, "report")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(runs[0], unfinished)
    (unfinished / "metrics.json").unlink()
    assert "has not been evaluated" in refused(capsys, "report", runs[0], unfinished, "--out", out)
    study = tmp_path / "study"
    study.mkdir()
    (study / f"{CoefficientSearchRequest.kind_name}.json").write_text("{}")
    assert "holds a search or a comparison, not a run" in refused(capsys, "report", runs[0], study, "--out", out)
    assert not out.exists()


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_difference_interval_matches_paired_formula(pairs):
    one = {str(index): pair[0] for index, pair in enumerate(pairs)}
    other = {str(index): pair[1] for index, pair in enumerate(pairs)}
    there, back = behind(one, other), behind(other, one)
    assert (there.share, there.low, there.high) == pytest.approx((-back.share, -back.high, -back.low))
    # Agresti & Min 2005: half an image more in each cell, then the Wald interval of a mean of n values in -1, 0, 1.
    extra = [1, -1, 0, 0]
    values = np.array([first - second for first, second in [(int(a), int(b)) for a, b in pairs]] + extra, dtype=float)
    weights = np.array([1.0] * len(pairs) + [0.5] * 4)
    middle = np.average(values, weights=weights)
    half = 1.959964 * np.sqrt(np.average((values - middle) ** 2, weights=weights) / weights.sum())
    assert (there.low, there.high) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_difference_interval_has_stated_coverage():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        cells = rng.choice(4, size=200, p=(0.6, 0.12, 0.06, 0.22))
        one = {str(index): cell in (0, 1) for index, cell in enumerate(cells)}
        other = {str(index): cell in (0, 2) for index, cell in enumerate(cells)}
        found = behind(one, other)
        covered.append(found.low <= 0.12 - 0.06 <= found.high)
    assert 0.92 < np.mean(covered) < 0.98
