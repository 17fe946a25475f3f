"""Runs that start from a pruned network: what is trained, recorded and shown, and what is refused before training."""

from __future__ import annotations

import pytest
import torch

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from triscale.errors import UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.inherited import calibration_images, load_inherited
from triscale.jobs.training.initial_weights import find_initial_weights, read_initial_weights
from triscale.network.cost import cost
from triscale.network.unrolled import unrolled
from triscale.nn.build import build
from triscale.training.recipe import FINETUNE
from triscale.weights.slimming import prunable_widths, unrolled_state, with_widths

FEW = ("--set", "batch=16", "--epochs", 1, "--threads", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("pruned") / "images", 30)


@pytest.fixture(scope="module")
def before(folder, tmp_path_factory):
    """A finished run of a network with batch norms that were trained to be sparse."""
    from triscale.cli.app import main

    out = tmp_path_factory.mktemp("runs") / "before"
    command = ("train", folder, "--network", "mobilenet_v2@32", "--budget", "1M", "--recipe", "small", "--out", out)
    main(list(map(str, (*command, *FEW, "--set", "norm_sparsity=0.001", "--from-scratch"))))
    return RunFolder(out)


def options(before):
    return {"weights": f"prune:{before.folder}", "budget": "600K", "settings": {"min_steps": 10}, "progress": False}


@pytest.fixture(scope="module")
def after(folder, before, tmp_path_factory):
    """The run that starts from the pruned network."""
    out = tmp_path_factory.mktemp("runs") / "after"
    return ts.train(folder, epochs=1, out=out, **options(before))


def test_pruned_network_is_within_the_budget_and_keeps_depth_and_resolution(before, after):
    spec, whole = RunFolder(after.path).spec, before.spec.network
    assert cost(spec.network).macs <= 600_000 < cost(whole).macs
    assert (spec.network.num_blocks, spec.network.size) == (whole.num_blocks, whole.size)
    assert spec.request.start.prunes
    assert spec.request.start.inherits
    assert spec.network.name == f"{whole.name}_pruned"
    assert spec.request.recipe.learning_rate == FINETUNE.learning_rate / 2


def test_run_records_and_its_report_says_what_was_kept(before, after):
    spec = RunFolder(after.path).spec
    assert len(spec.fit.pruned) == len(before.spec.network.stages) + 2
    stem = f"stem: {spec.network.stem.width} of {before.spec.network.stem.width} channels"
    assert spec.fit.pruned[0] == stem
    report = (after.path / "report.html").read_text()
    assert "How it was pruned" in report
    assert stem in report
    assert "How it was scaled" not in report


def test_pruned_run_resumes_and_a_scaled_one_records_nothing_of_pruning(folder, before, after):
    again = ts.train(folder, epochs=1, out=after.path, **options(before))
    assert again.metrics == after.metrics
    assert '"pruned"' not in before.spec_file.read_text()
    assert '"prunes"' not in before.spec_file.read_text()


def test_command_says_what_was_kept_and_show_prints_the_network(capsys, folder, before, tmp_path):
    command = ("fit", folder, "--budget", "600K", "--weights", f"prune:{before.folder}", "--out", tmp_path / "run")
    result = run(capsys, *command, *FEW)
    assert result.code == 0, result.err
    words = " ".join(result.err.split())
    assert "pruned: stage 0:" in words
    assert "the channels that are kept have the weights of" in words
    shown = run(capsys, "show", tmp_path / "run" / "network.json")
    assert f"{before.spec.network.name}_pruned" in shown.out


def test_fitted_weights_of_channels_without_scale_are_removed_without_changing_logits(folder, before):
    """The same fit on training images as in a run leaves alone what nothing is missing from."""
    tensors, network, _ = read_initial_weights(find_initial_weights(str(before.folder)))
    source, state = unrolled(network), unrolled_state(network, tensors)
    for name in [f"stages.{number}.blocks.0.{part}.norm" for number in (3, 5) for part in ("expand", "depthwise")]:
        for kind in ("weight", "bias"):
            state[f"{name}.{kind}"] = state[f"{name}.{kind}"].clone()
            state[f"{name}.{kind}"][:8] = 0
    target = with_widths(source, prunable_widths(source, state), 0.0)
    assert cost(target).params < cost(source).params
    images = calibration_images(before.split, before.spec.preprocessing, 0, torch.device("cpu"))
    heir, original = build(target), build(source)
    load_inherited(heir, source, state, images, keep_head=True, pruned=True)
    original.load_state_dict(state)
    seen = torch.cat(list(images.normalized(64)))
    with torch.no_grad():
        wanted, given = original.eval()(seen), heir.eval()(seen)
    assert (wanted - given).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--budget", "1G"), "there is nothing to prune"),
        (("--budget", "2K"), "cannot be pruned to 2"),
        ((), "prunes to a budget; give one such as --budget 200M"),
        (("--budget", "600K", "--network", "resnet18@32"), "prunes the network of the weights, and resnet18@32"),
        (("--budget", "600K", "--keep-head"), "leave it out, or the prefix prune:"),
        (("--budget", "600K", "--law", "resolution"), "prunes channels instead of scaling by a law"),
    ],
)
def test_what_cannot_be_pruned_is_refused_with_one_sentence(capsys, folder, before, tmp_path, given, words):
    out = tmp_path / "run"
    line = refused(capsys, "train", folder, "--weights", f"prune:{before.folder}", *given, "--out", out, *FEW)
    assert words in " ".join(line.split())
    assert not (out / "run.json").exists()


def test_missing_run_is_named(capsys, folder, tmp_path):
    line = refused(
        capsys, "train", folder, "--weights", "prune:runs/none.pt", "--budget", "1M", "--out", tmp_path / "run"
    )
    assert "runs/none.pt" in line


CUSTOM = """
from torch import nn

def model(classes, width, depth):
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""


def test_custom_model_without_batch_norm_is_refused(folder, tmp_path, monkeypatch):
    (tmp_path / "own_pruned.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    done = ts.train(folder, "own_pruned:model", epochs=1, out=tmp_path / "custom", progress=False, resolution=32)
    with pytest.raises(UserError, match=r"custom models such as .* cannot be pruned"):
        ts.train(folder, weights=f"prune:{done.path}", budget="1K", epochs=1, out=tmp_path / "run", progress=False)
