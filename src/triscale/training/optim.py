"""Build the optimizer of a recipe, and save and restore its state by parameter name."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor, nn

from triscale.training.accelerator import has_fused_optimizer
from triscale.training.recipe import AdamW, Recipe, RmsProp, Sgd
from triscale.training.rmsprop import TensorFlowRMSprop
from triscale.training.transfer import levels, shares

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe, with parameter groups for weight decay and layer-wise learning rates.

    Example:
        >>> optimizer = make_optimizer(Recipe(), nn.Linear(2, 2))
        >>> [group["weight_decay"] for group in optimizer.param_groups]  # weights, biases
        [0.05, 0.0]
    """
    norms = {id(p) for module in model.modules() if isinstance(module, BATCH_NORMS) for p in module.parameters()}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def is_decayed(parameter: nn.Parameter) -> bool:
        return id(parameter) not in norms and (recipe.weight_decay_params == "all_but_norm" or parameter.ndim > 1)

    groups = [
        {"params": chosen, "weight_decay": recipe.weight_decay * weight_decay_params, **speed}
        for speed, at_speed in _by_speed(recipe, model)
        for weight_decay_params in (1, 0)
        if (chosen := [p for p in parameters if id(p) in at_speed and is_decayed(p) == bool(weight_decay_params)])
    ]
    rate = recipe.peak_learning_rate
    match recipe.optimizer:
        case AdamW(beta1=beta1, beta2=beta2, eps=eps):
            # On a GPU the fused form keeps its step counts on the device, so that undoing a step does not synchronize.
            on_device = all(has_fused_optimizer(parameter.device) for parameter in parameters)
            return torch.optim.AdamW(groups, lr=rate, betas=(beta1, beta2), eps=eps, fused=on_device or None)
        case RmsProp(decay=decay, momentum=momentum, eps=eps):
            return TensorFlowRMSprop(groups, lr=rate, decay=decay, momentum=momentum, eps=eps)
        case Sgd(momentum=momentum, nesterov=nesterov):
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov and momentum > 0)
        case _:
            assert_never(recipe.optimizer)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float, *, only_head: bool = False) -> None:
    """Set the learning rate of every parameter group.

    Args:
        optimizer: One made by :func:`make_optimizer`.
        rate: The learning rate of the head; other groups get their share of it.
        only_head: Set the learning rate of all groups but the head's to 0.
    """
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if only_head and not group["head"] else rate * group["share"]


def _by_speed(recipe: Recipe, model: nn.Module) -> list[tuple[dict[str, object], set[int]]]:
    """Group parameters by learning rate: each group's options (share, head or not) and parameter ids."""
    named = dict(model.named_parameters())
    if recipe.layer_decay == 1 and recipe.head_epochs == 0:
        return [({"share": 1.0, "head": True}, {id(parameter) for parameter in named.values()})]
    share, ordered = shares(model, recipe), levels(model)
    return [
        ({"share": share[names[0]], "head": number == len(ordered) - 1}, {id(named[name]) for name in names})
        for number, names in enumerate(ordered)
        if names
    ]


def optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's tensors as ``parameter name/state name``."""
    state = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                state[f"{name}/{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return state


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, state: dict[str, Tensor]) -> None:
    """Restore the state that :func:`optimizer_state` returned."""
    parameters = dict(model.named_parameters())
    for path, value in state.items():
        name, key = path.rsplit("/", 1)
        parameter = parameters[name]
        # torch keeps the step counts of unfused optimizers on the CPU.
        on_host = key == "step" and not has_fused_optimizer(parameter.device)
        optimizer.state[parameter][key] = value.clone() if on_host else value.to(parameter.device).clone()
