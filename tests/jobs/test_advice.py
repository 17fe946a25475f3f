"""The report of a weak result says what to try."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from triscale.api.run import Run
from triscale.cli.support.messages import summarize
from triscale.jobs.core.run import RunFolder
from triscale.jobs.reports.advice import advice
from triscale.jobs.reports.run_report import collect_content, write_run_report
from triscale.jobs.training.train import read_history
from triscale.results.data_summary import DataSummary
from triscale.results.explanation import ExplainedImage, ExplainedImages
from triscale.results.history import Epoch
from triscale.results.metrics import GUESSING
from triscale.training.metrics import measure_predictions
from triscale.training.recipe import FINETUNE


@pytest.fixture
def run(trained_run, tmp_path):
    return RunFolder.open(shutil.copytree(trained_run, tmp_path / "run"))


def metrics_of(labels, predicted, names=("blue", "green", "red")):
    logits = np.full((len(labels), len(names)), -5.0, np.float32)
    logits[np.arange(len(labels)), predicted] = 5
    return measure_predictions(logits, np.array(labels), tuple(names), "test")


def epochs(accuracies):
    return tuple(
        Epoch(epoch=n, step=n, learning_rate=0.1, train_loss=1, val_loss=1, val_top1=accuracy, images_per_second=1,
              seconds=1)
        for n, accuracy in enumerate(accuracies, 1)
    )  # fmt: skip


def test_result_near_chance_suggests_pretrained_weights(run):
    spec, data = run.spec, DataSummary.load(run.data_file)
    metrics = metrics_of([0, 1, 2] * 10, [0] * 30)
    assert metrics.majority_share == pytest.approx(1 / 3)
    first, second, *_ = advice(spec, data, (), metrics)
    assert "not distinguishable from guessing: always predicting the most frequent class gives 33.3%" in first
    assert "pretrained weights" in second
    assert "--weights NAME" in second  # the tiny network has no published weights
    named = spec.replace(request=spec.request.replace(network=spec.request.network.replace(name="efficientnet_b0@32")))
    assert "--weights timm/tf_efficientnet_b0.ns_jft_in1k" in advice(named, data, (), metrics)[1]


def test_rising_curve_suggests_more_epochs(run):
    spec = run.spec
    metrics = metrics_of([0, 1, 2] * 30, [0, 1, 2] * 27 + [0] * 9)
    number = spec.request.recipe.epochs
    rising, flat = epochs(np.linspace(0.5, 0.9, number)), epochs([0.9] * number)
    assert f"--epochs {2 * number}" in " ".join(advice(spec, None, rising, metrics))
    assert "--epochs" not in " ".join(advice(spec, None, flat, metrics))
    assert advice(spec, None, rising, metrics_of([0, 1, 2] * 30, [0, 1, 2] * 30)) == ()
    assert advice(spec, None, rising, None) == ()


def test_kept_pretrained_weights_suggest_a_lower_rate(run):
    spec = run.spec.replace(request=run.spec.request.replace(recipe=FINETUNE))
    metrics = metrics_of([0, 1, 2] * 30, [0, 1, 2] * 27 + [0] * 9)
    initial, *later = epochs([0.8, 0.4, 0.7])
    pretrained = (initial.replace(epoch=0), *later)
    (sentence,) = advice(spec, None, pretrained, metrics)
    assert "the best epoch scored 70.0%, the pretrained weights before the first step 80.0%" in sentence
    assert f"--lr {FINETUNE.learning_rate / 4:.3g}" in sentence
    assert advice(spec, None, pretrained[:1], metrics) == ()  # stopped before the first epoch
    assert advice(spec, None, (initial, *later), metrics) == ()  # random weights have no epoch 0
    tied = (*pretrained, later[-1].replace(epoch=4, val_top1=0.8))
    assert advice(spec, None, tied, metrics) == ()  # a tie replaces the pretrained weights


def test_result_like_guessing_is_named_everywhere(run, capsys):
    guessed = metrics_of([0, 1, 2] * 10, [0, 0, 1] * 10)
    assert guessed.better_than_guessing is False
    assert metrics_of([0, 1, 2] * 10, [0, 1, 2] * 10).better_than_guessing is True
    run.maps_folder.mkdir()
    for name in ("image", "overlay"):
        Image.new("RGB", (8, 8)).save(run.maps_folder / f"{name}.png")
    shown = ExplainedImage(
        file="a.png", truth="red", predicted="red", confidence=1, right=True, image="image.png", overlay="overlay.png"
    )
    ExplainedImages(method="exact", images=(shown,)).save(run.maps_file)
    assert collect_content(run).maps
    guessed.save(run.metrics_file)
    content = collect_content(run)
    assert GUESSING in content.verdict
    assert not content.maps
    assert not any(card.overlay for card in content.wrong)
    assert "Class activation maps are left out" in content.advice[0]
    assert GUESSING in repr(Run.open(run.folder))
    summarize(guessed, run.folder, "images")
    assert GUESSING in " ".join(capsys.readouterr().out.split())


def test_missed_class_is_named(run):
    metrics = metrics_of([0, 1] * 40 + [2] * 9, [0, 1] * 40 + [0] * 9)
    assert "No image of red was recognized" in " ".join(advice(run.spec, None, (), metrics))


def test_report_shows_advice_and_chance(run):
    content = collect_content(run)
    assert content.advice == advice(run.spec, DataSummary.load(run.data_file), read_history(run), content.metrics)
    page = write_run_report(run).read_text()
    assert all(sentence[:40] in page for sentence in content.advice)
    assert "most frequent class alone gives 0.333" in page
