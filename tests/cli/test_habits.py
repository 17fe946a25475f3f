"""What people type from habit works, or gets the option to type instead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from sizes import stressed
from triscale import progress_bars
from triscale.cli.support.hints import HINTS, SAME, hint_for
from triscale.scaling.budget import DEVICE_BUDGETS

SHORT = ("--epochs", 1, "--threads", 1)


def test_options_of_the_ecosystem_work(capsys, images, tiny_file, tmp_path):
    common = ("--batch-size", 16, "--lr", 0.01, "--device", "cpu", *SHORT)
    result = run(capsys, "train", images, "--model", tiny_file, "-o", tmp_path / "run", *common)
    assert result.code == 0, result.err
    recipe = ts.Run.open(tmp_path / "run")._folder.spec.request.recipe
    assert (recipe.batch, recipe.learning_rate) == (16, 0.01)


def test_help_and_version_are_commands_too(capsys):
    assert run(capsys, "version").out == run(capsys, "--version").out
    assert run(capsys, "help", "train").out == run(capsys, "train", "--help").out
    assert "Usage" in run(capsys, "help").out
    assert "--install-completion" in run(capsys, "--help").out


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--pretrained", "--weights NAME"),
        ("--lr0", "use --lr RATE"),
        ("--imgsz=224", "--resolution 224"),
        ("--weight-decay", "--set weight_decay"),
        ("--ema-decay", "--set ema_decay=VALUE"),
        ("--label_smoothing", "--set label_smoothing=VALUE"),
        ("--num-classes", "follow from the images"),
    ],
)
def test_unknown_options_get_curated_hints(capsys, images, option, hint):
    line = refused(capsys, "train", images, "--network", "resnet18", option, 1)
    assert option.partition("=")[0] in line
    assert hint in line


def test_every_hint_leads_to_an_option_that_exists(capsys):
    shown = " ".join(
        run(capsys, *command, "--help").out for command in (("train",), ("fit",), ("export",), ("weights", "--help"))
    )
    for hint in HINTS.values():
        for word in hint.split():
            if word.startswith("--") and word.rstrip(",") not in ("--nproc-per-node",):
                assert word.rstrip(",") in shown, word
    assert all(hint_for(name) for name in (*HINTS, *SAME))
    assert hint_for("--nothing-like-it") is None


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "9", "mps:1", "cpu:0"])
def test_missing_devices_are_named(capsys, images, tiny_file, tmp_path, name):
    line = refused(capsys, "train", images, "--network", tiny_file, "--device", name, "--out", tmp_path / "run", *SHORT)
    assert f'there is no device "{name}" here; the devices are auto, cpu' in line
    assert not (tmp_path / "run").exists()


def test_recipes_can_be_yaml(capsys, images, tiny_file, tmp_path):
    (tmp_path / "mine.yaml").write_text("base: small\nlearning_rate: 1e-3\noptimizer:\n  kind: sgd\nepochs: 1\n")
    (tmp_path / "whole.yml").write_text("epochs: 1\nbatch: 16\n")
    for name in ("mine.yaml", "whole.yml"):
        arguments = ("--recipe", tmp_path / name, "--threads", 1, "--out", tmp_path / name[:4])
        result = run(capsys, "train", images, "--network", tiny_file, *arguments)
        assert result.code == 0, result.err
    recipe = ts.Run.open(tmp_path / "mine")._folder.spec.request.recipe
    assert (recipe.name, recipe.learning_rate, recipe.optimizer.kind) == ("mine", 1e-3, "sgd")
    for text, message in (("epochs: [", "not YAML"), ("- 3", "holds a list"), ("epoch: 3", "did you mean epochs")):
        (tmp_path / "bad.yaml").write_text(text)
        line = refused(capsys, "train", images, "--network", tiny_file, "--recipe", tmp_path / "bad.yaml")
        assert message in line


@pytest.mark.parametrize("name", DEVICE_BUDGETS)
def test_kinds_of_devices_are_budgets(capsys, name):
    macs, source = DEVICE_BUDGETS[name]
    result = json.loads(run(capsys, "scale", "efficientnet_b0", "--budget", name, "--json").out)
    assert result["fit"]["limits"][0]["requested"] == macs
    assert result["fit"]["limits"][0]["achieved"] <= macs
    assert "MACs" in source


@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), *stressed((signal.SIGTERM, 143))])
def test_interrupted_command_prints_how_to_resume(images, tiny_file, tmp_path, number, code):
    command = [sys.executable, "-m", "triscale", "train", str(images), "--network", str(tiny_file), "--epochs", "2000",
               "--threads", "1", "--out", str(tmp_path / "a run")]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        until = time.monotonic() + 120
        while not (tmp_path / "a run" / "history.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert f"to continue: triscale train {images}" in errors
    assert f"--out '{tmp_path / 'a run'}'" in errors


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["ascii", *stressed("cp1252", "cp932")])
def test_any_terminal_encoding_prints_without_traceback(tmp_path, encoding):
    network = ts.get("resnet18").replace(name="r\u00e9seau \u7db2 \u2713")
    network.save(tmp_path / "mine.json")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for command in (("show", tmp_path / "mine.json"), ("show", tmp_path / "mine.json", "--json"), ("fit", "\u7db2")):
        done = subprocess.run(
            [sys.executable, "-m", "triscale", *map(str, command)], capture_output=True, env=environment, check=False
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == (2 if command[0] == "fit" else 0)
        if command[-1] == "--json":
            assert json.loads(done.stdout.decode("ascii"))["network"]["name"] == network.name


def test_margin_lowers_a_latency_budget(capsys, predictor_file):
    arguments = ("scale", "resnet18", "--budget", "20ms", "--profile", predictor_file)
    without = json.loads(run(capsys, *arguments, "--json").out)
    data = json.loads(run(capsys, *arguments, "--margin", "25%", "--json").out)
    assert data["fit"]["limits"][0]["requested"] == 15_000
    assert data["latency"]["predicted_ms"] <= 15 < without["latency"]["predicted_ms"] <= 20
    latency = data["latency"]
    assert latency["likely_low_ms"] < latency["predicted_ms"] < latency["likely_high_ms"]
    printed = " ".join(run(capsys, *arguments).out.split())
    assert "ms predicted; measured within" in printed
    assert "in 9 of 10 cases predictor:" in printed  # of another device, where --verify is refused
    assert "is not a share" in refused(capsys, *arguments, "--margin", "lots")
    assert "is not a share" in refused(capsys, *arguments, "--margin", "100%")
    assert "a margin is for a latency" in refused(capsys, "scale", "resnet18", "--budget", "1G", "--margin", "10%")


def test_studies_say_how_many_trainings_they_take(capsys, tmp_path, tiny_file):
    images = write_classes(tmp_path / "images", 40)
    common = ("--baseline", tiny_file, "--out", tmp_path / "out", "--dry-run", "--set", "val_share=0.25", "--epochs", 3)
    result = run(capsys, "compare", images, *common, "--times", 2, "--seeds", "0,1")
    assert result.code == 0, result.err
    assert "10 trainings of 5 networks: 3 epochs" in result.out
    assert "about" in result.out
    search = ("search", "coefficients", images, *common, "--step", 0.5, "--tolerance", 0.3, "--json")
    grid, halving = (json.loads(run(capsys, *search, "--method", method).out) for method in ("grid", "halving"))
    assert grid["trainings"] == 3 * grid["networks"] == halving["trainings"]
    assert (grid["at_most"], halving["at_most"]) == (False, True)
    assert grid["seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_a_baseline_search_says_how_many_trainings_it_takes(capsys, tmp_path, tiny_file):
    images = write_classes(tmp_path / "images", 40)
    common = ("--skeleton", tiny_file, "--space", "tiny", "--target", "300k", "--out", tmp_path / "out", "--dry-run")
    options = ("--set", "val_share=0.25", "--epochs", 2, "--trials", 10, "--finalists", 2, "--final-epochs", 4)
    search = ("search", "baseline", images, *common, *options)
    result = run(capsys, *search)
    assert result.code == 0, result.err
    assert "10 trainings of 10 networks: 2 epochs" in result.out
    assert "and 2 trainings of the best networks for 4 epochs" in result.out
    alone, shared = (
        json.loads(run(capsys, *search, "--evaluator", kind, "--json").out) for kind in ("training", "supernet")
    )
    assert (alone["trainings"], shared["trainings"], len(shared["also"])) == (10, 8, 2)
    assert min(alone["seconds"], shared["seconds"]) > 0
    assert not (tmp_path / "out").exists()


def test_lines_of_progress_show_the_time_left(capsys, monkeypatch):
    clock = iter((0.0, 0.0, 10.0, 20.0))
    monkeypatch.setattr(progress_bars.time, "monotonic", lambda: next(clock))
    lines = progress_bars._Lines()
    lines.begin("train", 100)
    for done in (40, 50, 60):
        lines.advance(done, "loss 1.2")
    printed = capsys.readouterr().err.splitlines()
    assert printed[1:] == ["  train  50%  loss 1.2  50 s left", "  train  60%  loss 1.2  40 s left"]


@pytest.mark.parametrize("seeds", [("--seeds", "0,1"), ("--seeds", 0, 1), ("--seeds", 0, "--seeds", 1)])
def test_lists_are_written_in_any_of_the_usual_ways(capsys, tmp_path, tiny_file, seeds):
    images = write_classes(tmp_path / "images", 40)
    options = ("--baseline", tiny_file, "--out", tmp_path / "out", "--dry-run", "--set", "val_share=0.25", "--times", 2)
    result = json.loads(run(capsys, "compare", images, *options, *seeds, "--json").out)
    assert result["trainings"] == 2 * result["networks"]
