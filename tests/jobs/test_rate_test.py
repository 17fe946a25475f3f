"""``--lr auto``: the rate of a range test is recorded in the run, and a resumed run keeps it."""

from __future__ import annotations

import json

import pytest

from cli.command import refused, run
from conftest import write_classes
from triscale.errors import Interrupted, UserError
from triscale.jobs import fit
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training import prepare
from triscale.jobs.training.request import choose_training
from triscale.training.recipe import SMALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("rate") / "images", 20)


def command(folder, tiny_file, out, *options):
    return (
        *("train", folder, "--network", tiny_file, "--threads", 1, "--workers", 0, "--epochs", 2),
        *("--from-scratch", "--out", out, "--lr", "auto", *options),
    )


def test_found_rate_is_recorded_and_kept_on_resume(capsys, folder, tiny_file, tmp_path, monkeypatch):
    tested, trained = [], fit.train_run

    def stopped(*arguments):
        tested.append(RunFolder(tmp_path / "run").spec.request.recipe.learning_rate)
        raise Interrupted("stopped")

    monkeypatch.setattr(fit, "train_run", stopped)
    first = run(capsys, *command(folder, tiny_file, tmp_path / "run"))
    assert first.code not in (0, 2), first.err
    monkeypatch.setattr(fit, "train_run", trained)

    def fail(*_):
        raise AssertionError("the test was repeated")

    monkeypatch.setattr(prepare, "with_tested_rate", fail)
    again = run(capsys, *command(folder, tiny_file, tmp_path / "run"))
    assert again.code == 0, again.err
    recipe = RunFolder(tmp_path / "run").spec.request.recipe
    assert tested == [recipe.learning_rate]
    text = " ".join(first.err.split())
    assert f"learning rate {recipe.learning_rate:g} and weight decay" in text
    assert recipe.learning_rate * recipe.weight_decay == pytest.approx(SMALL.learning_rate * SMALL.weight_decay, 1e-3)
    other = refused(capsys, *command(folder, tiny_file, tmp_path / "run")[:-1], "0.001")
    assert "different request" in other


def test_range_test_is_reproducible(capsys, folder, tiny_file, tmp_path):
    rates = []
    for name in ("one", "two"):
        assert run(capsys, *command(folder, tiny_file, tmp_path / name)).code == 0
        rates.append(json.loads((tmp_path / name / "run.json").read_text())["request"]["recipe"]["learning_rate"])
    assert rates[0] == rates[1]


def test_rate_is_tested_with_a_named_recipe_and_pretrained_weights(capsys, folder, tiny_file, tmp_path):
    assert run(capsys, *command(folder, tiny_file, tmp_path / "first")).code == 0
    options = ("train", folder, "--weights", tmp_path / "first", "--recipe", "finetune", "--epochs", 1)
    second = run(capsys, *options, "--threads", 1, "--workers", 0, "--lr", "auto", "--out", tmp_path / "second")
    assert second.code == 0, second.err
    assert "by a range test" in " ".join(second.err.split())


def test_auto_and_a_setting_contradict_each_other():
    with pytest.raises(UserError, match="leave it out, or --set learning_rate"):
        choose_training(None, settings=["learning_rate=0.1"], fields={"learning_rate": "auto"})


def test_other_words_are_refused(capsys, folder, tiny_file, tmp_path):
    text = refused(capsys, "train", folder, "--network", tiny_file, "--out", tmp_path / "run", "--lr", "automatic")
    assert "automatic" in text
