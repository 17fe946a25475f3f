"""Pretrained weights are judged like an epoch: training never ends with weights that validate worse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seeded_training import CONTRACT, feed, same, task
from triscale.errors import Interrupted
from triscale.nn.build import build
from triscale.training import loop
from triscale.training.context import ExecutionContext
from triscale.training.evaluate import evaluate
from triscale.training.loop import seed_weights, train
from triscale.training.recipe import Recipe, Sgd
from triscale.training.state.checkpoint import Checkpoints

CPU = torch.device("cpu")
GOOD = Recipe(epochs=12, batch=8, warmup_epochs=1)
HARMFUL = Recipe(epochs=2, batch=8, warmup_epochs=0, optimizer=Sgd(momentum=0.0), learning_rate=5.0, ema_decay=0.0)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny):
    """Weights that classify most of the images."""
    return trained(tmp_path_factory.mktemp("good"), tiny, GOOD)


def trained(folder, tiny, recipe, start=None, stop_after=None):
    """Return the manifest and the best weights."""
    polls = iter(range(10**9))
    seed_weights(1)
    model = build(tiny)
    if start is not None:
        model.load_state_dict(start[1])
    pretrained = replace(task(model, recipe), is_pretrained=start is not None)
    checkpoints = Checkpoints(folder)
    context = ExecutionContext(device=CPU, should_stop=lambda: stop_after is not None and next(polls) >= stop_after)
    manifest = train(pretrained, feed(), checkpoints, context)
    return manifest, checkpoints.load(manifest.best_file)


def test_pretrained_weights_are_kept_if_no_epoch_is_better(tmp_path, tiny, learned):
    manifest, best = trained(tmp_path, tiny, HARMFUL, start=learned)
    assert manifest.best == manifest.initial
    assert manifest.best.epoch == manifest.best.step == 0
    assert len(manifest.history) == 2
    assert all(epoch.val_score < manifest.initial.val_score for epoch in manifest.history)
    assert same(best, learned[1])


def test_epoch_zero_is_the_evaluation_of_the_pretrained_weights(tmp_path, tiny, learned):
    manifest, _ = trained(tmp_path, tiny, HARMFUL, start=learned)
    model = build(tiny)
    model.load_state_dict(learned[1])
    outcome = evaluate(model.eval(), feed().val(), CONTRACT, device=CPU)
    assert manifest.initial.val_top1 == outcome.top1
    assert manifest.initial.val_loss == pytest.approx(outcome.loss, rel=1e-6)
    assert manifest.initial.train_loss is None


def test_better_epoch_replaces_pretrained_weights(tmp_path, tiny, learned):
    worse = {name: value if "classifier" not in name else value * 0 for name, value in learned[1].items()}
    manifest, best = trained(tmp_path, tiny, GOOD, start=(None, worse))
    assert manifest.best.epoch > 0
    assert manifest.best.val_score >= manifest.initial.val_score
    assert not same(best, worse)


def test_random_weights_are_not_judged(learned):
    assert learned[0].initial is None
    assert learned[0].best.epoch > 0


@pytest.mark.parametrize("stop_after", [0, 1, 4, 5, 7])
def test_stopped_training_keeps_epoch_zero(tmp_path, tiny, learned, stop_after):
    whole = trained(tmp_path / "whole", tiny, HARMFUL, start=learned)
    with pytest.raises(Interrupted):
        trained(tmp_path / "stopped", tiny, HARMFUL, start=learned, stop_after=stop_after)
    resumed = trained(tmp_path / "stopped", tiny, HARMFUL, start=learned)
    assert (resumed[0].initial, resumed[0].best) == (whole[0].initial, whole[0].best)
    assert same(resumed[1], whole[1])


def test_rollback_to_the_start_keeps_epoch_zero(tmp_path, tiny, learned, monkeypatch):
    """The first checkpoint is from before the evaluation of the pretrained weights."""
    seen = iter([None, None, 1])  # the losses diverge once, in the first epoch
    monkeypatch.setattr(loop, "diverging_since", lambda losses: next(seen, None))
    manifest, best = trained(tmp_path, tiny, HARMFUL, start=learned)
    assert manifest.rollbacks == 1
    assert manifest.best == manifest.initial
    assert same(best, learned[1])
