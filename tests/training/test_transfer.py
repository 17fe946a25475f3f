"""Fine-tuning: frozen statistics, head-only epochs, layer-wise learning rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seeded_training import CONTRACT, feed, same
from training.test_loop import CPU, run, state
from triscale.data.images.transforms import normalize
from triscale.errors import Interrupted, JobError
from triscale.nn.build import build
from triscale.results.history import best_epoch
from triscale.training.loop import seed_weights
from triscale.training.recipe import Recipe, Sgd
from triscale.training.transfer import add_scale_penalty, levels, reestimate_norms, shares

RECIPES = (
    Recipe(epochs=3, batch=8, norm_statistics="frozen"),
    Recipe(epochs=3, batch=8, norm_statistics="reestimated"),
    Recipe(epochs=3, batch=8, head_epochs=1.5, layer_decay=0.7),
)


@pytest.mark.parametrize("recipe", RECIPES, ids=("frozen", "reestimated", "head first"))
@pytest.mark.parametrize("stop_after", [1, 5, 9])
def test_stopped_training_resumes_bitwise_identical(tmp_path, tiny, recipe, stop_after):
    whole = state(*run(tmp_path / "whole", tiny, recipe))
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", tiny, recipe, stop_after=stop_after)
    assert same(whole, state(*run(tmp_path / "stopped", tiny, recipe)))


def first_weights(tiny):
    seed_weights(1)
    return {f"model/{name}": value for name, value in build(tiny).state_dict().items()}


def moved(tmp_path, tiny, recipe):
    """Return by how much each tensor of the model was moved."""
    before, after = first_weights(tiny), state(*run(tmp_path, tiny, recipe))
    return {
        name.removeprefix("model/"): float((after[name].double() - value.double()).norm())
        for name, value in before.items()
        if value.is_floating_point()
    }


def test_frozen_norm_statistics_are_constant_while_weights_learn(tmp_path, tiny):
    for name, distance in moved(tmp_path, tiny, RECIPES[0]).items():
        assert (distance == 0) == ("running" in name), name


def test_head_is_trained_alone_first(tmp_path, tiny):
    moves = moved(tmp_path, tiny, Recipe(epochs=2, batch=8, head_epochs=2))
    for name, distance in moves.items():
        assert (distance > 0) == name.startswith("head.classifier"), name


def test_learning_rate_decays_with_distance_from_head(tmp_path, tiny):
    """One step of plain gradient descent moves each parameter by the learning rate times its share times its slope."""
    plain = Recipe(
        epochs=1,
        batch=8,
        optimizer=Sgd(momentum=0, nesterov=False),
        weight_decay=0,
        warmup_epochs=0,
        learning_rate=0.01,
    )
    one_step = feed(steps=1)
    before = first_weights(tiny)
    full = state(*run(tmp_path / "full", tiny, plain, data=one_step))
    slower = state(*run(tmp_path / "slower", tiny, plain.model_copy(update={"layer_decay": 0.5}), data=one_step))
    model = build(tiny)
    wanted = shares(model, plain.model_copy(update={"layer_decay": 0.5}))
    assert set(wanted.values()) == {0.5**number for number in range(len(tiny.stages) + 3)}
    assert wanted["head.classifier.weight"] == 1
    assert wanted["stem.conv.weight"] == min(wanted.values())
    for name, share in wanted.items():
        start = before[f"model/{name}"].double()
        step, slow = full[f"model/{name}"].double() - start, slower[f"model/{name}"].double() - start
        assert torch.allclose(slow, share * step, atol=2e-7), name


def test_every_parameter_has_a_level_and_classifier_is_last(tiny):
    for model in (build(tiny), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))):
        ordered = levels(model)
        names = [name for level in ordered for name in level]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        assert all(name.endswith((".weight", ".bias")) for name in ordered[-1])
        assert len(ordered[-1]) == 2


def test_reestimated_statistics_are_means_over_batches(tiny):
    torch.manual_seed(0)
    model = build(tiny).eval()
    batches = [batch for epoch in range(3) for batch in feed().train(epoch, 0)]
    reestimate_norms(model, batches, CONTRACT, CPU)
    # The first batch norm sees the stem's convolution of the images, whatever the others do.
    conv, norm = model.get_submodule("stem.conv"), model.get_submodule("stem.norm")
    with torch.no_grad():
        maps = [conv(normalize(batch.images, CONTRACT)).double() for batch in batches]
    mean = torch.stack([one.mean((0, 2, 3)) for one in maps]).mean(0)
    variance = torch.stack([one.transpose(0, 1).flatten(1).var(1) for one in maps]).mean(0)
    assert torch.allclose(norm.running_mean.double(), mean, atol=1e-5)
    assert torch.allclose(norm.running_var.double(), variance, rtol=1e-4)
    assert not any(module.training for module in model.modules())


def test_early_stopping_ends_training_without_progress(tmp_path, tiny):
    hopeless = Recipe(epochs=40, batch=8, learning_rate=1e-12, patience=3)
    manifest, checkpoints = run(tmp_path, tiny, hopeless)
    assert manifest.finished
    assert len(manifest.history) == best_epoch(manifest.history).epoch + 3 < 40
    again, _ = run(tmp_path, tiny, hopeless)
    assert again == manifest
    assert checkpoints.newest() == manifest


def test_nonfinite_logits_give_clear_error(tmp_path, tiny):
    wild = Recipe(epochs=2, batch=8, learning_rate=1e30, warmup_epochs=0, optimizer=Sgd(), label_smoothing=0)
    with pytest.raises(JobError, match="smaller learning rate"):
        run(tmp_path, tiny, wild)


def test_scale_penalty_has_the_gradient_of_the_sum_of_absolute_scales(tiny):
    torch.manual_seed(0)
    model = build(tiny).eval()  # without dropout
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        norm.weight.data[0] = 0.0
    images = torch.randn(4, 3, 16, 16)
    (model(images).square().mean() + 0.01 * sum(norm.weight.abs().sum() for norm in norms)).backward()
    wanted = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    model(images).square().mean().backward()
    add_scale_penalty(model, 0.01)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, wanted[name])


def test_sparsity_shrinks_the_scales_of_batch_norm(tmp_path, tiny):
    def scales(weight):
        recipe = Recipe(epochs=3, batch=8, optimizer=Sgd(), learning_rate=0.05, ema_decay=0.0, norm_sparsity=weight)
        final = state(*run(tmp_path / str(weight), tiny, recipe))
        return sum(value.abs().sum() for name, value in final.items() if name.endswith("norm.weight"))

    assert scales(0.05) < 0.97 * scales(0.0)
