"""Initialize a new classifier on pretrained features with a linear probe.

With a randomly initialized classifier, the first training steps distort the pretrained features (Kumar et al. 2022,
https://arxiv.org/abs/2202.10054). A small data set cannot repair that: with 20 images per class, a training run has
about 40 steps. Therefore the classifier is first fitted to the frozen features by logistic regression; then the whole
network is trained.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import nn

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches, label_array
from triscale.data.pipeline.order import epoch_order
from triscale.data.pipeline.split import Split
from triscale.network.contract import Preprocessing
from triscale.nn.classifier import Classifier
from triscale.training.multi_label import marks_of

PROBE_IMAGES = 2000
"""Maximum number of training images that the classifier is fitted to."""
MAX_IMAGES = 20_000
"""No probe is fitted for larger data sets: they have enough training steps to make up for a random classifier."""
MIN_OF_CLASS = 2
"""Minimum number of images per class for a probe."""
_ITERATIONS = 1000
_BATCH = 64


def init_head_from_linear_probe(
    model: nn.Module, split: Split, preprocessing: Preprocessing, seed: int, device: torch.device
) -> int | None:
    """Fit the classifier of a model to the model's current features.

    Args:
        model: The model with pretrained weights; it is moved to ``device``.
        split: The split. Its training images are used without augmentation, in the order of the first epoch.
        preprocessing: How images are prepared.
        seed: Seed of the training.
        device: Device that computes the features.

    Returns:
        The number of images that the classifier was fitted to. None if no probe was fitted: for a custom module, a
        large data set, or a class with too few images.
    """
    if not isinstance(model, Classifier) or len(split.train) > MAX_IMAGES:
        return None
    order = epoch_order(len(split.train), seed, 0)[:PROBE_IMAGES].tolist()
    samples = [split.train[index] for index in order]
    labels = label_array(samples)
    if np.bincount(labels[labels >= 0], minlength=len(split.classes)).min() < MIN_OF_CLASS:
        return None
    features = []
    model.to(device).eval()
    for batch in eval_batches(samples, split.root, preprocessing, batch=_BATCH):
        with torch.inference_mode():
            maps = model.forward_features(normalize(batch.images.to(device), preprocessing))
        features.append(maps.mean((2, 3)).cpu().double().numpy())
    rows = np.concatenate(features)
    if labels.ndim > 1:
        weight, bias = fit_label_probes(rows, marks_of(labels, len(split.classes)))
    else:
        weight, bias = fit_probe(rows, labels)
    linear = model.head.get_submodule("classifier")
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    return len(samples)


def fit_label_probes(features: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias of one logistic regression for each label, from features ``[N, C]``.

    Args:
        features: ``[N, C]``.
        marks: Which labels each image has, ``[N, classes]``. A label that all images have keeps a weight of 0.
    """
    weight, bias = np.zeros((marks.shape[1], features.shape[1])), np.zeros(marks.shape[1])
    for label, has in enumerate(marks.T):
        if has.all():
            bias[label] = 4.0
            continue
        both_weight, both_bias = fit_probe(features, has.astype(int))
        weight[label], bias[label] = both_weight[1] - both_weight[0], both_bias[1] - both_bias[0]
    return weight, bias


def fit_probe(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight ``[classes, C]`` and bias ``[classes]`` of a logistic regression on features ``[N, C]``.

    Features are standardized first, so that the L2 penalty treats them equally; the scale is folded into the weight.
    """
    linear: Any = importlib.import_module("sklearn.linear_model")
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    fitted = linear.LogisticRegression(max_iter=_ITERATIONS).fit((features - mean) / deviation, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # For two classes, scikit-learn returns one row, for the second class.
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / deviation
    return weight, bias - weight @ mean
