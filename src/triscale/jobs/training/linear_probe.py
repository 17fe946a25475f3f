"""A new classifier on weights that were trained before: it begins as a linear probe of their features.

A classifier that chance draws takes many steps to become one, in which it spoils the features below it (Kumar et al.
2022, https://arxiv.org/abs/2202.10054). Twenty images a class give some forty steps. So it is fitted first, by logistic
regression on the features as they are, and all is trained from there.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import nn

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.order import epoch_order
from triscale.data.pipeline.split import Split
from triscale.network.contract import Preprocessing
from triscale.nn.classifier import Classifier

PROBE_IMAGES = 2000
"""Training images that a classifier is fitted to."""
MAX_IMAGES = 20_000
"""Of more training images none is fitted: there are steps enough, and time is better spent on them."""
MIN_OF_CLASS = 2
_ITERATIONS = 1000
_BATCH = 64


def init_head_from_linear_probe(
    model: nn.Module, split: Split, preprocessing: Preprocessing, seed: int, device: torch.device
) -> int | None:
    """Fit the classifier of a model to the features that it has, and return to how many images.

    Args:
        model: with its first weights; it is moved to the device.
        split: whose training images are used, without augmentation, those that come first in the order of the seed.
        preprocessing: how images become input.
        seed: of the training.
        device: where features are computed.

    Returns:
        None where nothing was fitted: a custom module, a set that is large, or too few images of a class.
    """
    if not isinstance(model, Classifier) or len(split.train) > MAX_IMAGES:
        return None
    order = epoch_order(len(split.train), seed, 0)[:PROBE_IMAGES].tolist()
    samples = [split.train[index] for index in order]
    labels = np.array([sample.label for sample in samples])
    if np.bincount(labels, minlength=len(split.classes)).min() < MIN_OF_CLASS:
        return None
    features = []
    model.to(device).eval()
    for batch in eval_batches(samples, split.root, preprocessing, batch=_BATCH):
        maps: list[torch.Tensor] = []
        with torch.inference_mode():
            model(normalize(batch.images.to(device), preprocessing), maps)
        features.append(maps[-1].mean((2, 3)).cpu().double().numpy())
    weight, bias = fit_probe(np.concatenate(features), labels)
    linear = model.head.get_submodule("classifier")
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    return len(samples)


def fit_probe(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight ``[classes, C]`` and bias ``[classes]`` of a logistic regression on features ``[N, C]``.

    Features are standardized first, so that its penalty takes them alike, and the scale is folded into the weight.
    """
    linear: Any = importlib.import_module("sklearn.linear_model")
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    fitted = linear.LogisticRegression(max_iter=_ITERATIONS).fit((features - mean) / deviation, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # Two classes have one row, for the second of them.
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / deviation
    return weight, bias - weight @ mean
