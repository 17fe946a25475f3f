"""Initial weights: runs, imported files, other sizes, and invalid ones that are rejected before training."""

from __future__ import annotations

import json

import pytest
import torch

from cli.command import refused, run
from conftest import write_classes
from triscale.families import get
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.initial_weights import for_finetuning
from triscale.jobs.training.train import read_evaluated
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.scaling.apply import scale
from triscale.scaling.law import Scale
from triscale.training.recipe import RECIPES
from triscale.weights.export import export_state
from triscale.weights.sources import network_of

FEW = ("--set", "batch=16", "--epochs", 1, "--threads", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("start") / "images", 30)


@pytest.fixture(scope="module")
def before(folder, tiny_file, tmp_path_factory):
    """A finished run."""
    from triscale.cli.app import main

    out = tmp_path_factory.mktemp("runs") / "before"
    main(["train", *map(str, (folder, "--network", tiny_file, "--out", out, "--recipe", "small", *FEW))])
    return RunFolder(out)


def test_training_starts_from_run_of_same_network(capsys, folder, before, tmp_path):
    result = run(capsys, "train", folder, "--weights", before.folder, "--out", tmp_path / "after", *FEW)
    assert result.code == 0, result.err
    assert "the classifier is kept, since the classes are the same" in " ".join(result.err.split())
    after = RunFolder(tmp_path / "after")
    assert after.spec.network.structure == before.spec.network.structure
    assert after.spec.request.recipe.name == "finetune"


def test_harmful_training_is_reported_with_a_lower_rate(capsys, trained_run, tmp_path):
    """The pretrained weights are kept, and the command says why and what to try."""
    out = tmp_path / "after"
    result = run(
        capsys,
        "train",
        trained_run.parent / "images",
        "--weights",
        trained_run,
        "--lr",
        0.6,
        "--set",
        "min_steps=0",
        "--out",
        out,
        *FEW,
    )
    assert result.code == 0, result.err
    curve = read_evaluated(RunFolder(out))
    assert max(epoch.val_score for epoch in curve[1:]) < curve[0].val_score
    printed = " ".join(result.err.split())
    assert "training did not help: on the validation images the best epoch scored" in printed
    assert f"the pretrained weights before the first step {curve[0].val_score:.1%}, so those are kept" in printed
    assert "such as --lr 0.15" in printed


@pytest.mark.stress
def test_other_size_needs_inherit_prefix(capsys, folder, before, tmp_path):
    larger = scale(before.spec.network, Scale(depth=2.0, width=1.5, resolution=1.0)).replace(name="larger")
    larger.save(tmp_path / "larger.json")
    command = ("train", folder, "--network", tmp_path / "larger.json", "--out", tmp_path / "after", *FEW)
    line = refused(capsys, *command, "--weights", before.folder)
    assert "do not fit larger" in line
    assert "inherit:" in line
    assert not (tmp_path / "after" / "run.json").exists()
    result = run(capsys, *command, "--weights", f"inherit:{before.folder}")
    assert result.code == 0, result.err
    assert "layers copied" in " ".join(result.err.split())
    result = run(capsys, "train", folder, "--weights", f"inherit:{before.folder}", "--budget", "300K", "--out",
               tmp_path / "fitted", *FEW)  # fmt: skip
    assert result.code == 0, result.err
    assert "are inherited from" in " ".join(result.err.split())


def small_mobilenet() -> Network:
    return network_of("timm", "mobilenetv2_100").replace(classes=1000)


@pytest.mark.stress
def test_published_weights_are_imported_and_fine_tuned(capsys, folder, tmp_path):
    """A state dict under timm's names, as a .pth, becomes a run with timm's own batch norm and padding."""
    network = small_mobilenet()
    torch.manual_seed(3)
    model = build(network)
    torch.save(export_state(model.state_dict(), network, "timm", "mobilenetv2_100"), tmp_path / "theirs.pth")
    ours = tmp_path / "ours.safetensors"
    result = run(capsys, "weights", "import", tmp_path / "theirs.pth", "--source", "timm", "--name", "mobilenetv2_100",
               "--out", ours)  # fmt: skip
    assert result.code == 0, result.err
    contract = json.loads(run(capsys, "weights", "info", ours, "--json").out)
    assert contract["source"] == "timm"
    line = refused(
        capsys, "train", folder, "--network", "mobilenet_v1", "--weights", ours, "--out", tmp_path / "no", *FEW
    )
    assert "do not fit mobilenet_v1" in line
    back = tmp_path / "back.safetensors"
    result = run(capsys, "weights", "export", ours, back, "--source", "timm", "--name", "mobilenetv2_100")
    assert result.code == 0, result.err
    out = tmp_path / "run"
    small = ("--set", "batch=8", "--epochs", 1, "--threads", 1, "--dry-run")
    assert run(capsys, "train", folder, "--weights", ours, "--out", out, *small).code == 0


def test_fine_tuning_uses_quarter_learning_rate():
    assert for_finetuning(RECIPES["small"]).learning_rate == RECIPES["small"].learning_rate / 4
    assert for_finetuning(RECIPES["efficientnet_imagenet"]).learning_rate == pytest.approx(0.004)
    assert for_finetuning(RECIPES["finetune"]) == RECIPES["finetune"]


def test_invalid_initial_weights_are_rejected(capsys, folder, before, tmp_path, monkeypatch):
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path / "cache"))
    command = ("train", folder, "--network", "efficientnet_b0", "--out", tmp_path / "out", *FEW, "--weights")
    assert "did you mean" in refused(capsys, *command, "timm/efficientnet_b0.ra_in1")
    assert "put it at" in refused(capsys, *command, "torchvision/efficientnet_b0.IMAGENET1K_V1", "--offline")
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refused(capsys, *command, tmp_path / "empty")
    assert "there is no file" in refused(capsys, *command, tmp_path / "none.safetensors")
    assert "requires a network" in refused(capsys, "train", folder)
    lying = tmp_path / "half.safetensors"
    lying.write_bytes(before.weights_file.read_bytes()[:1000])
    refused(capsys, *command, lying)
    assert get("efficientnet_b0").name == "efficientnet_b0"
