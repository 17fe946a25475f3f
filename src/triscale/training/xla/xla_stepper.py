"""The XLA engine: takes the steps of a training on a mesh of devices; the state of the torch engine is its host copy.

Checkpoints, evaluation and resuming read and write the host copy (:class:`triscale.training.state.state.State`), so
that a training passes between both engines::

    checkpoint <--> State (torch, CPU) --write_state--> DeviceState (JAX, all devices)
                                       <--read_state---
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray
from torch import Tensor, nn

from triscale.errors import JobError
from triscale.network.lower import lower
from triscale.nn.classifier import Classifier
from triscale.training.context import CPU, ExecutionContext
from triscale.training.distributed.micro_batches import micro_batch_slices
from triscale.training.evaluate import LabeledBatch
from triscale.training.recipe import Precision
from triscale.training.recompute import is_out_of_memory, memory_error, recomputation_note
from triscale.training.schedule import ema_decay
from triscale.training.state.state import State, new_state
from triscale.training.step import seed_of
from triscale.training.task import TrainingTask
from triscale.training.xla.devices import describe_mesh, mesh_of
from triscale.training.xla.flat import FlatLayout
from triscale.training.xla.mixing import Mixing
from triscale.training.xla.xla_optimizers import STEP, FlatGroup, ParameterOptions, Rates, initial_state
from triscale.training.xla.xla_plan import AXIS, STRICT, DevicePart, DeviceState, Numbers, StepPlan, Variant
from triscale.training.xla.xla_step import CompiledStep
from triscale.xla.classify import classify

_COUNTER = "num_batches_tracked"
_REPLICATED, _DIVIDED = PartitionSpec(), PartitionSpec(AXIS)


class XlaStepper:
    """Takes the steps of a training on XLA devices; see :class:`triscale.training.engine.TrainingEngine`.

    Args:
        task: What to train.
        context: The process group, one process for each host.
        devices: The devices to use; all of all hosts by default.

    Raises:
        RecipeError: The micro-batches cannot be distributed over the devices.
    """

    check_every = 16
    """Steps between reads of values, each of which waits for the devices."""

    def __init__(self, task: TrainingTask, context: ExecutionContext, devices: list[jax.Device] | None = None) -> None:
        assert isinstance(task.model, Classifier), "custom models are refused before"
        self.state: State = new_state(task.model, task.recipe, CPU)
        self._recipe, self._group = task.recipe, context.group
        self._mesh = mesh_of(task.recipe, devices)
        self._note = context.progress.note
        self._note(f"training on {describe_mesh(self._mesh)} with XLA; it compiles in the first step")
        params = dict(self.state.model.named_parameters())
        # The parameters of a group of the optimizer lie together.
        ordered, groups = _groups(self.state)
        self._plan = StepPlan(
            root=lower(task.model.network),
            recipe=task.recipe,
            objective=task.objective,
            preprocessing=task.preprocessing,
            classes=task.classes,
            params=FlatLayout({name: tuple(params[name].shape) for name in ordered}),
            statistics=FlatLayout(
                {
                    name: tuple(value.shape)
                    for name, value in self.state.model.named_buffers()
                    if value.is_floating_point()
                }
            ),
            groups=groups,
            dtype=_dtype(task.recipe.precision, self._mesh),
            key=jax.random.key(seed_of(task.seed, 0, 0) % (1 << 32)),
        )
        # Not one cache for all trainings: a compiled step keeps its plan.
        self._compiled = lru_cache(maxsize=None)(partial(CompiledStep, self._plan, self._mesh))
        self._recomputes, self._taken = False, set[tuple[CompiledStep, bool]]()
        self._shares_memory = self._mesh.devices.flat[0].platform == "cpu"
        self._device: DeviceState
        self._is_current = True
        self._norm_updates = 0
        self._classify = jax.jit(partial(_logits, self._plan), compiler_options=STRICT)
        self.begin_stage(task.recipe.progressive.stages - 1)
        self.write_state()

    def begin_stage(self, stage: int) -> None:
        """Set dropout, mixup and CutMix to what a stage of progressive learning has."""
        plan = self._recipe.progressive
        share = plan.grown(plan.mixup, stage)
        self._mixing = Mixing(self._recipe.mixup * share, self._recipe.cutmix * share)
        self._dropout = plan.grown(plan.dropout, stage)

    def take(
        self, batch: LabeledBatch, count: int, rate: float, *, only_head: bool = False, frozen_norms: bool = False
    ) -> None:
        """Begin a step on the devices; the host does not wait for it.

        Args:
            batch: The images of this host's micro-batches.
            count: Number of images in the whole batch, over all hosts.
            rate: The learning rate.
            only_head: Whether only the classifier is trained.
            frozen_norms: Whether batch norm uses its running statistics, and keeps them.

        Raises:
            JobError: The step does not fit into the memory of a device, or another host was lost.
        """
        given, padded = self.to_devices(batch, count)
        variant = Variant(only_head or frozen_norms, padded, self._dropout, self._mixing)
        decay = ema_decay(self._recipe, self.state.step) if self._recipe.ema_decay else 0.0
        rates = Rates(_number(rate), _number(0.0 if only_head else rate))
        numbers = Numbers(_number(self.state.step), _number(count), rates, _number(decay))
        self._device = self._stepped(variant, given, numbers)
        self._is_current = False
        self.state.step += 1

    def to_devices(self, batch: LabeledBatch, count: int) -> tuple[list[DevicePart], bool]:
        """Begin to copy a batch to the devices, while they may still compute the previous step.

        Args:
            batch: The images of this host's micro-batches.
            count: Number of images in the whole batch, over all hosts.

        Returns:
            The first micro-batch of every device, the second, and so on, and whether some have padding.
        """
        micro_batches, devices = self._recipe.micro_batches, self._mesh.size
        each, mine = micro_batches // devices, devices // self._group.size
        slices = micro_batch_slices(count, micro_batches)
        sizes = [part.stop - part.start for part in slices]
        first = self._group.rank * mine * each
        begin, largest = slices[first].start, max(sizes)
        images, labels = _channels_last(batch.images), batch.labels.numpy().astype(np.int32)
        sharding = NamedSharding(self._mesh, _DIVIDED)

        def given(values: NDArray[Any]) -> Array:
            whole: Array = jax.make_array_from_process_local_data(sharding, values, (devices, *values.shape[1:]))
            return whole

        def of_devices(values: NDArray[Any], numbers: range) -> Array:
            filled = np.zeros((mine, largest, *values.shape[1:]), values.dtype)
            for row, number in zip(filled, numbers, strict=True):
                row[: sizes[number]] = values[slices[number].start - begin : slices[number].stop - begin]
            return given(filled)

        parts = []
        for index in range(each):
            numbers = range(first + index, first + mine * each, each)
            counts = np.array([sizes[number] for number in numbers], np.int32)
            parts.append(DevicePart(of_devices(images, numbers), of_devices(labels, numbers), given(counts)))
        return parts, min(sizes) < largest

    def _stepped(self, variant: Variant, given: list[DevicePart], numbers: Numbers) -> DeviceState:
        """Return the state after a step; if memory runs out, retry with more activation checkpointing."""
        while True:
            step = self._compiled(variant)
            # On TPUs and GPUs, a step that has been taken once fits, and later ones need not be waited for.
            wait = self._shares_memory or (step, self._recomputes) not in self._taken
            try:
                new = step(self._device, given, numbers, recompute=self._recomputes, wait=wait)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise _failure(error) from error
                images = given[0].images.shape[1]
                if self._recomputes:
                    raise memory_error(images, self._recipe.micro_batches) from error
            else:
                self._taken.add((step, self._recomputes))
                return new
            self._recomputes = True
            self._note(recomputation_note(images, 1, max_level=1))

    def skip(self) -> None:
        """Leave out a step; its loss counts as none."""
        index = self.state.step % len(self.state.recent)
        self._device = self._device._replace(recent=self._device.recent.at[index].set(jnp.nan))
        self._is_current = False
        self.state.step += 1

    def reset_tally(self) -> None:
        """Begin the sums of an epoch again; the count of consecutive skipped steps continues."""
        self.state.tally[:3] = 0
        self._device = self._device._replace(tally=self._device.tally.at[:3].set(0))

    def read_losses(self) -> None:
        """Copy the sums of losses to the host copy; waits for the devices."""
        self._copy_losses(*self._fetched((self._device.tally, self._device.recent)))

    def _copy_losses(self, tally: NDArray[Any], recent: NDArray[Any]) -> None:
        self.state.tally.copy_(_from_device(tally))
        self.state.recent.copy_(_from_device(recent))

    def read_state(self) -> None:
        """Copy the whole state to the host copy, unless it is the same; waits for the devices."""
        if self._is_current:
            return
        state, device, plan = self.state, self._fetched(self._device), self._plan
        live, average = state.model.state_dict(), state.average.model.state_dict()
        _copy_parts(plan.params, device.params, live)
        _copy_parts(plan.statistics, device.statistics, live)
        _copy_parts(plan.params, device.average, average)
        _copy_parts(plan.statistics, device.average[plan.params.size :], average)
        for name in live:
            if name.endswith(_COUNTER):
                live[name].fill_(self._norm_updates + int(device.norm_updates))
                average[name].copy_(live[name])
        for name, part in plan.params.parts():
            shape, parameter = plan.params.shapes[name], state.model.get_parameter(name)
            for key, values in device.optimizer.items():
                value = values if key == STEP else values[part].reshape(shape)
                state.optimizer.state[parameter][key] = _from_device(value)
        self._copy_losses(device.tally, device.recent)
        self._is_current = True

    def write_state(self) -> None:
        """Copy the host copy to the devices, after it was restored or changed."""
        state, plan = self.state, self._plan
        live, average = state.model.state_dict(), state.average.model.state_dict()
        self._norm_updates = max((int(value) for name, value in live.items() if name.endswith(_COUNTER)), default=0)
        device = (
            _joined(plan.params, live),
            _joined(plan.statistics, live),
            np.concatenate([_joined(plan.params, average), _joined(plan.statistics, average)]),
            self._optimizer_state(),
            np.int32(0),
            state.tally.numpy().astype(np.float32),
            state.recent.numpy(),
        )
        # Copies, since the first step reuses the memory of the arrays, which may be that of the tensors.
        copied = jax.tree.map(partial(_on_every_device, NamedSharding(self._mesh, _REPLICATED)), device)
        self._device = DeviceState._make(copied)
        self._is_current = True

    def averaged(self) -> nn.Module:
        """Return a module that classifies with the averaged weights, on the devices of this host."""
        local = _Host(self._mesh)
        forward = partial(self._classify, local.replicated(self._device.average))
        return _OnDevices(forward, local, self._recipe.micro_batches)

    def _optimizer_state(self) -> dict[str, NDArray[Any]]:
        """Return the state of the torch optimizer as vectors; before its first step, what it begins with."""
        layout = self._plan.params
        vectors = {key: np.array(value) for key, value in initial_state(self._recipe.optimizer, layout.size).items()}
        for name, part in layout.parts():
            for key, value in self.state.optimizer.state.get(self.state.model.get_parameter(name), {}).items():
                if value is not None:
                    vectors[key][() if key == STEP else part] = torch.as_tensor(value).reshape(-1 if value.ndim else ())
        return vectors

    def _fetched(self, tree: Any) -> Any:
        try:
            return jax.device_get(tree)
        except jax.errors.JaxRuntimeError as error:
            raise _failure(error) from error


class _Host:
    """The devices of this host, over which evaluation distributes images."""

    def __init__(self, mesh: Mesh) -> None:
        own = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
        self.number = len(own)
        mesh = Mesh(np.array(own), (AXIS,))
        self._everywhere, self._divided = NamedSharding(mesh, _REPLICATED), NamedSharding(mesh, _DIVIDED)

    def replicated(self, array: Array) -> Array:
        """Return an array of all hosts as one of this host, without copying."""
        parts = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, self._everywhere, parts)

    def divided(self, values: NDArray[Any]) -> Array:
        """Return values whose first dimension is distributed over the devices."""
        placed: Array = jax.device_put(values, self._divided)
        return placed


class _OnDevices(nn.Module):
    """Classifies with a compiled function, as :func:`triscale.training.evaluate.evaluate` expects it."""

    def __init__(self, forward: Any, local: _Host, pieces: int) -> None:
        super().__init__()
        self._forward, self._local, self._pieces = forward, local, pieces
        self._piece = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of normalized images ``[N, C, H, W]``.

        Every device classifies one piece of the images after the other. The size of a piece decides how XLA rounds, so
        it does not depend on the number of devices. The last batch is filled up, so that XLA compiles once.
        """
        values = _channels_last(images)
        self._piece = max(self._piece, -(-len(values) // self._pieces))
        step = self._piece * self._local.number
        filled = np.zeros((-(-len(values) // step) * step, *values.shape[1:]), values.dtype)
        filled[: len(values)] = values
        try:
            parts = [
                self._forward(self._local.divided(filled[first : first + step]))
                for first in range(0, len(filled), step)
            ]
            return _from_device(np.concatenate(jax.device_get(parts)))[: len(values)]
        except jax.errors.JaxRuntimeError as error:
            raise _failure(error) from error


def _failure(error: jax.errors.JaxRuntimeError) -> JobError:
    if is_out_of_memory(error):
        return JobError("a device has no memory left; free some, and run the same command to resume")
    text = " ".join(str(error).split())
    reason = ", for example because another host was lost" if jax.process_count() > 1 else ""
    return JobError(f"XLA could not complete a step{reason}: {text[:300]}")


def _logits(plan: StepPlan, average: Array, images: Array) -> Array:
    params, statistics = plan.params.split(average), plan.statistics.split(average[plan.params.size :])
    return classify(plan.root, params, statistics, images).logits


def _groups(state: State) -> tuple[list[str], tuple[FlatGroup, ...]]:
    """Return the names of all parameters in the order of the optimizer's groups, and these groups."""
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    ordered: list[str] = []
    groups: list[FlatGroup] = []
    for group in state.optimizer.param_groups:
        first = groups[-1].part.stop if groups else 0
        ordered += [names[parameter] for parameter in group["params"]]
        part = slice(first, first + sum(parameter.numel() for parameter in group["params"]))
        groups.append(FlatGroup(part, ParameterOptions(group["weight_decay"], group["share"], group["head"])))
    return ordered, tuple(groups)


def _copy_parts(layout: FlatLayout, vector: NDArray[Any], tensors: dict[str, Tensor]) -> None:
    for name, part in layout.parts():
        tensors[name].copy_(_from_device(vector[part]).view(layout.shapes[name]))


def _joined(layout: FlatLayout, tensors: dict[str, Tensor]) -> NDArray[Any]:
    return np.concatenate([tensors[name].detach().reshape(-1).numpy() for name in layout.shapes] or [np.zeros(0)])


def _dtype(precision: Precision, mesh: Mesh) -> jnp.dtype:
    reduced = mesh.devices.flat[0].platform != "cpu" if precision == "auto" else precision == "bfloat16"
    return jnp.dtype("bfloat16" if reduced else "float32")


def _channels_last(images: Tensor) -> NDArray[Any]:
    """Return ``[N, C, H, W]`` as ``[N, H, W, C]``."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def _number(value: float) -> Array:
    """Return a number as a numpy scalar, which does not make XLA compile again for another value."""
    return cast(Array, np.int32(value) if isinstance(value, int) else np.float32(value))


def _from_device(value: Any) -> Tensor:
    return torch.from_numpy(np.array(value))


def _on_every_device(sharding: NamedSharding, value: Any) -> Array:
    """Return a copy of a value on every device; all hosts have the same value."""
    values = np.array(value)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])
