"""The published recipe, step by step, against a float64 reference written from the formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from triscale.training.optim import make_optimizer, optimizer_state, restore_optimizer, set_learning_rate
from triscale.training.recipe import EFFICIENTNET_IMAGENET, Recipe, RmsProp
from triscale.training.schedule import ema_decay, learning_rate
from triscale.training.state.ema import Average

STEPS = 200
STEPS_PER_EPOCH = 8  # so that 200 steps cover warm-up and several decay steps


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()


def reference_rate(step: int) -> float:
    epoch = step / STEPS_PER_EPOCH
    peak = 0.016 * 4096 / 256
    return peak * epoch / 5 if epoch < 5 else peak * 0.97 ** math.floor(epoch / 2.4)


def test_peak_learning_rate_matches_paper():
    assert EFFICIENTNET_IMAGENET.peak_learning_rate == pytest.approx(0.256)
    half = Recipe.parse(
        {name: getattr(EFFICIENTNET_IMAGENET, name) for name in Recipe.model_fields} | {"batch": 2048}, "test"
    )
    assert half.peak_learning_rate == pytest.approx(0.128)


def test_optimizer_schedule_and_average_match_numpy_for_200_steps():
    recipe = EFFICIENTNET_IMAGENET
    model = module()
    average = Average(model)
    optimizer = make_optimizer(recipe, model)
    named = dict(model.named_parameters())
    value = {name: p.detach().numpy().copy() for name, p in named.items()}
    square = {name: np.ones_like(v) for name, v in value.items()}
    buffer = {name: np.zeros_like(v) for name, v in value.items()}
    mean = {name: v.copy() for name, v in value.items()}
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        rate = learning_rate(recipe, step, STEPS_PER_EPOCH)
        assert rate == pytest.approx(reference_rate(step), rel=1e-12)
        set_learning_rate(optimizer, rate)
        for name, parameter in named.items():
            gradient = rng.normal(0, 0.1 * (1 + step % 7), parameter.shape)
            parameter.grad = torch.from_numpy(gradient.copy())
            if not name.startswith("1."):  # all but batch norm, biases too
                gradient = gradient + 1e-5 * value[name]
            square[name] = 0.9 * square[name] + 0.1 * gradient**2
            buffer[name] = 0.9 * buffer[name] + rate * gradient / np.sqrt(square[name] + 1e-3)
            value[name] -= buffer[name]
        optimizer.step()
        decay = min(0.9999, (1 + step) / (10 + step))
        average.update(ema_decay(recipe, step))
        for name, parameter in value.items():
            mean[name] = decay * mean[name] + (1 - decay) * parameter
    for name, parameter in named.items():
        np.testing.assert_allclose(parameter.detach().numpy(), value[name], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(average.model.state_dict()[name].numpy(), mean[name], rtol=1e-9, atol=1e-12)


def test_rmsprop_differs_from_torch():
    """PyTorch's RMSprop differs: after three equal gradients the weights differ by more than 1."""
    ours, theirs = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    recipe = Recipe(optimizer=RmsProp(), learning_rate=0.256, weight_decay=0.0)
    holder = nn.Module()
    holder.weight = ours
    one = make_optimizer(recipe, holder)
    other = torch.optim.RMSprop([theirs], lr=0.256, alpha=0.9, eps=1e-3, momentum=0.9)
    for _ in range(3):
        ours.grad, theirs.grad = torch.ones(1), torch.ones(1)
        one.step()
        other.step()
    assert abs(float(ours.detach()) - float(theirs.detach())) > 1.0


def test_optimizer_state_round_trips():
    recipe = EFFICIENTNET_IMAGENET
    model, again = module(), module()
    one, other = make_optimizer(recipe, model), make_optimizer(recipe, again)
    for step in range(6):
        if step == 3:
            again.load_state_dict(model.state_dict())
            restore_optimizer(other, again, optimizer_state(one, model))
        for optimizer, target in ((one, model), (other, again)):
            generator = torch.Generator().manual_seed(step)
            for parameter in target.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if optimizer is one or step >= 3:
                optimizer.step()
    for left, right in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


def test_recipe_values_match_publication():
    recipe = EFFICIENTNET_IMAGENET
    assert (recipe.epochs, recipe.warmup_epochs, recipe.label_smoothing, recipe.ema_decay) == (350, 5, 0.1, 0.9999)
    assert (recipe.weight_decay, recipe.weight_decay_params) == (1e-5, "all_but_norm")
    assert recipe.augmentation.crop_area == (0.08, 1.0)
    assert recipe.augmentation.policy == "autoaugment_v0"
    assert [round(recipe.crop_at(size), 3) for size in (224, 380, 600)] == [0.875, 0.922, 0.949]
