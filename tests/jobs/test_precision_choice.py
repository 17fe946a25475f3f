"""bfloat16 is chosen once as a run begins on a processor that has it, recorded, and kept when the run resumes."""

from __future__ import annotations

import pytest

from cli.command import run
from conftest import write_classes
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training import precision_choice


@pytest.fixture
def command(tiny_file, tmp_path) -> list[object]:
    images = write_classes(tmp_path / "images", 20)
    out = tmp_path / "run"
    return ["train", images, "--network", tiny_file, "--epochs", 1, "--workers", 0, "--threads", 1, "--out", out]


def train(capsys, monkeypatch, command: list[object], *options: object, has_bfloat16: bool = True):
    monkeypatch.setattr(precision_choice, "is_faster_in_bfloat16", lambda: has_bfloat16)
    done = run(capsys, *command, *options)
    assert done.code == 0, done.err
    return RunFolder(command[-1]).spec.request.recipe.precision, " ".join(done.err.split())


def test_run_records_bfloat16_and_resumes_with_it_elsewhere(capsys, monkeypatch, command):
    precision, notes = train(capsys, monkeypatch, command)
    assert precision == "bfloat16"
    assert precision_choice.NOTE in notes
    weights = RunFolder(command[-1]).weights_file.read_bytes()
    assert train(capsys, monkeypatch, command, has_bfloat16=False)[0] == "bfloat16"
    assert RunFolder(command[-1]).weights_file.read_bytes() == weights


def test_run_without_bfloat16_stays_in_float32(capsys, monkeypatch, command):
    precision, notes = train(capsys, monkeypatch, command, has_bfloat16=False)
    assert precision == "auto"
    assert precision_choice.NOTE not in notes
    # As a run that an earlier version began.
    assert train(capsys, monkeypatch, command)[0] == "auto"


@pytest.mark.parametrize(("setting", "recorded"), [("precision=float32", "float32"), ("quantization=int8", "auto")])
def test_other_settings_keep_their_precision(capsys, monkeypatch, command, setting, recorded):
    precision, notes = train(capsys, monkeypatch, command, "--set", setting)
    assert precision == recorded
    assert precision_choice.NOTE not in notes


def test_bfloat16_run_is_verified_bit_by_bit(capsys, monkeypatch, command):
    train(capsys, monkeypatch, command)
    done = run(capsys, "verify", command[-1])
    assert done.code == 0, done.out + done.err
