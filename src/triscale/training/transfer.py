"""Transfer learning: layer-wise learning rates, frozen or reestimated batch-norm statistics, early stopping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from triscale.data.images.transforms import normalize
from triscale.network.contract import Preprocessing
from triscale.network.tree import stage_path
from triscale.nn.classifier import Classifier
from triscale.results.history import Epoch, best_epoch
from triscale.training.evaluate import LabeledBatch
from triscale.training.recipe import Recipe

REESTIMATED_IMAGES = 2048
"""Training images from which batch-norm statistics are reestimated after an epoch."""


def levels(model: nn.Module) -> list[list[str]]:
    """Group the names of a model's trainable parameters into levels, from the input to the classifier.

    The levels of a :class:`~triscale.nn.build.Classifier` are the stem, each stage, the head's convolution and the
    classifier. Those of a custom model are its children, then its last linear layer.

    Example:
        >>> levels(nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2)))
        [['0.weight'], ['2.weight', '2.bias']]
    """
    last = classifier_name(model)
    grouped: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name.startswith(f"{last}."):
            continue
        level = stage_path(name) if isinstance(model, Classifier) else name.partition(".")[0]
        grouped.setdefault(level, []).append(name)
    classifier = [name for name, _ in model.named_parameters() if last and name.startswith(f"{last}.")]
    return [*grouped.values(), classifier]


def classifier_name(model: nn.Module) -> str:
    """Return the name of the module that returns the logits; for a custom model its last linear layer, if any."""
    if isinstance(model, Classifier):
        return "head.classifier"
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else ""


def shares(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """Return each parameter's share of the learning rate by name: 1 for the classifier, less for each level below."""
    ordered = levels(model)
    return {
        name: recipe.layer_decay ** (len(ordered) - 1 - number)
        for number, names in enumerate(ordered)
        for name in names
    }


def freeze_norms(model: nn.Module) -> None:
    """Make batch norm use its running statistics in training too; scale and shift are still trained."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@torch.no_grad()
def add_scale_penalty(model: nn.Module, weight: float) -> None:
    """Add the gradient of an L1 penalty on the scales of batch norm, which drives those of weak channels to zero.

    Source: Liu et al. 2017, https://arxiv.org/abs/1708.06519, equation 1.

    Args:
        model: The model, with gradients.
        weight: Weight of the sum of absolute scales, which is added to the mean loss; 0 for no penalty.
    """
    for module in model.modules() if weight else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight.grad is not None:
            module.weight.grad.add_(module.weight.sign(), alpha=weight)


def has_frozen_norms(recipe: Recipe, step: int, steps: int) -> bool:
    """Return whether batch norm keeps its running statistics in a step.

    Args:
        recipe: The recipe.
        step: The step, counted from 0.
        steps: Number of steps of the training.

    Example:
        >>> recipe = Recipe(norm_statistics="frozen_first")
        >>> [has_frozen_norms(recipe, step, 100) for step in (0, 49, 50)]
        [True, True, False]
    """
    return recipe.norm_statistics == "frozen" or (recipe.norm_statistics == "frozen_first" and 2 * step < steps)


@torch.no_grad()
def reestimate_norms(
    model: nn.Module, batches: Iterable[LabeledBatch], preprocessing: Preprocessing, device: torch.device
) -> None:
    """Recompute batch-norm statistics as their mean over batches, with all other layers in evaluation mode.

    Args:
        model: In evaluation mode, before and after.
        batches: Training images.
        preprocessing: How images become model input.
        device: The model's device.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean instead of a moving average
        norm.train()
    for batch in batches:
        images: Tensor = normalize(batch.images.to(device), preprocessing)
        model(images.contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def should_stop_early(evaluated: Sequence[Epoch], recipe: Recipe) -> bool:
    """Return whether the validation score has not risen for as many epochs as the recipe's ``patience``.

    Args:
        evaluated: Epoch 0, if the weights were pretrained, and the finished epochs.
        recipe: The recipe.
    """
    if recipe.patience is None or not evaluated:
        return False
    return evaluated[-1].epoch - best_epoch(evaluated).epoch >= recipe.patience
