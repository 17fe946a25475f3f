"""The training loop: schedule, averages, deterministic steps, valid checkpoints."""

import math
import random
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seeded_training import CONTRACT, feed, same, task
from sizes import figure, size
from triscale.errors import Interrupted, JobError
from triscale.nn.build import build
from triscale.results.history import KeptEpoch, kept_epoch
from triscale.training.context import ExecutionContext
from triscale.training.evaluate import evaluate
from triscale.training.loop import seed_weights, train
from triscale.training.optim import make_optimizer
from triscale.training.recipe import AdamW, Recipe, RmsProp, Sgd
from triscale.training.schedule import ema_decay, learning_rate
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.state.ema import Average
from triscale.training.state.state import new_state, to_tensors
from triscale.training.step import update_if_finite
from triscale.training.task import BatchSource

CPU = torch.device("cpu")


def run(folder, tiny, recipe, stop_after=None, data=None):
    calls = []

    def should_stop() -> bool:
        calls.append(0)
        return stop_after is not None and len(calls) > stop_after

    seed_weights(1)
    checkpoints = Checkpoints(folder)
    context = ExecutionContext(device=CPU, should_stop=should_stop)
    manifest = train(task(build(tiny), recipe), data or feed(), checkpoints, context)
    return manifest, checkpoints


def state(manifest, checkpoints):
    return checkpoints.load(manifest.state_file) | {
        f"best/{name}": value for name, value in checkpoints.load(manifest.best_file).items()
    }


RECIPES = (
    Recipe(epochs=3, batch=8, warmup_epochs=1),
    Recipe(epochs=3, batch=8, optimizer=Sgd(), learning_rate=0.1, micro_batches=2),
    Recipe(epochs=3, batch=8, ema_decay=0.0, label_smoothing=0.0),
)


@pytest.mark.parametrize("recipe", RECIPES, ids=("adamw", "sgd-2-shards", "no-average"))
@pytest.mark.parametrize("stop_after", [0, 1, 4, 6, 11])
def test_stopped_training_resumes_bitwise_identical(tmp_path, tiny, recipe, stop_after):
    whole = state(*run(tmp_path / "whole", tiny, recipe))
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", tiny, recipe, stop_after=stop_after)
    manifest, checkpoints = run(tmp_path / "stopped", tiny, recipe)
    assert same(whole, state(manifest, checkpoints))
    assert manifest.finished
    assert len(manifest.history) == 3


def test_result_depends_only_on_recipe_seed_and_data(tmp_path, tiny):
    one = state(*run(tmp_path / "one", tiny, RECIPES[0]))
    torch.manual_seed(999)
    torch.rand(10)
    other = state(*run(tmp_path / "other", tiny, RECIPES[0]))
    assert same(one, other)
    third = state(*run(tmp_path / "third", tiny, RECIPES[0], data=feed(seed=5)))
    assert not same(one, third)


def test_training_reaches_90_percent(tmp_path, tiny):
    manifest, _ = run(tmp_path, tiny, Recipe(epochs=12, batch=8, learning_rate=1e-2, kept_epoch="highest"))
    assert manifest.history[-1].val_top1 > 0.9
    assert manifest.best is not None
    assert manifest.best.val_top1 == max(epoch.val_top1 for epoch in manifest.history)


@pytest.mark.parametrize("rule", get_args(KeptEpoch))
def test_stored_weights_are_those_of_the_epoch_that_the_rule_keeps(tmp_path, tiny, rule):
    manifest, checkpoints = run(tmp_path, tiny, Recipe(epochs=5, batch=8, learning_rate=0.05, kept_epoch=rule))
    kept = checkpoints.load(manifest.best_file)
    model = build(tiny)
    model.load_state_dict(kept)
    outcome = evaluate(model, feed().val(), CONTRACT, device=torch.device("cpu"))
    assert manifest.best == kept_epoch(manifest.history, len(outcome.labels), rule)
    assert outcome.top1 == manifest.best.val_top1
    assert outcome.loss == pytest.approx(manifest.best.val_loss, rel=1e-6)
    assert (rule != "last") or same(kept, averages(checkpoints.load(manifest.state_file)))


def averages(tensors):
    return {name.removeprefix("average/"): one for name, one in tensors.items() if name.startswith("average/")}


def test_two_latest_checkpoints_and_best_are_kept(tmp_path, tiny):
    manifest, _ = run(tmp_path, tiny, Recipe(epochs=5, batch=8))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:14] for name in names if name.endswith(".json")] == ["step-000000016", "step-000000020"]
    assert len([name for name in names if name.startswith("state-")]) == 2
    assert manifest.best_file.name in names
    assert not [name for name in names if name.endswith(".part")]


DAMAGES = size(60, 3000)


def test_damaged_checkpoint_is_never_loaded(tiny, tmp_path):
    """Flipped bits and truncation at any byte of the newest manifest or its tensors."""
    manifest, checkpoints = run(tmp_path, tiny, Recipe(epochs=2, batch=8), data=feed(steps=1))
    assert checkpoints.newest() == manifest
    (newest,) = tmp_path.glob("step-000000002-*.json")
    chance = random.Random(0)
    for number in range(DAMAGES):
        path = [tmp_path / manifest.state_file.name, newest][number % 2]
        whole = path.read_bytes()
        content = bytearray(whole)
        place = chance.randrange(len(content))
        if chance.random() < 0.5:
            content[place] ^= 1 << chance.randrange(8)
        else:
            del content[place:]
        path.write_bytes(content)
        result = checkpoints.newest()
        assert result is not None
        assert result.step == 1
        assert checkpoints.load(result.state_file)
        path.write_bytes(whole)
    assert checkpoints.newest() == manifest
    figure(3, "damaged checkpoints passed over, the newest good one found", DAMAGES, DAMAGES)


def test_schedule_is_warmup_then_cosine():
    recipe = Recipe(epochs=10, learning_rate=1.0, warmup_epochs=2)
    rates = [learning_rate(recipe, step, 10) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    expected = [(1 + math.cos(math.pi * (step - 20) / 80)) / 2 for step in range(20, 100)]
    assert rates[20:] == pytest.approx(expected)


@given(st.integers(1, 20), st.floats(0, 30), st.integers(1, 50))
@settings(deadline=None)
def test_learning_rate_never_exceeds_peak(epochs, warmup, steps):
    recipe = Recipe(epochs=epochs, learning_rate=0.3, warmup_epochs=warmup)
    rates = [learning_rate(recipe, step, steps) for step in range(epochs * steps)]
    assert all(0 <= rate <= 0.3 * (1 + 1e-12) for rate in rates)
    assert max(rates) > 0.1


def test_weight_average_follows_formula(tiny):
    recipe = Recipe(ema_decay=0.9)
    model = build(tiny)
    average = Average(model)
    name = "stages.1.blocks.0.expand.norm.running_mean"
    expected = model.state_dict()[name].double().numpy().copy()
    for step in range(200):
        with torch.no_grad():
            model.state_dict()[name].normal_()
        average.update(ema_decay(recipe, step))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.state_dict()[name].double().numpy()
    np.testing.assert_allclose(average.model.state_dict()[name].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("optimizer", [Sgd(), Sgd(momentum=0.0), AdamW()])
def test_biases_and_norms_have_no_weight_decay(tiny, optimizer):
    model = build(tiny)
    made = make_optimizer(Recipe(optimizer=optimizer, weight_decay=0.3), model)
    weight_decay_params = {id(p) for group in made.param_groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in weight_decay_params) == (name.endswith("weight") and ".norm." not in name), name


class Poisoned(nn.Module):
    """Gives logits that are not finite for images with a white corner."""

    def __init__(self, model: nn.Module, poison: float) -> None:
        super().__init__()
        self.model, self.poison = model, poison

    def forward(self, images):
        logits = self.model(images)
        white = images[:, 0, 0, 0] > 2.2  # 255, normalized
        return logits * torch.where(white, self.poison, 1.0)[:, None]


def poisoned_feed(bad_steps: set[int]) -> BatchSource:
    clean = feed()

    def batches(epoch: int, first: int):
        for step, batch in enumerate(clean.train(epoch, first), start=first):
            batch.images[:, :, 0, 0] = 0
            if epoch * 4 + step in bad_steps:
                batch.images[0, :, 0, 0] = 255
            yield batch

    return BatchSource(steps_per_epoch=4, count=clean.count, train=batches, val=clean.val)


BAD_STEPS = [0, 3, 5] if size(0, 1) == 0 else list(range(34))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bad", BAD_STEPS)
def test_nonfinite_step_is_undone(tmp_path, tiny, poison, bad):
    states = []
    for stop in (bad, bad + 1):
        calls = []

        def should_stop(stop=stop, calls=calls) -> bool:
            calls.append(0)
            return len(calls) > stop

        seed_weights(1)
        checkpoints = Checkpoints(tmp_path / str(stop))
        with pytest.raises(Interrupted):
            train(
                task(Poisoned(build(tiny), poison), Recipe(epochs=10, batch=8)),
                poisoned_feed({bad}),
                checkpoints,
                ExecutionContext(device=CPU, should_stop=should_stop),
            )
        manifest = checkpoints.newest()
        assert manifest.step == stop
        states.append(checkpoints.load(manifest.state_file))
    before, after = states
    tallies = [before.pop("loss/tally").tolist(), after.pop("loss/tally").tolist()]
    if bad % 4 != 3:  # otherwise the counts restart with the next epoch
        assert tallies[1] == [*tallies[0][:2], tallies[0][2] + 1, 1]
    else:
        assert manifest.history[-1].skipped_steps == 1
    recent = [before.pop("loss/recent"), after.pop("loss/recent")]
    assert torch.equal(*recent) or torch.equal(recent[0].nan_to_num(), recent[1].nan_to_num())
    assert all(torch.isfinite(value).all() for value in after.values())
    for name in before:
        assert torch.equal(before[name], after[name]), name
    figure(6, "a step that is not finite, undone whole", 1, 1)


def test_training_that_is_never_finite_is_an_error(tmp_path, tiny):
    seed_weights(1)
    with pytest.raises(JobError, match="smaller learning rate"):
        train(
            task(Poisoned(build(tiny), math.nan), Recipe(epochs=9, batch=8)),
            poisoned_feed(set(range(36))),
            Checkpoints(tmp_path),
            ExecutionContext(device=CPU),
        )


def test_micro_batch_gradients_sum_to_batch_gradient(tmp_path):
    """Without batch norm and randomness, a step with four micro-batches equals the step of the whole batch."""
    weights = []
    for micro_batches in (1, 4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
        recipe = Recipe(epochs=1, batch=8, optimizer=Sgd(momentum=0.0), micro_batches=micro_batches, warmup_epochs=0)
        checkpoints = Checkpoints(tmp_path / str(micro_batches))
        manifest = train(task(model, recipe), feed(), checkpoints, ExecutionContext(device=CPU))
        weights.append(checkpoints.load(manifest.state_file)["model/1.weight"])
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("mix", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_batches_learn_and_resume_bitwise_identical(tmp_path, tiny, mix):
    recipe = Recipe(epochs=3, batch=8, micro_batches=2, **mix)
    whole = state(*run(tmp_path / "whole", tiny, recipe))
    plain = state(*run(tmp_path / "plain", tiny, Recipe(epochs=3, batch=8, micro_batches=2)))
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", tiny, recipe, stop_after=5)
    assert same(whole, state(*run(tmp_path / "stopped", tiny, recipe)))
    assert not same(whole, plain)


@pytest.mark.parametrize("optimizer", [Sgd(), Sgd(momentum=0.0), AdamW(), RmsProp()])
def test_asynchronous_update_matches_synchronous(tiny, optimizer):
    """The update used on CUDA, run on the CPU: finite steps are taken, others are undone bitwise."""
    recipe = Recipe(optimizer=optimizer)
    states = []
    for waits in (True, False):
        seed_weights(1)
        made = new_state(build(tiny).train(), recipe, CPU)
        for step in range(6):
            generator = torch.Generator().manual_seed(step)
            before = [buffer.clone() for buffer in made.model.buffers()]
            for buffer in made.model.buffers():
                buffer.add_(1)
            bad = step in (2, 3)
            for parameter in made.model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
                if bad:
                    parameter.grad[..., -1] = math.nan
            loss = torch.tensor(math.inf if bad and step == 3 else 5.0)
            if not waits and step > 0:
                update_if_finite(made, before, loss, 8, 0.9)
            elif bad:
                for buffer, old in zip(made.model.buffers(), before, strict=True):
                    buffer.copy_(old)
            else:
                made.optimizer.step()
                made.average.update(0.9)
            made.step += 1
        states.append(to_tensors(made).values)
        if not waits:
            assert made.tally.tolist() == [15.0, 24.0, 2.0, 0.0]
    for name, value in states[0].items():
        if not name.startswith("loss/"):
            assert torch.equal(value, states[1][name]), name
