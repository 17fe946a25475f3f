"""Weights to start from: runs, imported files, other sizes, and what is refused before anything is trained."""

from __future__ import annotations

import json

import pytest
import torch

from cli.command import refused, run
from conftest import write_classes
from triscale.families import get
from triscale.jobs.core.run import Run
from triscale.jobs.training.initial_weights import for_finetuning
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
    return Run(out)


def test_a_training_starts_from_a_run_of_the_same_network(capsys, folder, before, tmp_path):
    seen = run(capsys, "train", folder, "--weights", before.folder, "--out", tmp_path / "after", *FEW)
    assert seen.code == 0, seen.err
    assert "the classifier is kept, since the classes are the same" in " ".join(seen.err.split())
    after = Run(tmp_path / "after")
    assert after.spec.network.structure == before.spec.network.structure
    assert after.spec.request.recipe.name == "finetune"


@pytest.mark.stress
def test_another_size_inherits_and_is_refused_without_the_word(capsys, folder, before, tmp_path):
    larger = scale(before.spec.network, Scale(depth=2.0, width=1.5, resolution=1.0)).replace(name="larger")
    larger.save(tmp_path / "larger.json")
    command = ("train", folder, "--network", tmp_path / "larger.json", "--out", tmp_path / "after", *FEW)
    line = refused(capsys, *command, "--weights", before.folder)
    assert "do not fit larger" in line
    assert "inherit:" in line
    assert not (tmp_path / "after" / "run.json").exists()
    seen = run(capsys, *command, "--weights", f"inherit:{before.folder}")
    assert seen.code == 0, seen.err
    assert "layers copied" in " ".join(seen.err.split())
    seen = run(capsys, "train", folder, "--weights", f"inherit:{before.folder}", "--budget", "300K", "--out",
               tmp_path / "fitted", *FEW)  # fmt: skip
    assert seen.code == 0, seen.err
    assert "are inherited from" in " ".join(seen.err.split())


def small_mobilenet() -> Network:
    return network_of("timm", "mobilenetv2_100").replace(classes=1000)


@pytest.mark.stress
def test_weights_of_another_project_are_imported_and_trained_on(capsys, folder, tmp_path):
    """A state dict under timm's names, as a .pth, becomes a run with timm's own batch norm and padding."""
    network = small_mobilenet()
    torch.manual_seed(3)
    model = build(network)
    torch.save(export_state(model.state_dict(), network, "timm", "mobilenetv2_100"), tmp_path / "theirs.pth")
    ours = tmp_path / "ours.safetensors"
    seen = run(capsys, "weights", "import", tmp_path / "theirs.pth", "--source", "timm", "--name", "mobilenetv2_100",
               "--out", ours)  # fmt: skip
    assert seen.code == 0, seen.err
    contract = json.loads(run(capsys, "weights", "info", ours, "--json").out)
    assert contract["source"] == "timm"
    line = refused(
        capsys, "train", folder, "--network", "mobilenet_v1", "--weights", ours, "--out", tmp_path / "no", *FEW
    )
    assert "do not fit mobilenet_v1" in line
    back = tmp_path / "back.safetensors"
    seen = run(capsys, "weights", "export", ours, back, "--source", "timm", "--name", "mobilenetv2_100")
    assert seen.code == 0, seen.err
    out = tmp_path / "run"
    small = ("--set", "batch=8", "--epochs", 1, "--threads", 1, "--dry-run")
    assert run(capsys, "train", folder, "--weights", ours, "--out", out, *small).code == 0


def test_a_recipe_has_a_quarter_of_its_learning_rate_unless_it_is_made_for_it():
    assert for_finetuning(RECIPES["small"]).learning_rate == RECIPES["small"].learning_rate / 4
    assert for_finetuning(RECIPES["efficientnet_imagenet"]).learning_rate == pytest.approx(0.004)
    assert for_finetuning(RECIPES["finetune"]) == RECIPES["finetune"]


def test_what_cannot_be_started_from_is_refused(capsys, folder, before, tmp_path, monkeypatch):
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
