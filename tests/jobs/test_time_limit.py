"""A time limit becomes a concrete number of epochs, which the run records and keeps."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from cli.command import refused, run
from conftest import write_classes
from triscale.api.arguments import as_seconds
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.errors import RecipeError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training import time_limit
from triscale.jobs.training.request import choose_training, make_request
from triscale.jobs.training.settle import Conditions, settle
from triscale.jobs.training.speed import Speed
from triscale.training.context import DEFAULT_CONTEXT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("limit") / "images", 20)


def settled(folder, network, limit, **conditions):
    request = make_request(str(folder), network, recipe=choose_training("small", time_limit=limit))
    return settle(request, make_split(scan(str(folder))), DEFAULT_CONTEXT, Conditions(**conditions))[0].recipe


def test_epochs_follow_from_measured_speed(folder, tiny, monkeypatch):
    speed = Speed(steps=(1.0,) * 5, eval_image=0.01, steps_per_epoch=4, images_per_step=11)
    monkeypatch.setattr(time_limit, "measure_speed", lambda *_, **__: speed)
    short, long = settled(folder, tiny, 60), settled(folder, tiny, 120)
    assert 5 <= short.epochs < long.epochs / 2
    assert settled(folder, tiny, 120, exports=True).epochs < long.epochs
    assert settled(folder, tiny, 120, started=time.monotonic() - 60).epochs < long.epochs / 1.5
    assert settled(folder, tiny, 10**6).epochs == time_limit.MAX_STRETCH * 30
    assert long.min_steps <= long.epochs * speed.steps_per_epoch
    with pytest.raises(RecipeError, match=r"too short: one epoch takes about .* give at least"):
        settled(folder, tiny, 5)


@pytest.mark.stress
def test_run_with_limit_ends_in_time_and_resumes(capsys, folder, tiny_file, tmp_path):
    command = ("train", folder, "--network", tiny_file, "--threads", 1, "--workers", 0, "--recipe", "small")
    command += ("--out", tmp_path / "run", "--time-limit", "12s")
    began = time.monotonic()
    result = run(capsys, *command)
    assert result.code == 0, result.err
    assert "time limit 12 s" in " ".join(result.err.split())
    # Two test workers share two cores; the plan itself is tested above.
    assert time.monotonic() - began < 60
    folder_of_run = RunFolder(tmp_path / "run")
    recipe, chosen = folder_of_run.spec.request.recipe, folder_of_run.spec.request.open
    assert chosen.time_limit == 12
    assert json.loads(folder_of_run.history_file.read_text().splitlines()[-1])["epoch"] == recipe.epochs
    weights = folder_of_run.weights_file.read_bytes()
    assert run(capsys, *command).code == 0
    assert folder_of_run.spec.request.recipe == recipe
    assert folder_of_run.weights_file.read_bytes() == weights
    assert "different request" in refused(capsys, *command[:-1], "20s")


@pytest.mark.stress
def test_killed_run_with_limit_resumes_to_the_weights_of_as_many_epochs(capsys, folder, tiny_file, tmp_path):
    command = ("train", folder, "--network", tiny_file, "--threads", 1, "--workers", 0, "--recipe", "small")
    limited = (*command, "--out", tmp_path / "killed", "--time-limit", "15s")
    run_folder = RunFolder(tmp_path / "killed")
    process = subprocess.Popen([sys.executable, "-m", "triscale", *map(str, limited)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (run_folder.history_file.is_file() and run_folder.history_file.read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=30)
    epochs = run_folder.spec.request.recipe.epochs
    assert not run_folder.weights_file.is_file()
    assert run(capsys, *limited).code == 0
    assert run_folder.spec.request.recipe.epochs == epochs
    assert run(capsys, *command, "--out", tmp_path / "whole", "--epochs", epochs).code == 0
    assert run_folder.weights_file.read_bytes() == RunFolder(tmp_path / "whole").weights_file.read_bytes()


def test_durations_in_python_are_seconds_or_text():
    assert as_seconds("time_limit", "20m") == 1200
    assert as_seconds("time_limit", 90) == 90
    with pytest.raises(UserError, match="more than 0"):
        as_seconds("time_limit", 0)
