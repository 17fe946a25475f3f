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

A step is three kinds of compiled functions: of the parts of a network, called for each micro-batch on every device
(:mod:`triscale.training.xla.xla_gradients`); of their sum; and of the update. In one function, how the compiler fuses
them, hence how they round, would depend on the number of devices. A loop over micro-batches inside of the function
would do, but XLA computes convolutions in loops 20 times as slowly on CPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from triscale.training.divergence import WINDOW
from triscale.training.xla.xla_gradients import GradientFunctions, MicroBatchResult
from triscale.training.xla.xla_optimizers import updated
from triscale.training.xla.xla_plan import AXIS, STRICT, DevicePart, DeviceState, Numbers, StepPlan, Variant


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


class CompiledStep:
    """The compiled functions of a step.

    A step with a non-finite loss or gradient leaves parameters, statistics, average and optimizer as they were.

    Args:
        plan: What to compute.
        mesh: The devices.
        variant: What differs between steps.
    """

    def __init__(self, plan: StepPlan, mesh: Mesh, variant: Variant) -> None:
        summed = jax.shard_map(
            partial(_summed, plan, mesh.size),
            mesh=mesh,
            in_specs=PartitionSpec(AXIS),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        self._compute = GradientFunctions(plan, mesh, variant)
        self._add = jax.jit(summed, compiler_options=STRICT)
        self._update = jax.jit(partial(_updated_state, plan, variant), donate_argnums=0, compiler_options=STRICT)

    def __call__(
        self, state: DeviceState, parts: Sequence[DevicePart], numbers: Numbers, *, recompute: bool, wait: bool
    ) -> DeviceState:
        """Return the new state; the memory of the old one is reused.

        Args:
            state: The state before the step.
            parts: The micro-batches of every device in order.
            numbers: The numbers of the step.
            recompute: Whether to need less memory and more time; the result is the same.
            wait: Whether to wait for the gradients, so that a failure to compute them leaves ``state`` as it was.
        """
        results = [
            self._compute(
                state.params, state.statistics, part, cast(Array, np.int32(index)), numbers, recompute=recompute
            )
            for index, part in enumerate(parts)
        ]
        total = self._add(results)
        if wait:
            jax.block_until_ready(total)
        new: DeviceState = self._update(state, numbers, total)
        return new


def _summed(plan: StepPlan, devices: int, results: Sequence[MicroBatchResult]) -> BatchResult:
    local = _tree_sum(jnp.concatenate([result.vectors for result in results]))
    total = _over_devices(local, devices, in_order=plan.recipe.grad_reduction == "deterministic")
    losses = lax.all_gather(jnp.concatenate([result.losses for result in results]), AXIS, tiled=True)
    return BatchResult(total[: plan.params.size], total[plan.params.size :], losses)


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
