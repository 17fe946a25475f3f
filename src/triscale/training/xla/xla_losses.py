"""The losses of an objective in JAX, for each image; :mod:`triscale.training.losses` has the same for torch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from triscale.training.objective import Asymmetric, CrossEntropy, Focal, Objective


def targets_of(labels: Array, classes: int) -> Array:
    """Return targets ``[N, classes]`` of zeros and ones from labels ``[N]``, or ``[N, K]`` padded with -1.

    Example:
        >>> targets_of(jnp.array([[0, 2], [1, -1]]), 3).tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    shares = jax.nn.one_hot(labels, classes)  # all zeros for -1
    return shares if labels.ndim == 1 else shares.max(1)


def losses_of(objective: Objective, logits: Array, targets: Array) -> Array:
    """Return the loss of each image.

    Args:
        objective: Gives loss, weights and label smoothing.
        logits: ``[N, classes]``.
        targets: ``[N, classes]``: probabilities of the classes, or of each label.

    Returns:
        ``[N]``.

    Example:
        >>> losses_of(Objective(), jnp.zeros((1, 4)), targets_of(jnp.array([0]), 4)).round(4).tolist()
        [1.3863]
    """
    if objective.offsets is not None:
        logits = logits + jnp.array(objective.offsets)
    weights = jnp.ones(logits.shape[1]) if objective.class_weights is None else jnp.array(objective.class_weights)
    if objective.multi_label:
        return _over_labels(objective, logits, targets, weights)
    smoothing, loss = objective.label_smoothing, objective.loss
    shares = targets * (1 - smoothing) + smoothing / logits.shape[1]
    log_p = jax.nn.log_softmax(logits)
    terms = -shares * log_p * weights
    if isinstance(loss, Focal):
        terms = terms * _power(1 - jnp.exp(log_p), loss.gamma)
    return terms.sum(1)


def _over_labels(objective: Objective, logits: Array, targets: Array, weights: Array) -> Array:
    loss, p = objective.loss, jax.nn.sigmoid(logits)
    log_present, log_absent = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    present = absent = 0.0
    if isinstance(loss, Focal):
        present = absent = loss.gamma
    elif isinstance(loss, Asymmetric):
        present, absent = loss.gamma_present, loss.gamma_absent
        if loss.margin > 0:
            p = jnp.maximum(p - loss.margin, 0)
            log_absent = jnp.log1p(-p)
    else:
        assert isinstance(loss, CrossEntropy)
    positive = targets * _power(1 - jax.nn.sigmoid(logits), present) * log_present * weights
    return -(positive + (1 - targets) * _power(p, absent) * log_absent).sum(1)


def _power(base: Array, exponent: float) -> Array:
    """Return ``base ** exponent`` with a finite gradient where the base is 0."""
    return jnp.ones_like(base) if exponent == 0 else jnp.maximum(base, 1e-8) ** exponent
