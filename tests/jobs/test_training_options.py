"""Training options: cost estimate, time limit, live report, disk space, initial weights."""

import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from cli.command import refused, run
from conftest import write_classes
from triscale.errors import UserError
from triscale.families import get
from triscale.jobs import fit as jobs_fit
from triscale.jobs.core.durations import seconds_of
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.disk_space import needed_bytes
from triscale.measurement.memory import training_memory
from triscale.network.cost import cost
from triscale.nn.build import build
from triscale.progress import format_duration
from triscale.training.recipe import SMALL, Sgd

OPTIONS = ("--epochs", 3, "--batch", 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("options") / "images", 24)


@pytest.fixture(scope="module")
def trained(folder, tiny_file):
    out = folder.parent / "trained"
    subprocess.run(
        [sys.executable, "-m", "triscale", "train", folder, "--network", tiny_file, "--out", out, *map(str, OPTIONS)],
        check=True,
        capture_output=True,
    )
    return out


def test_dry_run_reports_cost_and_writes_nothing(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "run"
    result = run(capsys, "train", folder, "--network", tiny_file, "--out", out, *OPTIONS, "--dry-run", "--json")
    found = json.loads(result.out)
    assert (found["train_images"], found["val_images"], found["test_images"]) == (51, 6, 15)
    assert found["steps"] == 3 * 4
    assert 0 < found["seconds_low"] <= found["seconds"] <= found["seconds_high"]
    assert found["disk_bytes"] > 0
    assert not out.exists()


def test_dry_run_fits_terminal(capsys, folder, tiny_file):
    result = run(capsys, "train", folder, "--network", tiny_file, *OPTIONS, "--dry-run")
    for name in ("network", "images", "steps", "time", "memory", "disk"):
        assert f"\n{name}" in f"\n{result.out}"
    assert all(len(line) <= 80 for line in result.out.splitlines())


@pytest.mark.process
@pytest.mark.stress
def test_disk_estimate_is_upper_bound(trained):
    spec = RunFolder.open(trained).spec
    used = sum(path.stat().st_size for path in trained.rglob("*") if path.is_file())
    assert used <= needed_bytes(cost(spec.network), spec.request.recipe)


@pytest.mark.process
def test_max_time_saves_and_training_resumes(capsys, folder, tiny_file, tmp_path, trained):
    arguments = ("train", folder, "--network", tiny_file, "--out", tmp_path / "run", *OPTIONS)
    result = run(capsys, *arguments, "--max-time", "0.05s")
    assert result.code == 143
    assert "the same command" in result.err or "everything is saved" in result.err
    assert run(capsys, *arguments).code == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


@pytest.mark.parametrize("time", ["soon", "-3s", "0s", "5", "3 weeks"])
def test_invalid_duration_is_rejected(capsys, folder, tiny_file, time):
    assert "--max-time" in refused(capsys, "train", folder, "--network", tiny_file, f"--max-time={time}")


def test_durations_round_trip():
    assert [seconds_of("", text) for text in ("90s", "1.5h", "1h30m", "2d")] == [90, 5400, 5400, 172800]
    assert [format_duration(seconds) for seconds in (9.6, 150, 5400, 200_000)] == [
        "10 s",
        "2 min",
        "1 h 30 min",
        "2 d 8 h",
    ]
    with pytest.raises(UserError):
        seconds_of("--max-time", "")


def test_report_is_updated_during_training(capsys, folder, tiny_file, tmp_path, monkeypatch):
    pages = []
    report = jobs_fit.write_run_report

    def kept(run, refresh_seconds=None):
        path = report(run, refresh_seconds)
        pages.append(path.read_text())
        return path

    monkeypatch.setattr(jobs_fit, "write_run_report", kept)
    monkeypatch.setattr(jobs_fit, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(jobs_fit, "REPORT_SHARE", math.inf)
    assert run(capsys, "train", folder, "--network", tiny_file, "--out", tmp_path / "run", *OPTIONS).code == 0
    assert len(pages) == 4
    assert "In training: 2 of 3 epochs done, validation accuracy up to" in pages[1]
    assert ['http-equiv="refresh"' in page for page in pages] == [True, True, True, False]


def test_slow_report_is_updated_less_often(monkeypatch):
    clock, updates = [100.0], []

    def slow(run, refresh_seconds):
        clock[0] += 1.0  # a second for a report
        updates.append(refresh_seconds)

    monkeypatch.setattr(jobs_fit, "write_run_report", slow)
    monkeypatch.setattr(jobs_fit.time, "monotonic", lambda: clock[0])
    report = jobs_fit._LiveReport(None, None)
    for _ in range(1000):
        clock[0] += 1.0  # a second for an epoch
        report.update()
    assert updates[0] == 15
    assert set(updates[1:]) == {50}
    assert len(updates) <= 22


def test_insufficient_disk_space_is_rejected_before_training(capsys, folder, tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    out = tmp_path / "run"
    line = refused(capsys, "train", folder, "--network", tiny_file, "--out", out, *OPTIONS)
    assert "has 1.00MB free" in line
    assert not (out / "checkpoints").exists()


def test_sgd_without_momentum_needs_less_disk():
    figures = cost(get("efficientnet_b0"))
    plain = SMALL.model_copy(update={"optimizer": Sgd(momentum=0.0)})
    assert needed_bytes(figures, plain) < needed_bytes(figures, SMALL)


@pytest.mark.parametrize("batch", [2, 6])
def test_memory_matches_saved_tensors_hooks(batch):
    """Compares with the bytes that autograd saves in a real step, a lower bound of peak memory."""
    network = get("mobilenet_v2").replace(resolution=64)
    model, kept = build(network).train(), {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total = model(torch.randn(batch, 3, 64, 64)).sum()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = sum(size for place, size in kept.items() if place not in weights)
    counted = training_memory(build(network), batch, (3, 64, 64)).activation_bytes
    assert saved <= counted <= 3 * saved
    total.backward()


@pytest.mark.process
@pytest.mark.stress
def test_training_starts_from_weights_of_another_run(capsys, trained, tmp_path, folder):
    other = write_classes(tmp_path / "two", 12, seed=5, colors={"black": (0, 0, 0), "white": (255, 255, 255)})
    out = tmp_path / "run"
    arguments = (
        "train",
        other,
        "--network",
        trained / "network.json",
        "--weights",
        trained,
        "--out",
        out,
        "--epochs",
        1,
    )
    assert run(capsys, *arguments, "--learning-rate", "1e-12").code == 0
    before = safetensors.torch.load_file(trained / "model.safetensors")
    after = safetensors.torch.load_file(out / "model.safetensors")
    convolutions = [name for name in before if name.endswith("conv.weight")]
    assert convolutions
    for name in convolutions:
        torch.testing.assert_close(before[name], after[name], rtol=1e-6, atol=1e-8)
    assert after["head.classifier.weight"].shape == (2, 32)
    assert RunFolder.open(out).spec.request.start.run == str(trained)


@pytest.mark.process
def test_weights_of_another_network_are_rejected(capsys, trained, folder, tmp_path):
    line = refused(capsys, "train", folder, "--network", "resnet18@32", "--weights", trained, "--out", tmp_path / "run")
    assert "do not fit resnet18@32: stem.width is 64, expected 8" in line
    assert "leave out --network" in line
    assert "no run.json" in refused(capsys, "train", folder, "--network", "resnet18", "--weights", tmp_path)


@pytest.mark.process
def test_modified_weights_are_rejected(capsys, trained, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    out = tmp_path / "run"
    arguments = ("train", folder, "--network", copy / "network.json", "--weights", copy, "--out", out, "--epochs", 1)
    assert run(capsys, *arguments, "--max-time", "0.001s").code == 143
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    assert "is damaged" in refused(capsys, *arguments)


def test_decoder_is_a_recipe_field(capsys, tiny_file, tmp_path):
    pytest.importorskip("torchcodec", reason="needs the extra fast")
    folder = write_classes(tmp_path / "images", 12)
    arguments = ("train", folder, "--network", tiny_file, "--epochs", 1, "--set", "decoder=torchcodec")
    assert run(capsys, *arguments, "--out", tmp_path / "run").code == 0
    assert RunFolder.open(tmp_path / "run").spec.request.recipe.decoder == "torchcodec"


def test_run_resumed_on_another_machine_reports_differences(capsys, folder, tiny_file, tmp_path):
    arguments = ("train", folder, "--network", tiny_file, "--out", tmp_path / "run", *OPTIONS)
    run(capsys, *arguments, "--max-time", "0.3s")
    spec_file = tmp_path / "run" / "run.json"
    spec = json.loads(spec_file.read_text())
    spec["machine"] |= {"threads": 77, "kernels": "others"}
    spec_file.write_text(json.dumps(spec))
    result = run(capsys, *arguments)
    assert result.code == 0
    assert "started with threads 77 and resumes with 1" in result.err
    assert "started with kernels others" in result.err


def test_loss_for_several_labels_is_refused_before_anything_is_written(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "run"
    message = refused(
        capsys, "train", folder, "--network", tiny_file, "--out", out, *OPTIONS, "--set", "loss=asymmetric"
    )
    assert "every image here has one label; use cross_entropy or focal" in message
    assert not out.exists()
