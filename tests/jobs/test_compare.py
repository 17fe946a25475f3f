"""The comparison of scaling methods end to end, and the status of a study."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import redirect_stdout, suppress
from pathlib import Path

import optuna
import pytest
from PIL import Image

from cli.command import refused, run
from conftest import write_classes
from triscale.cli import main
from triscale.jobs.core.run import RunFolder
from triscale.results.explanation import ComparisonMaps
from triscale.results.metrics import Metrics
from triscale.search.compare.results import ComparisonResult, verdict

pytestmark = pytest.mark.process

SMALL = ("--epochs", 1, "--set", "batch=16", "--set", "val_share=0.25")
OPTIONS = ("--times", 4, "--seeds", "0,3", *SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("compare") / "images", 40)


def triscale(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "triscale", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ,
        text=True,
    )


@pytest.fixture(scope="module")
def ended(folder, tiny_file, tmp_path_factory):
    """The folder of a comparison that was interrupted, inspected and resumed."""
    out = tmp_path_factory.mktemp("compared") / "out"
    process = triscale("compare", folder, "--baseline", tiny_file, "--out", out, *OPTIONS)
    until = time.monotonic() + 120
    while not list(out.glob("trials/*/score_*.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    (out.parent / "status.json").write_text(output_of("search", "status", out, "--json"))
    (out.parent / "status.txt").write_text(output_of("search", "status", out))
    (out.parent / "scores.json").write_text(json.dumps(written(out)))
    (out.parent / "resumed.txt").write_text(output_of("search", "resume", out))
    return out


def output_of(*arguments: object) -> str:
    """Run a command and return its stdout; module fixtures cannot use ``capsys``."""
    with redirect_stdout(io.StringIO()) as out:
        main([str(argument) for argument in arguments])
    return out.getvalue()


def written(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.glob("trials/*/score_*.json")}


@pytest.mark.stress
def test_stopped_comparison_can_be_inspected_and_resumed(capsys, ended, folder, tiny_file, tmp_path):
    half = json.loads((ended.parent / "status.json").read_text())
    assert half["kind"] == "compare"
    assert half["done"] + half["waiting"] == 10
    assert half["done"] >= 1
    assert not half["finished"]
    assert "left for these" in " ".join((ended.parent / "status.txt").read_text().split())
    assert "ompound scaling reaches" in " ".join((ended.parent / "resumed.txt").read_text().split())
    before = json.loads((ended.parent / "scores.json").read_text())
    assert before.items() <= written(ended).items()
    whole = json.loads(run(capsys, "search", "status", ended, "--json").out)
    assert (whole["done"], whole["waiting"], whole["finished"]) == (10, 0, True)
    again = run(capsys, "compare", folder, "--baseline", tiny_file, "--out", ended, *OPTIONS, "--json")
    assert json.loads(again.out) == json.loads((ended / "compared.json").read_text())

    for name in ("trials.csv", "trials.json"):
        assert run(capsys, "search", "export", ended, tmp_path / name).code == 0
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    plain = json.loads((tmp_path / "trials.json").read_text())
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in plain]
    assert len(rows) == 10
    assert "neither .csv nor .json" in refused(capsys, "search", "export", ended, tmp_path / "trials.txt")


def test_record_matches_runs(ended):
    out = ended
    compared = ComparisonResult.load(out / "compared.json")
    assert [outcome.way for outcome in compared.outcomes] == ["baseline", "depth", "width", "resolution", "compound"]
    by_network: dict[str, list[float]] = {}
    for folder in (out / "trials").iterdir():
        trained = RunFolder.open(folder)
        by_network.setdefault(trained.spec.network.name, []).append(Metrics.load(trained.metrics_file).top1)
    for outcome, contender in zip(compared.outcomes, compared.comparison.contenders, strict=True):
        assert sorted(outcome.accuracies) == sorted(by_network[contender.network.name])
        assert outcome.accuracy == pytest.approx(sum(outcome.accuracies) / 2)
        assert outcome.low <= outcome.accuracy <= outcome.high
    assert str(len(compared.proxy.seeds)) in " ".join(compared.limitations)
    assert "compound" in verdict(compared)


def test_maps_of_all_networks_have_equal_size(ended):
    out = ended
    maps = ComparisonMaps.load(out / "maps" / "maps.json")
    assert len(maps.images) == 3
    for image in maps.images:
        assert [network_maps.way for network_maps in image.network_maps] == [
            "baseline",
            "depth",
            "width",
            "resolution",
            "compound",
        ]
        sizes = {
            Image.open(out / "maps" / name).size
            for name in (image.image, *(network_maps.overlay for network_maps in image.network_maps))
        }
        assert len(sizes) == 1


def test_report_shows_comparison(ended):
    page = (ended / "report.html").read_text()
    for word in ("compound", "resolution", "95"):
        assert word in page


@pytest.mark.skipif(importlib.util.find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed")
@pytest.mark.stress
def test_optuna_dashboard_opens_study(ended):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [program, f"sqlite:///{ended / 'study.sqlite'}", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until, summary = time.monotonic() + 60, {}
        while not summary and time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                summary = json.load(answer)
            time.sleep(0.2)
        assert [study["study_name"] for study in summary["study_summaries"]] == ["comparison of tiny"]
        number = summary["study_summaries"][0]["study_id"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies/{number}?after=0", timeout=30) as answer:
            trials = json.load(answer)["trials"]
        assert len([trial for trial in trials if trial["state"] == "Complete"]) == 10
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_optuna_reads_study(ended):
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{ended / 'study.sqlite'}")
    frame = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert {trial.params["seed"] for trial in frame} == {0, 3}
    assert study.best_value == max(trial.value for trial in frame)


def test_invalid_comparisons_are_rejected(capsys, folder, tiny_file, tmp_path):
    command = ("compare", folder, "--baseline", tiny_file, *SMALL)
    assert "give --out DIR" in refused(capsys, *command)
    assert "needs no scaling" in refused(capsys, *command, "--out", tmp_path / "a", "--times", 1)
    assert "whole numbers" in refused(capsys, *command, "--out", tmp_path / "b", "--seeds", "0,x")
    assert "contains a seed twice" in refused(capsys, *command, "--out", tmp_path / "c", "--seeds", "1,1")
    line = refused(
        capsys, *command, "--out", tmp_path / "d", "--storage", "postgresql://nobody:secret@127.0.0.1:1/none"
    )
    assert "cannot reach" in line
    assert "secret" not in line
    few = write_classes(tmp_path / "few", 6)
    assert "give more images" in refused(capsys, "compare", few, "--baseline", tiny_file, "--out", tmp_path / "e")
    for command in ("status", "resume"):
        assert "holds no study" in refused(capsys, "search", command, tmp_path)
