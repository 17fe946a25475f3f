"""The transfer table end to end, on tiny copies of the eight datasets in their original layouts."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cli.command import refused, run
from conftest import write_classes
from data.test_named import MADE
from triscale.cli import main
from triscale.data.pipeline.split import Split
from triscale.errors import Interrupted
from triscale.jobs.core.run import RunFolder
from triscale.jobs.transfer.datasets import PAPER, find_sets
from triscale.jobs.transfer.protocol import (
    PROTOCOL_LEARNING_RATES,
    PROTOCOL_WEIGHT_DECAYS,
    TransferRequest,
    TransferTable,
)
from triscale.jobs.transfer.table import make_table
from triscale.training.context import ExecutionContext
from triscale.training.state.checkpoint import Checkpoints

GRID = ("--learning-rates", "0.05", "--weight-decays", "0")
QUICK = ("--set", "batch=8", "--set", "val_share=0.25", "--threads", 1)
SMALL = (*QUICK, "--epochs", 1)
LONGER = (*QUICK, "--epochs", 4)
OPTIONS = ("--learning-rates", "0.1,0.00001", "--weight-decays", "0,0.0001", "--seeds", "3,4", *LONGER)


@pytest.fixture(scope="module")
def weights(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with the initial weights."""
    folder = tmp_path_factory.mktemp("pretrained")
    images = write_classes(folder / "images", 12)
    arguments = ("--network", tiny_file, "--epochs", "1", "--batch", "8", "--out", folder / "run", "--threads", "1")
    main([str(word) for word in ("train", images, *arguments)])
    return folder / "run"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of all eight datasets."""
    folder = tmp_path_factory.mktemp("copies")
    for name in PAPER:
        MADE[name][0](folder / name)
    return folder


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("colors") / "images", 20, seed=5)


def table_of(out: Path) -> TransferTable:
    return TransferTable.load(out / "table.json")


@pytest.mark.stress
def test_eight_datasets_give_table_like_paper(capsys, data, weights, tmp_path):
    out = tmp_path / "out"
    arguments = ("transfer-table", "--data", data, "--weights", weights, "--out", out, *GRID, *SMALL, "--allow-leak")
    result = run(capsys, *arguments)
    assert result.code == 0, result.err
    made = table_of(out)
    assert [row.name for row in made.rows] == list(PAPER)
    for row in made.rows:
        _, train, test, classes = MADE[row.name]
        assert (row.train, row.test, row.classes) == (train, test, classes)
        assert row.title in result.out
        assert not row.official
        assert f"{row.paper:.1%}" in result.out
    assert made.missing == ()
    by_class = {row.name for row in made.rows if row.metric == "mean_class_accuracy"}
    assert by_class == {"flowers102", "fgvc_aircraft", "oxford_iiit_pet"}
    for row in made.rows:
        final = RunFolder.open(out / row.name / "final" / "seed-0")
        predictions = [line.split(",") for line in final.predictions_file.read_text().splitlines()[1:]]
        truth, predicted = [line[1] for line in predictions], [line[2] for line in predictions]
        judge = balanced_accuracy_score if row.name in by_class else accuracy_score
        assert row.score == pytest.approx(judge(truth, predicted))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = json.loads(run(capsys, *arguments, "--json").out)
    assert again == json.loads((out / "table.json").read_text())
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def ended(colors: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of one custom dataset with a grid of four settings and two seeds."""
    out = tmp_path_factory.mktemp("table") / "out"
    main(
        [
            str(word)
            for word in ("transfer-table", "--sets", f"own={colors}", "--weights", weights, "--out", out, *OPTIONS)
        ]
    )
    return out


def test_best_validation_setting_is_retrained_on_all_images(ended):
    (row,) = table_of(ended).rows
    assert len(row.tried) == 4
    assert row.chosen.score == max(one.score for one in row.tried)
    assert row.chosen.learning_rate == 0.00001
    assert row.chosen == next(one for one in row.tried if one.score == row.chosen.score)  # ties: the first
    assert min(one.score for one in row.tried) < row.chosen.score
    described = Split.load(ended / "own" / "set" / "split.json")
    for seed in (3, 4):
        final = RunFolder.open(ended / "own" / "final" / f"seed-{seed}")
        assert final.spec.request.seed == seed
        assert final.spec.request.recipe.learning_rate == row.chosen.learning_rate
        assert set(final.split.train) == {*described.train, *described.val}
        assert final.split.test == described.test
        assert not set(final.split.train) & set(final.split.test)
        assert final.report_file.is_file()
    for run_folder in (ended / "own" / "grid").iterdir():
        assert RunFolder.open(run_folder).split == described
        assert RunFolder.open(run_folder).spec.request.seed == 3
    assert (row.train, row.test) == (len(described.train) + len(described.val), len(described.test))


def test_score_and_spread_are_computed_over_seeds(ended):
    (row,) = table_of(ended).rows
    tops = [json.loads((ended / f"own/final/seed-{seed}/metrics.json").read_text())["top1"] for seed in (3, 4)]
    assert row.scores == tuple(tops)
    assert row.score == pytest.approx(np.mean(tops))
    assert row.spread == pytest.approx(np.std(tops, ddof=1))
    assert (row.paper, row.official) == (None, False)


def test_weight_decay_per_step_is_independent_of_learning_rate(ended):
    for folder in (ended / "own" / "grid").iterdir():
        recipe = RunFolder.open(folder).spec.request.recipe
        decay = 0 if folder.name.endswith("-decay-0") else 1e-4
        assert math.isclose(recipe.weight_decay * recipe.learning_rate, decay, abs_tol=1e-12)
        assert recipe.norm_momentum == 0.1


def test_last_weights_are_kept_not_best_epoch(ended):
    final = RunFolder.open(ended / "own" / "final" / "seed-3")
    checkpoints = Checkpoints(final.checkpoints)
    manifest = checkpoints.newest()
    tensors = checkpoints.load(manifest.state_file)
    for name, value in final.model().state_dict().items():
        assert torch.equal(value, tensors[f"model/{name}"])  # the recipe has no average
    assert manifest.step == manifest.history[-1].step


def test_protocol_grid_matches_source_paper():
    assert np.allclose(PROTOCOL_LEARNING_RATES, np.logspace(-4, -1, 7))
    assert np.allclose(PROTOCOL_WEIGHT_DECAYS, [0, *np.logspace(-6, -3, 7)])


@pytest.mark.stress
def test_repeated_interruptions_give_same_table_and_weights(colors, ended, tmp_path):
    out = tmp_path / "out"
    study = TransferRequest.load(ended / "transfer.json")
    (source,), _ = find_sets([f"own={colors}"], None)
    polls = stops = 0

    def should_stop() -> bool:
        nonlocal polls
        polls += 1
        return polls % 37 == 0

    while not (out / "table.json").is_file():
        try:
            make_table(study, [source], [], out, ExecutionContext(device=torch.device("cpu"), should_stop=should_stop))
        except Interrupted:
            stops += 1
            assert not (out / "table.json").is_file()
    assert stops > 2
    assert table_of(out) == table_of(ended)
    for seed in (3, 4):
        name = f"own/final/seed-{seed}/model.safetensors"
        assert (out / name).read_bytes() == (ended / name).read_bytes()


@pytest.mark.stress
def test_datasets_can_be_added_but_settings_are_fixed(capsys, colors, data, ended, weights, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(ended, out)
    words = ("transfer-table", "--weights", weights, "--out", out, "--allow-leak")
    sets = f"own={colors},flowers102:{data / 'flowers102'},birdsnap"
    result = run(capsys, *words, *OPTIONS, "--sets", sets)
    assert result.code == 0, result.err
    made = table_of(out)
    assert [row.name for row in made.rows] == ["own", "flowers102"]
    assert made.rows[0] == table_of(ended).rows[0]
    assert [missing.name for missing in made.missing] == ["birdsnap"]
    assert "no local copy: Birdsnap" in result.out
    assert "with a different request" in refused(capsys, *words, *GRID, *LONGER, "--sets", f"own={colors}")


def test_share_limits_training_images(capsys, colors, weights, tmp_path):
    words = ("transfer-table", "--sets", f"own={colors}", "--weights", weights, "--out", tmp_path / "out", *SMALL)
    assert run(capsys, *words, *GRID, "--share", 0.5).code == 0
    (row,) = table_of(tmp_path / "out").rows
    whole = Split.load(tmp_path / "out/own/set/split.json")
    assert row.train == pytest.approx((len(whole.train) + len(whole.val)) / 2, abs=3)
    assert row.test == len(whole.test)


@pytest.mark.stress
def test_steps_are_rounded_up_to_whole_epochs(colors, ended, tmp_path):
    some = {"steps": 11, "learning_rates": (0.1,), "weight_decays": (0.0,), "seeds": (0,)}
    study = TransferRequest.load(ended / "transfer.json").model_copy(update=some)
    (source,), _ = find_sets([f"own={colors}"], None)
    make_table(study, [source], [], tmp_path / "out", ExecutionContext(device=torch.device("cpu")))
    for folder in ("grid/rate-0.1-decay-0", "final/seed-0"):
        trained = RunFolder.open(tmp_path / "out" / "own" / folder)
        steps_per_epoch = math.ceil(len(trained.split.train) / 8)
        last = json.loads(trained.history_file.read_text().splitlines()[-1])["step"]
        assert 11 <= last < 11 + steps_per_epoch


@pytest.mark.stress
def test_diverging_learning_rate_loses_and_is_reported(capsys, colors, weights, tmp_path):
    words = ("transfer-table", "--sets", f"own={colors}", "--weights", weights, "--out", tmp_path / "out", *QUICK)
    options = ("--learning-rates", "0.05,1e30", "--weight-decays", "0", "--epochs", 2, "--set", "batch=1")
    result = run(capsys, *words, *options)
    assert result.code == 0, result.err
    (row,) = table_of(tmp_path / "out").rows
    assert row.chosen.learning_rate == 0.05
    assert "the training failed" in result.err


def test_invalid_requests_are_rejected_before_training(capsys, colors, data, weights, tmp_path):
    out = tmp_path / "out"
    words = ("transfer-table", "--weights", weights, "--out", out)
    (tmp_path / "empty").mkdir()
    message = refused(capsys, *words, "--data", tmp_path / "empty")
    assert "there is no local copy of any data set" in message
    assert str(tmp_path / "empty" / "flowers102") in message
    assert "robots.ox.ac.uk" in message
    assert "does not exist" in refused(capsys, *words, "--data", tmp_path / "nothing")
    assert "did you mean flowers102" in refused(capsys, *words, "--data", data, "--sets", "flowers10")
    assert "given twice" in refused(capsys, *words, "--data", data, "--sets", "cifar10,cifar10")
    assert "expected NAME=FOLDER" in refused(capsys, *words, "--sets", "../up=somewhere")
    assert "there is no folder" in refused(capsys, *words, "--sets", f"own={tmp_path / 'nothing'}")
    shutil.rmtree(out)
    own = ("--sets", f"own={colors}")
    assert "give numbers, such as" in refused(capsys, *words, *own, "--learning-rates", "fast")
    assert "contains a number twice" in refused(capsys, *words, *own, "--learning-rates", "0.1,.1")
    assert "whole numbers" in refused(capsys, *words, *own, "--seeds", "0.5")
    assert "--learning-rates" in refused(capsys, *words, *own, "--set", "learning_rate=1")
    assert "patience" in refused(capsys, *words, *own, "--set", "patience=2")
    assert "contradicts --epochs 3" in refused(capsys, *words, *own, "--protocol", "--epochs", 3)
    assert "do not fit" in refused(capsys, *words, *own, "--network", "mobilenet_v2")
    shutil.rmtree(out)
    assert "inside the image folder" in refused(capsys, *words[:3], "--out", colors / "out", *own)
    inside = data / "flowers102" / "out"
    assert "inside the image folder" in refused(
        capsys, *words[:3], "--out", inside, "--data", data, "--sets", "flowers102"
    )
    out.mkdir()
    (out / "letter.txt").write_text("mine")
    assert "holds no transfer table" in refused(capsys, *words, *own)


def test_torchvision_dataset_folders_are_found(capsys, weights, tmp_path):
    MADE["food101"][0](tmp_path / "data" / "food-101")
    arguments = ("--data", tmp_path / "data", "--weights", weights, "--out", tmp_path / "out", *GRID, *SMALL)
    result = run(capsys, "transfer-table", *arguments, "--allow-leak")
    assert result.code == 0, result.err
    made = table_of(tmp_path / "out")
    assert [row.name for row in made.rows] == ["food101"]
    assert len(made.missing) == 7
