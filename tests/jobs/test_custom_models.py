"""Custom models in trainings and commands: what is noted before anything is trained."""

from __future__ import annotations

import pytest

from cli.command import refused, run
from conftest import write_classes

SOURCE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, branches):
        super().__init__()
        self.conv, self.linear, self.branches = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, classes), branches

    def forward(self, images):
        maps = self.conv(images)
        if self.branches and images.max().item() > 0:
            maps = maps * 2
        return self.linear(maps.mean((2, 3)))


class FixedSize(Net):
    def forward(self, images):
        assert images.shape[2] == 32, "this model takes 32 pixels"
        return super().forward(images)


def fixed_size(depth, width, classes):
    return FixedSize(classes, branches=False)


def ignoring(depth, width, classes):
    return Net(classes, branches=False)


def branching(depth, width, classes):
    return Net(classes, branches=True)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return write_classes(tmp_path / "images", 12)


def test_ignored_multipliers_are_noted(own, capsys):
    sentence = (
        "depth 2 and width 2 give the same parameters and MACs as 1; does own_models:ignoring use depth and width?"
    )
    scaled = run(capsys, "scale", "own_models:ignoring", "--depth", 2)
    assert (scaled.code, sentence in scaled.out) == (0, True)
    assert sentence in refused(capsys, "scale", "own_models:ignoring", "--budget", "30M params")
    arguments = ("--baseline", "own_models:ignoring", "--budget", "100k", "--epochs", 1, "--out", "run")
    fitted = run(capsys, "fit", own, *arguments)
    assert fitted.code == 0, fitted.err
    assert sentence in fitted.err


def test_model_of_a_fixed_size_does_not_learn_progressively(own, capsys, tmp_path):
    settings = ("--resolution", 32, "--epochs", 2, "--set", "progressive.stages=2", "--out", "run")
    message = refused(capsys, "train", own, "--network", "own_models:fixed_size", *settings)
    assert "own_models:fixed_size cannot be run at depth 1, width 1, 16 px: AssertionError: this model" in message
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.stress
def test_model_of_a_library_is_fitted_trained_and_exported(own, capsys):
    arguments = ("--baseline", "timm:resnet10t", "--budget", "30M", "--epochs", 1, "--out", "run", "--threads", 1)
    fitted = run(capsys, "fit", own, *arguments)
    assert fitted.code == 0, fitted.err
    assert run(capsys, "export", "run").code == 0


def test_model_that_cannot_be_exported_is_named_before_the_training(own, capsys):
    arguments = ("--network", "own_models:branching", "--epochs", 1, "--out", "run")
    trained = run(capsys, "train", own, *arguments)
    assert trained.code == 0, trained.err
    assert "own_models:branching can be trained, but not exported: torch cannot export the model" in trained.err
