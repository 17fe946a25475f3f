"""The optimizers of recipes in JAX, with the state names of the torch ones, so that checkpoints fit both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, assert_never

import jax.numpy as jnp
from jax import Array, lax

from triscale.training.recipe import AdamW, Optimizer, RmsProp, Sgd

STEP = "step"
"""Name of AdamW's count of steps, which torch keeps for each parameter."""


class ParameterOptions(NamedTuple):
    """What a parameter group of the torch optimizer says of its parameters."""

    weight_decay: float
    share: float
    is_head: bool


class FlatGroup(NamedTuple):
    """A part of the vector of all parameters, whose options are the same."""

    part: slice
    options: ParameterOptions


class Rates(NamedTuple):
    """The learning rates of a step, as arrays: of the classifier, and of all other parameters."""

    head: Array
    body: Array


OptimizerState = dict[str, Array]
"""By name, such as ``exp_avg``, a vector like that of all parameters; the count of steps is a single number."""


def initial_state(optimizer: Optimizer, size: int) -> OptimizerState:
    """Return the state before the first step, for a number of parameters.

    Example:
        >>> sorted(initial_state(AdamW(), 2))
        ['exp_avg', 'exp_avg_sq', 'step']
    """
    match optimizer:
        case AdamW():
            return {"exp_avg": jnp.zeros(size), "exp_avg_sq": jnp.zeros(size), STEP: jnp.zeros(())}
        case RmsProp():
            # TensorFlow starts the mean square at 1, which damps the first updates.
            return {"square_avg": jnp.ones(size), "momentum_buffer": jnp.zeros(size)}
        case Sgd(momentum=momentum):
            return {"momentum_buffer": jnp.zeros(size)} if momentum else {}
        case _:
            assert_never(optimizer)


def updated(
    optimizer: Optimizer,
    groups: Sequence[FlatGroup],
    params: Array,
    gradients: Array,
    state: OptimizerState,
    rates: Rates,
) -> tuple[Array, OptimizerState]:
    """Return parameters and state after a step.

    Args:
        optimizer: Its kind and settings.
        groups: The parts of the vectors, in order, with weight decay and share of the learning rate.
        params: All parameters.
        gradients: Their gradients.
        state: What :func:`initial_state` or this function returned.
        rates: The learning rates.
    """
    vectors = {name: vector for name, vector in state.items() if name != STEP}
    step = state.get(STEP, jnp.zeros(())) + 1
    results = []
    for part, options in groups:
        rate = (rates.head if options.is_head else rates.body) * options.share
        old = {name: vector[part] for name, vector in vectors.items()}
        results.append(_of_group(optimizer, options.weight_decay, params[part], gradients[part], old, rate, step))
    new = {name: jnp.concatenate([changed[name] for _, changed in results]) for name in vectors}
    return jnp.concatenate([values for values, _ in results]), new | ({STEP: step} if STEP in state else {})


def _of_group(
    optimizer: Optimizer,
    weight_decay: float,
    values: Array,
    gradients: Array,
    old: OptimizerState,
    rate: Array,
    step: Array,
) -> tuple[Array, OptimizerState]:
    match optimizer:
        case AdamW(beta1=beta1, beta2=beta2, eps=eps):
            mean = beta1 * old["exp_avg"] + (1 - beta1) * gradients
            square = beta2 * old["exp_avg_sq"] + (1 - beta2) * gradients * gradients
            # Scalars first: whether XLA moves them out of a division would depend on the number of devices.
            of_root, of_mean = lax.optimization_barrier((1 / jnp.sqrt(1 - beta2**step), rate / (1 - beta1**step)))
            root = jnp.sqrt(square) * of_root + eps
            decayed = values * (1 - rate * weight_decay)
            return decayed - of_mean * mean / root, {"exp_avg": mean, "exp_avg_sq": square}
        case RmsProp(decay=decay, momentum=momentum, eps=eps):
            gradients = gradients + weight_decay * values
            square = decay * old["square_avg"] + (1 - decay) * gradients * gradients
            buffer = momentum * old["momentum_buffer"] + rate * gradients / jnp.sqrt(square + eps)
            return values - buffer, {"square_avg": square, "momentum_buffer": buffer}
        case Sgd(momentum=momentum, nesterov=nesterov):
            gradients = gradients + weight_decay * values
            if not momentum:
                return values - rate * gradients, {}
            buffer = momentum * old["momentum_buffer"] + gradients
            direction = gradients + momentum * buffer if nesterov else buffer
            return values - rate * direction, {"momentum_buffer": buffer}
        case _:
            assert_never(optimizer)
