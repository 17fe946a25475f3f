"""What is different where the first weights were trained before: which layers learn how fast, what batch norm does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from triscale.data.images.transforms import normalize
from triscale.network.contract import Preprocessing
from triscale.network.tree import stage_path
from triscale.nn.build import Classifier
from triscale.results.history import Epoch
from triscale.training.evaluate import LabeledBatch
from triscale.training.recipe import Recipe

REESTIMATED_IMAGES = 2048
"""Training images that the statistics of batch norm are taken from again after an epoch."""


def levels(model: nn.Module) -> list[list[str]]:
    """Return the names of a model's parameters in levels, from the input to the classifier, which is the last.

    Those of a built Network are the stem, each stage, the head's convolution and the classifier; those of a user's
    own module are its children, and the last linear layer for itself.
    """
    last = classifier_name(model)
    found: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name.startswith(f"{last}."):
            continue
        level = stage_path(name) if isinstance(model, Classifier) else name.partition(".")[0]
        found.setdefault(level, []).append(name)
    classifier = [name for name, _ in model.named_parameters() if last and name.startswith(f"{last}.")]
    return [*found.values(), classifier]


def classifier_name(model: nn.Module) -> str:
    """Return the name of the module that gives the logits: of a custom model the last linear layer, or nothing."""
    if isinstance(model, Classifier):
        return "head.classifier"
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else ""


def shares(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """Return for each parameter's name what share of the learning rate it has: 1 at the classifier, less below."""
    ordered = levels(model)
    return {
        name: recipe.layer_decay ** (len(ordered) - 1 - number)
        for number, names in enumerate(ordered)
        for name in names
    }


def freeze_norms(model: nn.Module) -> None:
    """Let batch norm use the statistics that it has, also in training; scale and shift still learn."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@torch.no_grad()
def reestimate_norms(
    model: nn.Module, batches: Iterable[LabeledBatch], preprocessing: Preprocessing, device: torch.device
) -> None:
    """Take the statistics of batch norm again, as their mean over batches, with everything else as in evaluation.

    Args:
        model: in evaluation mode, and again afterwards.
        batches: training images.
        preprocessing: how images become input.
        device: where the model is.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    for batch in batches:
        images: Tensor = normalize(batch.images.to(device), preprocessing)
        model(images.contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def should_stop_early(history: Sequence[Epoch], best: Epoch | None, recipe: Recipe) -> bool:
    """Whether the held-out images have not been judged better for the epochs that the recipe waits for."""
    if recipe.patience is None or best is None or not history:
        return False
    return history[-1].epoch - best.epoch >= recipe.patience
