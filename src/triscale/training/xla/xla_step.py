r"""One training step as compiled functions of the state, the batch and a few numbers, on a mesh of devices.

Each device computes its micro-batches one after the other. Their gradients, updated batch-norm statistics and losses
are summed along the tree of :mod:`triscale.training.distributed.micro_batches`, which does not depend on the number of
devices:

::

    micro-batches    0   1   2   3
    device 0         0 + 1   |   |      summed on the device
    device 1                 2 + 3
    all devices    (0 + 1) + (2 + 3)    gathered, then summed by every device alike

Every device then updates its own copy of the state, with equal results. Nothing in a step waits for the host.

A step is three kinds of compiled functions: of one micro-batch on each device, called once for each; of their sum; and
of the update. In one function, how the compiler fuses the parts, hence how they round, would depend on the number of
devices. A loop over micro-batches inside of the function would do, but XLA computes convolutions in loops 20 times as
slowly on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from triscale.network.contract import Preprocessing
from triscale.network.tree import Root
from triscale.training.divergence import WINDOW
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe
from triscale.training.xla.flat import FlatLayout
from triscale.training.xla.mixing import Mixing, mixed
from triscale.training.xla.xla_losses import losses_of, targets_of
from triscale.training.xla.xla_optimizers import FlatGroup, OptimizerState, Rates, updated
from triscale.xla.classify import Pass, classify

_STRICT = {"xla_allow_excess_precision": False}
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


class BatchResult(NamedTuple):
    """What the forward and backward pass of a whole batch gives, on every device.

    Attributes:
        gradients: Of the mean loss, for all parameters.
        statistics: Running statistics of batch norm, averaged over micro-batches.
        losses: Of each image, ``[V, N]``; 0 for padding.
    """

    gradients: Array
    statistics: Array
    losses: Array


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


CompiledStep = Callable[[DeviceState, Sequence[DevicePart], Numbers], DeviceState]


def compile_step(plan: StepPlan, mesh: Mesh, variant: Variant) -> CompiledStep:
    """Return the function of a step; it reuses the memory of the state that it is given.

    It takes the micro-batches of every device in order. A step with a non-finite loss or gradient leaves parameters,
    statistics, average and optimizer as they were.
    """
    everywhere, divided = PartitionSpec(), PartitionSpec(AXIS)
    each = plan.recipe.micro_batches // mesh.size
    # check_vma=False: gradients of replicated parameters stay local, since their sum has a fixed order.
    of_micro_batch = jax.shard_map(
        partial(_micro_batch, plan, variant, each),
        mesh=mesh,
        in_specs=(everywhere, everywhere, divided, everywhere, everywhere),
        out_specs=divided,
        check_vma=False,
    )
    summed = jax.shard_map(
        partial(_summed, plan, mesh.size), mesh=mesh, in_specs=divided, out_specs=everywhere, check_vma=False
    )
    compute = jax.jit(of_micro_batch, compiler_options=_STRICT)
    add = jax.jit(summed, compiler_options=_STRICT)
    update = jax.jit(partial(_updated_state, plan, variant), donate_argnums=0, compiler_options=_STRICT)

    def step(state: DeviceState, parts: Sequence[DevicePart], numbers: Numbers) -> DeviceState:
        results = [
            compute(state.params, state.statistics, part, np.int32(index), numbers) for index, part in enumerate(parts)
        ]
        new: DeviceState = update(state, numbers, add(results))
        return new

    return step


def prepared(images: Array, preprocessing: Preprocessing) -> Array:
    """Normalize uint8 images ``[..., H, W, C]`` to float32, as the torch engine does."""
    mean, std = jnp.array(preprocessing.mean), jnp.array(preprocessing.std)
    return (images.astype(jnp.float32) / 255 - mean) / std


class _Local(NamedTuple):
    """What one micro-batch of each device gives: gradients and weighted statistics ``[D, ...]``, losses ``[D, N]``."""

    vectors: Array
    losses: Array


def _micro_batch(
    plan: StepPlan,
    variant: Variant,
    each: int,
    flat_params: Array,
    flat_statistics: Array,
    parts: DevicePart,
    index: Array,
    numbers: Numbers,
) -> _Local:
    params, statistics = plan.params.split(flat_params), plan.statistics.split(flat_statistics)
    part = DevicePart(*(array[0] for array in parts))
    number = lax.axis_index(AXIS) * each + index
    key = jax.random.fold_in(jax.random.fold_in(plan.key, numbers.step + 1), number)
    loss = partial(_loss, plan, variant, statistics, part, numbers.images, key)
    (_, (losses, new)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    # Statistics are averaged over the images of the batch; gradients are already divided by its size.
    weighted = plan.statistics.join(new) * (part.sizes / numbers.images)
    return _Local(jnp.concatenate([plan.params.join(gradients), weighted])[None], losses[None])


def _summed(plan: StepPlan, devices: int, results: Sequence[_Local]) -> BatchResult:
    local = _tree_sum(jnp.concatenate([result.vectors for result in results]))
    total = _over_devices(local, devices, in_order=plan.recipe.grad_reduction == "deterministic")
    losses = lax.all_gather(jnp.concatenate([result.losses for result in results]), AXIS, tiled=True)
    return BatchResult(total[: plan.params.size], total[plan.params.size :], losses)


def _loss(
    plan: StepPlan,
    variant: Variant,
    statistics: dict[str, Array],
    part: DevicePart,
    count: Array,
    key: Array,
    params: dict[str, Array],
) -> tuple[Array, tuple[Array, dict[str, Array]]]:
    """Return the share of a micro-batch in the mean loss, with the losses of its images and the new statistics."""
    in_batch = plan.recipe.norm_over == "batch" and plan.recipe.micro_batches > 1
    present = jnp.arange(len(part.labels)) < part.sizes
    of_mixing, of_layers = jax.random.split(key)
    images = prepared(part.images, plan.preprocessing)
    targets = targets_of(part.labels, plan.classes)
    images, targets = mixed(of_mixing, images, targets, part.sizes, variant.mixing)
    outcome = classify(
        plan.root,
        params,
        statistics,
        images,
        key=of_layers,
        present=present if variant.padded else None,
        how=Pass(
            training=True,
            batch_norms=not variant.frozen_norms,
            dropout=variant.dropout,
            dtype=plan.dtype,
            axis=AXIS if in_batch else None,
        ),
    )
    losses = jnp.where(present, losses_of(plan.objective, outcome.logits, targets), 0)
    return losses.sum() / count, (losses, outcome.statistics)


def _tree_sum(rows: Array) -> Array:
    """Sum ``[V, ...]`` along the tree that :func:`triscale.training.distributed.micro_batches.tree_sum` describes."""
    if len(rows) == 1:
        return rows[0]
    middle = len(rows) // 2
    return _tree_sum(rows[:middle]) + _tree_sum(rows[middle:])


def _over_devices(total: Array, devices: int, *, in_order: bool) -> Array:
    if devices == 1:
        return total
    if not in_order:
        summed: Array = lax.psum(total, AXIS)
        return summed
    return _tree_sum(lax.all_gather(total, AXIS))


def _updated_state(
    plan: StepPlan, variant: Variant, state: DeviceState, numbers: Numbers, result: BatchResult
) -> DeviceState:
    gradients, statistics, losses = result
    loss = losses.sum()
    if variant.frozen_norms:
        statistics = state.statistics
    finite = jnp.isfinite(loss) & jnp.isfinite(gradients).all()
    params, optimizer = updated(
        plan.recipe.optimizer, plan.groups, state.params, gradients, state.optimizer, numbers.rates
    )
    average = _lerp(state.average, jnp.concatenate([params, statistics]), 1 - numbers.decay)
    new = (params, statistics, average, optimizer, state.norm_updates + (not variant.frozen_norms))
    kept: tuple[Any, ...] = jax.tree.map(partial(jnp.where, finite), new, state[:5])
    return DeviceState._make((*kept, *_counted(state, numbers.step, finite, loss, numbers.images)))


def _lerp(old: Array, new: Array, weight: Array) -> Array:
    """Interpolate so that a weight of 1 returns exactly ``new``, as torch's lerp does."""
    return jnp.where(weight < 0.5, old + weight * (new - old), new - (1 - weight) * (new - old))


def _counted(state: DeviceState, step: Array, finite: Array, loss: Array, count: Array) -> tuple[Array, Array]:
    """Return the running sums and the recent losses after a step."""
    skipped = 1 - finite.astype(jnp.float32)
    added = jnp.stack([jnp.where(finite, loss, 0), finite * count.astype(jnp.float32), skipped, skipped])
    # The last number is of skipped steps in a row: back to 0 after a finite step.
    tally = (state.tally + added).at[3].multiply(skipped)
    mean = jnp.where(finite, loss / count, jnp.nan)
    return tally, state.recent.at[step % WINDOW].set(mean)
