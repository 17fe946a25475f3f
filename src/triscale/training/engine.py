"""The engines that take the steps of a training: torch, or XLA through JAX (TPUs, GPUs, many hosts)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, assert_never

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from triscale.errors import RecipeError
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.optional_import import load
from triscale.training.context import EngineName, ExecutionContext
from triscale.training.distributed.group import Group
from triscale.training.distributed.sync_norm import sync_batch_norm
from triscale.training.evaluate import LabeledBatch
from triscale.training.recipe import Recipe
from triscale.training.state.state import State, new_state
from triscale.training.step import Stepper
from triscale.training.task import TrainingTask


class TrainingEngine(Protocol):
    """Takes the steps of a training.

    ``state`` is current after :meth:`read_state`, apart from its step number, which always is.
    """

    @property
    def state(self) -> State:
        """What the steps change, in the form that checkpoints have."""

    @property
    def check_every(self) -> int:
        """Steps between reads of values; each read waits for the device."""

    def begin_stage(self, stage: int) -> None:
        """Set dropout, mixup and CutMix to what a stage of progressive learning has."""

    def take(
        self, batch: LabeledBatch, count: int, rate: float, *, only_head: bool = False, frozen_norms: bool = False
    ) -> None:
        """Take a step; see :meth:`triscale.training.step.Stepper.take`."""

    def skip(self) -> None:
        """Leave out a step; its loss counts as none."""

    def reset_tally(self) -> None:
        """Begin the sums of an epoch again; the count of consecutive skipped steps continues."""

    def read_losses(self) -> None:
        """Make the sums of losses in ``state`` current."""

    def read_state(self) -> None:
        """Make all of ``state`` current."""

    def write_state(self) -> None:
        """Continue from ``state``, which was restored from a checkpoint or changed."""

    def averaged(self) -> nn.Module:
        """Return a module that classifies ``[N, C, H, W]`` with the averaged weights."""


def make_engine(task: TrainingTask, context: ExecutionContext) -> TrainingEngine:
    """Return the engine of a context, with the initial state of a task.

    Raises:
        RecipeError: The engine does not support the task, or cannot distribute its micro-batches.
        UserError: The engine is not installed.
    """
    match context.engine:
        case "torch":
            return _torch_engine(task, context)
        case "xla":
            load_xla()
            engine: TrainingEngine = importlib.import_module("triscale.training.xla.xla_stepper").XlaStepper(
                task, context
            )
            return engine
        case _:
            assert_never(context.engine)


def load_xla() -> None:
    """Check that JAX is installed.

    Raises:
        UserError: It is not.
    """
    load("jax", "JAX", "xla")


def start_engine(engine: EngineName, device: str, group: Group) -> None:
    """Connect an engine to its devices, before anything is written.

    Args:
        engine: The engine.
        device: The kind of device that a user names.
        group: The processes that train together.

    Raises:
        UserError: The engine is not installed.
        RecipeError: This machine does not have the device.
        JobError: The hosts cannot be connected.
    """
    if engine == "xla":
        load_xla()
        importlib.import_module("triscale.training.xla.devices").start_xla(device, group)


def abandon_engine(engine: EngineName, group: Group) -> None:
    """Do not wait for the other processes of a group when this one ends, since the job has failed."""
    if engine == "xla" and group.size > 1:
        importlib.import_module("triscale.training.xla.devices").abandon_hosts()


def check_engine(
    context: ExecutionContext, network: AnyNetwork, recipe: Recipe, measured: Mapping[str, bool], *, teacher: bool
) -> None:
    """Check that the engine of a context supports a training.

    Args:
        context: Gives the engine, and what else it is to do.
        network: What is trained.
        recipe: How it is trained.
        measured: Options that choose something by trying steps, which only the torch engine does, and whether they are
            given.
        teacher: Whether it also learns from a teacher.

    Raises:
        RecipeError: It does not, or its devices do not divide the micro-batches; the message names the first reason.
    """
    if context.engine == "torch":
        return
    unsupported = {
        f"{network.name}, which is a torch module": not isinstance(network, Network),
        f"quantization {recipe.quantization}": recipe.quantization != "none",
        f"norm_sparsity {recipe.norm_sparsity:g}": recipe.norm_sparsity > 0,
        "--teacher": teacher,
        "--compile, since it compiles anyway": context.compile,
        "--threads auto": context.chooses_threads,
        **measured,
    }
    for what, is_used in unsupported.items():
        if is_used:
            raise RecipeError(f"the XLA engine does not support {what}; leave that out, or train with --engine torch")
    importlib.import_module("triscale.training.xla.devices").mesh_of(recipe)


def _torch_engine(task: TrainingTask, context: ExecutionContext) -> Stepper:
    model = sync_batch_norm(task.model, task.recipe, context.group)
    state = new_state(model, task.recipe, context.device)
    return Stepper(
        state=state,
        forward=_forward(state.model, task.recipe, context),
        recipe=task.recipe,
        preprocessing=task.preprocessing,
        classes=task.classes,
        objective=task.objective,
        seed=task.seed,
        device=context.device,
        group=context.group,
        on_message=context.progress.note,
        teacher=task.teacher,
    )


def _forward(model: nn.Module, recipe: Recipe, context: ExecutionContext) -> nn.Module:
    """Return the model wrapped for a training step: compiled, or with DistributedDataParallel."""
    if context.compile and recipe.quantization != "none":
        raise RecipeError("--compile does not support quantization int8; leave one of them out")
    called: nn.Module = torch.compile(model, dynamic=False) if context.compile else model  # type: ignore[assignment]
    if context.group.size > 1 and recipe.grad_reduction == "fast":
        devices = None if context.device.type == "cpu" else [context.device.index or 0]
        called = DistributedDataParallel(called, device_ids=devices, broadcast_buffers=False)
    return called
