"""What the compiled functions of a training step have in common: their plan, their input and their variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from triscale.network.contract import Preprocessing
from triscale.network.tree import Root
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe
from triscale.training.xla.flat import FlatLayout
from triscale.training.xla.mixing import Mixing
from triscale.training.xla.xla_optimizers import FlatGroup, OptimizerState, Rates

STRICT = {"xla_allow_excess_precision": False}
"""Round to bfloat16 wherever the program says so, instead of where operations happen not to be fused."""

AXIS = "data"
"""The only axis of the mesh: micro-batches are distributed along it, everything else is replicated."""


class DeviceState(NamedTuple):
    """Everything that a step changes; what a checkpoint has by name are vectors here.

    Attributes:
        params: All parameters.
        statistics: All running statistics of batch norm.
        average: Moving average of both, one after the other.
        optimizer: State of the optimizer.
        norm_updates: Number of updates of the statistics, int32.
        tally: As in :class:`triscale.training.state.state.State`, float32.
        recent: Likewise.
    """

    params: Array
    statistics: Array
    average: Array
    optimizer: OptimizerState
    norm_updates: Array
    tally: Array
    recent: Array


class DevicePart(NamedTuple):
    """One micro-batch for each of D devices, padded to equal size.

    Attributes:
        images: uint8 ``[D, N, H, W, C]``.
        labels: int32 ``[D, N]``, or ``[D, N, K]`` padded with -1.
        sizes: int32 ``[D]``: how many images of each micro-batch, from the first on, are not padding.
    """

    images: Array
    labels: Array
    sizes: Array


class Numbers(NamedTuple):
    """The numbers of a step: arrays, so that they do not make XLA compile again.

    Attributes:
        step: The step, counted from 0.
        images: Number of images of the batch.
        rates: The learning rates.
        decay: Decay of the moving average.
    """

    step: Array
    images: Array
    rates: Rates
    decay: Array


class Variant(NamedTuple):
    """What XLA compiles separately.

    Attributes:
        frozen_norms: Whether batch norm keeps its running statistics.
        padded: Whether some micro-batches have padding.
        dropout: Factor on the rates of dropout.
        mixing: Mixup and CutMix.
    """

    frozen_norms: bool
    padded: bool
    dropout: float
    mixing: Mixing


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What is the same in all steps of a training.

    Attributes:
        root: The operation tree of the network.
        recipe: How to train.
        objective: What is learned.
        preprocessing: How images become model input.
        classes: Number of classes.
        params: Where each parameter lies in the vector of all.
        statistics: Likewise, of batch norm.
        groups: Parts of the vector of parameters with their options.
        dtype: Type of the operands of convolutions.
        key: Random key of the training.
    """

    root: Root
    recipe: Recipe
    objective: Objective
    preprocessing: Preprocessing
    classes: int
    params: FlatLayout
    statistics: FlatLayout
    groups: tuple[FlatGroup, ...]
    dtype: jnp.dtype
    key: Array
