"""Gradients of one micro-batch on each device: compiled functions of the parts of a network, one after the other.

::

    forward     images -> stem -> stages.0 -> ... -> head -> losses
    backward              stem <- stages.0 <- ... <- head

Each part keeps what its backward pass needs, its residuals. If memory runs out, they are not kept: a part is computed
again, by the same function, just before its backward pass. As the functions are the same, so is the result, bit for
bit. One function for the whole network, or
``jax.checkpoint`` within it, would leave to the compiler what to fuse, and rounding depends on that; for CPUs, it also
merges equal computations, which undoes the recomputation. Parts need less memory than one function, at the same speed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from triscale.network import tree
from triscale.network.contract import Preprocessing
from triscale.training.xla.mixing import mixed
from triscale.training.xla.xla_losses import losses_of, targets_of
from triscale.training.xla.xla_plan import AXIS, STRICT, DevicePart, Numbers, StepPlan, Variant
from triscale.xla.classify import Pass, compute_part


class MicroBatchResult(NamedTuple):
    """What one micro-batch on each of D devices gives.

    Attributes:
        vectors: Gradients of its share in the mean loss, and weighted statistics of batch norm, ``[D, P + S]``.
        losses: Of each image, ``[D, N]``; 0 for padding.
    """

    vectors: Array
    losses: Array


class GradientFunctions:
    """The compiled functions that compute the gradients of one micro-batch on each device.

    Args:
        plan: What to compute.
        mesh: The devices.
        variant: What differs between steps.
    """

    def __init__(self, plan: StepPlan, mesh: Mesh, variant: Variant) -> None:
        work, on_mesh = _Work(plan, variant, plan.recipe.micro_batches // mesh.size), partial(_on_mesh, mesh)
        *parts, last = tree.children(plan.root)
        self._inputs, self._collect = on_mesh(work.inputs), on_mesh(work.collect)
        self._forwards = [on_mesh(partial(work.forward, part), 2) for part in parts]
        self._scored = on_mesh(partial(work.scored, last), 2)
        self._backward = on_mesh(_backward, last=0)

    def __call__(
        self, params: Array, statistics: Array, part: DevicePart, index: Array, numbers: Numbers, *, recompute: bool
    ) -> MicroBatchResult:
        """Return the gradients.

        Args:
            params: All parameters.
            statistics: All running statistics of batch norm.
            part: One micro-batch for each device.
            index: Its number on each device.
            numbers: The numbers of the step.
            recompute: Whether to need less memory and more time; the result is the same.
        """
        # The memory of one part is to be free before the next is given its own.
        finished: Callable[[Any], Any] = jax.block_until_ready if recompute else (lambda results: results)
        of_step = (part.sizes, index, numbers)
        maps, targets = finished(self._inputs(part, index, numbers))
        kept: list[Any] = []
        fresh: dict[str, Array] = {}
        gradients: dict[str, Array] = {}
        for forward in self._forwards:
            given = maps
            maps, new, residuals = finished(forward(params, statistics, given, *of_step))
            fresh |= new
            kept.append(given if recompute else residuals)
            del given, residuals
        losses, new, of_params, gradient = finished(self._scored(params, statistics, maps, targets, *of_step))
        del maps
        fresh, gradients = fresh | new, gradients | of_params
        for forward in reversed(self._forwards):
            residuals = kept.pop()
            if recompute:
                residuals = finished(_Forward(*forward(params, statistics, residuals, *of_step)).residuals)
            of_params, gradient = finished(self._backward(residuals, gradient))
            del residuals
            gradients |= of_params
        result: MicroBatchResult = self._collect(gradients, fresh, losses, *of_step)
        return result


def prepared(images: Array, preprocessing: Preprocessing) -> Array:
    """Normalize uint8 images ``[..., H, W, C]`` to float32, as the torch engine does."""
    mean, std = jnp.array(preprocessing.mean), jnp.array(preprocessing.std)
    return (images.astype(jnp.float32) / 255 - mean) / std


def _on_mesh(mesh: Mesh, work: Callable[..., Any], first: int = 0, last: int = 2) -> Callable[..., Any]:
    """Compile a function of each device.

    Its ``first`` and ``last`` arguments are the same on all devices, those between have a row for each.
    """

    def compute(*given: Any) -> Any:
        everywhere, divided = PartitionSpec(), PartitionSpec(AXIS)
        specs = (everywhere,) * first + (divided,) * (len(given) - first - last) + (everywhere,) * last
        # check_vma=False: gradients of replicated parameters stay local, since their sum has a fixed order.
        each: Any = jax.shard_map(work, mesh=mesh, in_specs=specs, out_specs=divided, check_vma=False)
        return each(*given)

    return jax.jit(compute, compiler_options=STRICT)


class _Work(NamedTuple):
    """What a device computes; arguments and results that differ between devices have one row."""

    plan: StepPlan
    variant: Variant
    each: int

    def inputs(self, parts: DevicePart, index: Array, numbers: Numbers) -> tuple[Array, Array]:
        """Return the images as the network is given them, and the targets."""
        return _rows(self._inputs(_row(parts), index, numbers))

    def forward(
        self, named: _Named, flat_params: Array, flat_statistics: Array, maps: Array, sizes: Array,
        index: Array, numbers: Numbers,
    ) -> _Forward:  # fmt: skip
        """Compute a part of the network."""
        params = _under(named, self.plan.params.split(flat_params))
        part = partial(self._part, named, flat_statistics, sizes[0], index, numbers)
        # Elementwise operations are cheaper to repeat than to keep.
        out, residuals, new = jax.vjp(jax.checkpoint(part, policy=_is_kept), params, maps[0], has_aux=True)
        return _rows(_Forward(out, new, residuals))

    def scored(
        self, named: _Named, flat_params: Array, flat_statistics: Array, maps: Array, targets: Array, sizes: Array,
        index: Array, numbers: Numbers,
    ) -> tuple[Array, dict[str, Array], dict[str, Array], Array]:  # fmt: skip
        """Return losses, new statistics, gradients of the parameters, and that of the input of the last part."""
        params = _under(named, self.plan.params.split(flat_params))
        score = partial(self._score, named, flat_statistics, targets[0], sizes[0], index, numbers)
        (_, (losses, new)), gradients = jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(params, maps[0])
        of_params, of_maps = gradients
        return _rows((losses, new, of_params, of_maps))

    def collect(
        self, gradients: dict[str, Array], statistics: dict[str, Array], losses: Array, sizes: Array,
        _: Array, numbers: Numbers,
    ) -> MicroBatchResult:  # fmt: skip
        """Join what the parts gave."""
        of_params, new, of_images, size = _row((gradients, statistics, losses, sizes))
        return self._result(of_params, new, of_images, size, numbers)

    def _inputs(self, part: DevicePart, index: Array, numbers: Numbers) -> tuple[Array, Array]:
        of_mixing, _ = self._keys(index, numbers)
        images = prepared(part.images, self.plan.preprocessing)
        return mixed(of_mixing, images, targets_of(part.labels, self.plan.classes), part.sizes, self.variant.mixing)

    def _keys(self, index: Array, numbers: Numbers) -> Array:
        number = lax.axis_index(AXIS) * self.each + index
        return jax.random.split(jax.random.fold_in(jax.random.fold_in(self.plan.key, numbers.step + 1), number))

    def _score(
        self, named: _Named, flat_statistics: Array, targets: Array, size: Array, index: Array, numbers: Numbers,
        params: dict[str, Array], maps: Array,
    ) -> tuple[Array, tuple[Array, dict[str, Array]]]:  # fmt: skip
        """Return the share of a micro-batch in the mean loss, with the losses of its images and the new statistics."""
        logits, new = self._part(named, flat_statistics, size, index, numbers, params, maps)
        losses = losses_of(self.plan.objective, logits.astype(jnp.float32), targets)
        losses = jnp.where(_present(targets, size), losses, 0)
        return losses.sum() / numbers.images, (losses, new)

    def _part(
        self, named: _Named, flat_statistics: Array, size: Array, index: Array, numbers: Numbers,
        params: dict[str, Array], maps: Array,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        recipe, variant = self.plan.recipe, self.variant
        in_batch = recipe.norm_over == "batch" and recipe.micro_batches > 1
        _, of_layers = self._keys(index, numbers)
        path, node = named
        how = Pass(
            training=True,
            batch_norms=not variant.frozen_norms,
            dropout=variant.dropout,
            dtype=self.plan.dtype,
            axis=AXIS if in_batch else None,
        )
        statistics = _under(named, self.plan.statistics.split(flat_statistics))
        present = _present(maps, size) if variant.padded else None
        return compute_part(node, path, params, statistics, maps, key=of_layers, present=present, how=how)

    def _result(
        self, gradients: dict[str, Array], statistics: dict[str, Array], losses: Array, size: Array, numbers: Numbers
    ) -> MicroBatchResult:
        # Statistics are averaged over the images of the batch; gradients are already divided by its size.
        weighted = self.plan.statistics.join(statistics) * (size / numbers.images)
        vectors = jnp.concatenate([self.plan.params.join(gradients), weighted])
        return MicroBatchResult(*_rows((vectors, losses)))


_Tree = TypeVar("_Tree")
_Named = tuple[str, tree.Node]
"""A part of a network with its path."""


class _Forward(NamedTuple):
    """What the forward pass of a part gives: its output, new statistics, and the function of its backward pass."""

    maps: Array
    statistics: dict[str, Array]
    residuals: Any


def _backward(residuals: Any, gradient: Array) -> tuple[dict[str, Array], Array]:
    """Return gradients of the parameters of a part and of its input, from that of its output."""
    pull_back: Callable[[Array], tuple[dict[str, Array], Array]] = _row(residuals)
    return _rows(pull_back(gradient[0]))


_KEPT = ("conv_general_dilated", "dot_general", "reduce_sum", "reduce_window_max")


def _is_kept(primitive: Any, *_: Any, **__: Any) -> bool:
    """Return whether the result of an operation is kept for the backward pass."""
    return primitive.name in _KEPT


def _under(named: _Named, arrays: dict[str, Array]) -> dict[str, Array]:
    path = named[0]
    return {name: array for name, array in arrays.items() if not path or name.startswith(f"{path}.")}


def _present(rows: Array, size: Array) -> Array:
    """Return which of the images are not padding."""
    present: Array = jnp.arange(len(rows)) < size
    return present


def _row(given: _Tree) -> _Tree:
    """Return what a device is given, without the dimension of the devices."""
    return cast(_Tree, jax.tree.map(lambda array: array[0], given))


def _rows(results: _Tree) -> _Tree:
    """Return what a device computed, with the dimension of the devices."""
    return cast(_Tree, jax.tree.map(lambda array: array[None], results))
