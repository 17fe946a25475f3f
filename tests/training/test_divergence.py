"""Diverging losses are detected, rolled back and finally reported with the images that caused them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from progress import RecordedNotes
from training.processes import folder_digest
from triscale.data.pipeline.loader import Batch
from triscale.errors import Interrupted, JobError
from triscale.network.contract import Preprocessing
from triscale.training.context import ExecutionContext
from triscale.training.divergence import SPIKE, WINDOW, diverging_since
from triscale.training.loop import seed_weights, train
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe, Sgd
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.task import BatchSource, TrainingTask

STEPS = 50
RECIPE = Recipe(
    epochs=4, batch=16, warmup_epochs=0, optimizer=Sgd(), learning_rate=0.02, weight_decay=0.0, label_smoothing=0.0
)


class Explosive(nn.Module):
    """A linear classifier with a loss and gradient a million times too large for images with a white corner."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Linear(3 * 8 * 8, 3)

    def forward(self, images):
        logits = self.classify(images.flatten(1))
        return logits * torch.where(images[:, 0, 0, 0] > 2.2, -1e6, 1.0)[:, None]


def feed(bad_steps: set[int]) -> BatchSource:
    def batches(epoch: int, first: int):
        for step in range(first, STEPS):
            rng = np.random.default_rng((epoch, step))
            labels = torch.from_numpy(rng.integers(0, 3, 16))
            images = rng.integers(0, 200, (16, 3, 8, 8), dtype=np.uint8)
            images[np.arange(16), labels.numpy()] += 50
            images[:, :, 0, 0] = 255 if epoch * STEPS + step in bad_steps else 0
            yield Batch(torch.from_numpy(images), labels, torch.arange(16))

    return BatchSource(
        steps_per_epoch=STEPS,
        count=lambda step: 16,
        train=batches,
        val=lambda: (batch for batch in list(batches(99, 0))[:2]),
        names=lambda epoch, step: [f"epoch {epoch} step {step} image {index}" for index in range(16)],
    )


def run(folder, bad_steps, stop_after=None):
    recorded, calls = RecordedNotes(), []

    def should_stop() -> bool:
        calls.append(0)
        return stop_after is not None and len(calls) > stop_after

    seed_weights(1)
    task = TrainingTask(
        model=Explosive(),
        recipe=RECIPE,
        preprocessing=Preprocessing(resolution=8),
        classes=3,
        objective=Objective(label_smoothing=RECIPE.label_smoothing),
        network_digest="",
        seed=1,
    )
    context = ExecutionContext(progress=recorded, should_stop=should_stop)
    return train(task, feed(bad_steps), Checkpoints(folder), context), recorded.notes


def test_batch_that_causes_divergence_is_skipped(tmp_path):
    manifest, notes = run(tmp_path, {130})
    (note,) = notes
    assert "epoch 2 step 29 image 0" in note
    assert "back to step 100 (1 of at most 3 times)" in note
    assert 130 in manifest.skipped
    assert len(manifest.skipped) == 2
    assert manifest.history[-1].val_top1 > 0.9
    assert max(epoch.train_loss for epoch in manifest.history) < 2


def test_resume_after_rollback_is_bitwise_identical(tmp_path):
    run(tmp_path / "whole", {130})
    for stop in (125, 150):
        with pytest.raises(Interrupted):
            run(tmp_path / str(stop), {130}, stop_after=stop)
        manifest, _ = run(tmp_path / str(stop), {130})
        assert 130 in manifest.skipped
        assert folder_digest(tmp_path / str(stop)) == folder_digest(tmp_path / "whole")


def test_fourth_divergence_stops_and_lists_images(tmp_path):
    with pytest.raises(JobError, match=r"epoch 3 step \d+ image 0.*smaller learning rate"):
        run(tmp_path, {60, 90, 130, 170})
    assert Checkpoints(tmp_path).newest().rollbacks == 3


@given(st.integers(0, 10_000), st.floats(0.01, 5), st.floats(0, 3), st.integers(SPIKE, WINDOW))
@settings(max_examples=300, deadline=None)
def test_noisy_decreasing_losses_are_not_divergence(seed, start, noise, length):
    """Exponential, heavy-tailed noise around a falling mean."""
    rng = np.random.default_rng(seed)
    mean = start * np.exp(-np.arange(length) / 100)
    losses = mean * (1 + noise * 0.1 * rng.standard_t(4, length).clip(-8, 8))
    assert diverging_since(losses.tolist()) is None


@given(st.integers(0, 10_000), st.integers(SPIKE, 40), st.floats(3, 1e6))
@settings(max_examples=200, deadline=None)
def test_divergence_is_located_at_its_first_step(seed, ago, height):
    rng = np.random.default_rng(seed)
    losses = 1 + 0.1 * rng.normal(size=WINDOW)
    losses[-ago:] += height
    assert diverging_since(losses.tolist()) == ago


def test_single_spikes_and_undone_steps_are_not_divergence():
    losses = [1.0, 1.1] * 60
    assert diverging_since([*losses, 50.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) is None
    assert diverging_since([*losses, *[50.0] * (SPIKE - 1)]) is None
    assert diverging_since([*losses, *[50.0] * (SPIKE - 1), math.nan]) is None
    assert diverging_since([math.nan] * WINDOW) is None
