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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


class DeviceBatch(NamedTuple):
    """A batch of V micro-batches, padded to equal size.

    Attributes:
        images: uint8 ``[V, N, H, W, C]``.
        labels: int32 ``[V, N]``, or ``[V, N, K]`` padded with -1.
        sizes: int32 ``[V]``: how many images of each micro-batch, from the first on, are not padding.
    """

    images: Array
    labels: Array
    sizes: Array


class Numbers(NamedTuple):
    """The numbers of a step: arrays, so that they do not make XLA compile again.

    Attributes:
        step: The step, counted from 0.
        rates: The learning rates.
        decay: Decay of the moving average.
    """

    step: Array
    rates: Rates
    decay: Array


class BatchResult(NamedTuple):
    """What the forward and backward pass of a whole batch gives, on every device.

    Attributes:
        gradients: Of the mean loss, for all parameters.
        statistics: Running statistics of batch norm, averaged over micro-batches.
        losses: Of each image, ``[V, N]``; 0 for padding.
        images: Number of images, int32.
    """

    gradients: Array
    statistics: Array
    losses: Array
    images: Array


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


CompiledStep = Callable[[DeviceState, DeviceBatch, Numbers], DeviceState]


def compile_step(plan: StepPlan, mesh: Mesh, variant: Variant) -> CompiledStep:
    """Return the compiled function of a step; it reuses the memory of the state that it is given.

    A step with a non-finite loss or gradient leaves parameters, statistics, average and optimizer as they were.

    It is compiled in two parts. In one, the compiler would fuse the last sum of gradients with the optimizer, and how
    it does, hence how it rounds, would depend on the number of devices.
    """
    everywhere, divided = PartitionSpec(), PartitionSpec(AXIS)
    over_devices = jax.shard_map(
        partial(_gradients, plan, variant, mesh.size),
        mesh=mesh,
        in_specs=(everywhere, everywhere, divided, everywhere),
        out_specs=everywhere,
        # Gradients of replicated parameters stay local: their sum has a fixed order.
        check_vma=False,
    )
    gradients = jax.jit(over_devices, compiler_options=_STRICT)
    update = jax.jit(partial(_updated_state, plan, variant), donate_argnums=0, compiler_options=_STRICT)

    def step(state: DeviceState, batch: DeviceBatch, numbers: Numbers) -> DeviceState:
        new: DeviceState = update(state, numbers, gradients(state.params, state.statistics, batch, numbers.step))
        return new

    return step


def prepared(images: Array, preprocessing: Preprocessing) -> Array:
    """Normalize uint8 images ``[..., H, W, C]`` to float32, as the torch engine does."""
    mean, std = jnp.array(preprocessing.mean), jnp.array(preprocessing.std)
    return (images.astype(jnp.float32) / 255 - mean) / std


def _gradients(
    plan: StepPlan,
    variant: Variant,
    devices: int,
    flat_params: Array,
    flat_statistics: Array,
    batch: DeviceBatch,
    step: Array,
) -> BatchResult:
    params, statistics = plan.params.split(flat_params), plan.statistics.split(flat_statistics)
    mine = len(batch.sizes)
    count = lax.psum(batch.sizes.sum(), AXIS)
    first = lax.axis_index(AXIS) * mine
    step_key = jax.random.fold_in(plan.key, step + 1)

    def of_micro_batch(given: tuple[Array, DeviceBatch]) -> tuple[Array, Array, Array]:
        number, part = given
        loss = partial(_loss, plan, variant, statistics, part, count, jax.random.fold_in(step_key, number))
        (_, (losses, new)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        # Statistics are averaged over the images of the batch; gradients are already divided by its size.
        return plan.params.join(gradients), plan.statistics.join(new) * (part.sizes / count), losses

    gradients, new, losses = _one_after_the_other(of_micro_batch, (first + jnp.arange(mine), batch), mine, step)
    local = _tree_sum(jnp.concatenate([gradients, new], 1))
    total = _over_devices(local, devices, in_order=plan.recipe.grad_reduction == "deterministic")
    # The losses are summed in the second part of the step, which is the same for any number of devices.
    every_loss = lax.all_gather(losses, AXIS, tiled=True)
    return BatchResult(total[: plan.params.size], total[plan.params.size :], every_loss, count)


def _one_after_the_other(function: Callable[[Any], Any], given: Any, number: int, step: Array) -> Any:
    """Apply a function to each element of the first dimension of arrays, and stack the results, like ``lax.map``.

    Unlike there, the compiler does not know the number of iterations, or it would inline a single one; the body would
    then be fused, hence round, differently.
    """

    def element(index: Array | int) -> Any:
        return jax.tree.map(lambda array: lax.dynamic_index_in_dim(array, index, keepdims=False), given)

    def one_more(index: Array, results: Any) -> Any:
        new = function(element(index))
        return jax.tree.map(lambda array, value: lax.dynamic_update_index_in_dim(array, value, index, 0), results, new)

    shapes = jax.eval_shape(function, jax.tree.map(lambda array: array[0], given))
    empty = jax.tree.map(lambda shape: jnp.zeros((number, *shape.shape), shape.dtype), shapes)
    unknown = number + jnp.minimum(step, 0)  # step is not negative
    return lax.fori_loop(0, unknown, one_more, empty)


def _loss(
    plan: StepPlan,
    variant: Variant,
    statistics: dict[str, Array],
    part: DeviceBatch,
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
    gradients, statistics, losses, count = result
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
    return DeviceState._make((*kept, *_counted(state, numbers.step, finite, loss, count)))


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
