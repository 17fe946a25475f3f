"""A student that learns from a finished run, with live or kept logits; bitwise the same after a stop."""

from __future__ import annotations

import json

import pytest
import safetensors.torch

from cli.command import refused, run
from conftest import write_classes
from sizes import stressed
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.speed import STEPS
from triscale.training.distillation import MatchingTeacher

OPTIONS = ("--recipe", "small", "--epochs", 3, "--batch", 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("taught") / "images", 24)


@pytest.mark.parametrize("inputs", ["augmented", *stressed("original")])
def test_student_resumes_bitwise_and_differs_from_an_untaught_one(
    capsys, folder, tiny_file, trained_run, tmp_path, inputs
):
    options = ("--network", tiny_file, "--teacher", trained_run, *OPTIONS,
               "--set", f"distillation.inputs={inputs}", "--set", "distillation.weight=0.9")  # fmt: skip
    assert run(capsys, "train", folder, "--out", tmp_path / "whole", *options).code == 0
    stopped = ("train", folder, "--out", tmp_path / "stopped", *options)
    assert run(capsys, *stopped, "--max-time", "0.05s").code == 143
    assert run(capsys, *stopped, "--workers", 2).code == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    assert run(capsys, "train", folder, "--out", tmp_path / "alone", "--network", tiny_file, *OPTIONS).code == 0
    assert (tmp_path / "alone" / "model.safetensors").read_bytes() != weights[0]
    spec = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert spec["request"]["teacher"]["run"] == str(trained_run.resolve())
    if inputs == "original":
        split = RunFolder(tmp_path / "whole").split
        kept = safetensors.torch.load((tmp_path / "whole" / "teacher.safetensors").read_bytes())["logits"]
        assert tuple(kept.shape) == (len(split.train), 3)


def test_estimate_counts_the_teacher_in_every_step(capsys, folder, tiny_file, trained_run, tmp_path, monkeypatch):
    calls = []
    ask = MatchingTeacher.__call__

    def counted(self, inputs, indices):
        calls.append(len(inputs))
        return ask(self, inputs, indices)

    monkeypatch.setattr(MatchingTeacher, "__call__", counted)
    options = ("--network", tiny_file, "--teacher", trained_run, *OPTIONS, "--dry-run", "--out", tmp_path / "run")
    assert run(capsys, "train", folder, *options).code == 0
    assert len(calls) == STEPS + 1
    assert run(capsys, "train", folder, *options, "--set", "distillation.inputs=original").code == 0
    assert len(calls) == STEPS + 1


def test_unfit_teachers_are_refused_before_anything_is_written(capsys, folder, tiny_file, trained_run, tmp_path):
    other = write_classes(tmp_path / "other", 12)
    (other / "red").rename(other / "pink")
    out = tmp_path / "run"
    message = refused(capsys, "train", other, "--network", tiny_file, "--teacher", trained_run, "--out", out, *OPTIONS)
    assert "must know the 3 classes of the images, but lacks pink" in message
    options = ("--network", tiny_file, "--teacher", trained_run, "--set", "mixup=0.2",
               "--set", "distillation.inputs=original")  # fmt: skip
    assert "mixup and cutmix" in refused(capsys, "train", folder, "--out", out, *OPTIONS, *options)
    assert "holds no run" in refused(capsys, "train", folder, "--network", tiny_file, "--teacher", folder, *OPTIONS)
    assert not out.exists()
