"""One training step: a pure function of recipe, seed, step number, batch and state, on one or several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import v2

from triscale.data.images.transforms import normalize
from triscale.network.contract import Preprocessing
from triscale.training.accelerator import has_bfloat16
from triscale.training.distillation import Teacher, distilled
from triscale.training.distributed.group import Group
from triscale.training.distributed.micro_batches import micro_batch_slices, micro_batches_of, tree_sum
from triscale.training.divergence import WINDOW
from triscale.training.evaluate import LabeledBatch
from triscale.training.fake_quantize import fake_quantized
from triscale.training.losses import loss_of, multi_hot
from triscale.training.objective import Objective
from triscale.training.optim import set_learning_rate
from triscale.training.recipe import Recipe
from triscale.training.recompute import (
    MAX_CHECKPOINT_LEVEL,
    is_out_of_memory,
    memory_error,
    recomputation_note,
    release_memory,
    with_recomputation,
)
from triscale.training.schedule import ema_decay
from triscale.training.state.state import State
from triscale.training.transfer import add_scale_penalty, freeze_norms

CHECK_EVERY_ON_DEVICE = 16


@dataclass(slots=True, kw_only=True)
class Stepper:
    """Takes the steps of a training; ``checkpoint_level`` is raised when memory runs out.

    Attributes:
        state: What the steps change.
        forward: The model as it is called: itself, compiled, or wrapped in DistributedDataParallel.
        recipe: How to train.
        preprocessing: How images become model input.
        classes: Number of classes.
        objective: What is learned.
        seed: Seeds dropout, stochastic depth, mixup and CutMix, together with step and micro-batch.
        device: The model's device.
        group: The process group.
        teacher: What the model also learns from; None for the labels alone.
        on_message: Called with a sentence when ``checkpoint_level`` is raised.
        checkpoint_level: Level of activation checkpointing, see :mod:`triscale.training.recompute`.
    """

    state: State
    forward: nn.Module
    recipe: Recipe
    preprocessing: Preprocessing
    classes: int
    objective: Objective
    seed: int
    device: torch.device
    group: Group
    on_message: Callable[[str], None]
    checkpoint_level: int = 0
    teacher: Teacher | None = None
    _mix: list[nn.Module] = field(init=False)
    _dropouts: list[tuple[nn.Dropout, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._dropouts = [(module, module.p) for module in self.state.model.modules() if type(module) is nn.Dropout]
        self.begin_stage(self.recipe.progressive.stages - 1)

    def begin_stage(self, stage: int) -> None:
        """Set dropout, mixup and CutMix to what a stage of progressive learning has."""
        plan = self.recipe.progressive
        for module, rate in self._dropouts:
            module.p = rate * plan.grown(plan.dropout, stage)
        share = plan.grown(plan.mixup, stage)
        makers = ((self.recipe.mixup * share, v2.MixUp), (self.recipe.cutmix * share, v2.CutMix))
        self._mix = [make(alpha=alpha, num_classes=self.classes) for alpha, make in makers if alpha]

    @property
    def check_every(self) -> int:
        """Steps between reads of values; on a GPU each read synchronizes with the device."""
        return 1 if self.device.type == "cpu" else CHECK_EVERY_ON_DEVICE

    def averaged(self) -> nn.Module:
        """Return a module that classifies with the averaged weights."""
        return self.state.average.model

    def skip(self) -> None:
        """Leave out a step; its loss counts as none."""
        self.state.recent[self.state.step % WINDOW] = float("nan")
        self.state.step += 1

    def reset_tally(self) -> None:
        """Begin the sums of an epoch again; the count of consecutive skipped steps continues."""
        self.state.tally[:3] = 0

    def read_losses(self) -> None:
        """Do nothing: ``state`` is what the steps change."""

    def read_state(self) -> None:
        """Do nothing: ``state`` is what the steps change."""

    def write_state(self) -> None:
        """Do nothing: ``state`` is what the steps change."""

    def take(
        self, batch: LabeledBatch, count: int, rate: float, *, only_head: bool = False, frozen_norms: bool = False
    ) -> None:
        """Take a step.

        A step with a non-finite loss or gradient is skipped: weights, average, optimizer state and batch-norm
        statistics stay as they were.

        Args:
            batch: The images of this process's micro-batches.
            count: Number of images in the whole batch, over all processes.
            rate: The learning rate.
            only_head: Whether only the classifier is trained.
            frozen_norms: Whether batch norm uses its running statistics, and keeps them.

        Raises:
            JobError: A micro-batch does not fit into memory, or another process was lost.
        """
        state = self.state
        state.model.train()
        if only_head or frozen_norms:
            freeze_norms(state.model)
        set_learning_rate(state.optimizer, rate, only_head=only_head)
        # A skipped step and a retried micro-batch start from the batch-norm statistics before the step.
        saved_buffers = [buffer.clone() for buffer in state.model.buffers()]
        loss = self._gradients(batch, count, saved_buffers)
        add_scale_penalty(state.model, self.recipe.norm_sparsity)
        decay = ema_decay(self.recipe, state.step) if self.recipe.ema_decay else 0.0
        if self.device.type == "cpu" or _has_first_gradient(state):
            finite = bool(_is_finite(state.model, loss))
            if finite:
                state.optimizer.step()
                state.average.update(decay)
            else:
                _restore(state.model, saved_buffers)
            _count(state, torch.tensor(finite, device=self.device), loss, count)
        else:
            update_if_finite(state, saved_buffers, loss, count, decay)
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1

    def _gradients(self, batch: LabeledBatch, count: int, saved_buffers: list[Tensor]) -> Tensor:
        """Compute the gradients of the whole batch into ``parameter.grad``, and return the sum of its losses."""
        recipe, group, model = self.recipe, self.group, self.state.model
        mine = micro_batches_of(group.rank, group.size, recipe.micro_batches)
        sizes = micro_batch_slices(count, recipe.micro_batches)
        start = sizes[mine.start].start
        labels = batch.labels.to(self.device, non_blocking=True)
        images = batch.images.to(self.device, non_blocking=True)

        def micro_batch(number: int) -> Tensor:
            part = slice(sizes[number].start - start, sizes[number].stop - start)
            indices = None if self.teacher is None else batch.indices[part]
            return self._micro_batch(number, images[part], labels[part], indices, count, saved_buffers)

        if recipe.micro_batches == 1:
            return micro_batch(0)
        if isinstance(self.forward, DistributedDataParallel):
            return self._fast(mine, micro_batch, sizes, count, saved_buffers)
        flat: dict[int, Tensor] = {}

        def leaf(first: int, last: int) -> Tensor | None:
            if last - first > 1:
                return None
            _restore(model, saved_buffers)
            loss = micro_batch(first)
            # Buffers are averaged over the images of the batch; gradients are already divided by its size.
            weight = (sizes[first].stop - sizes[first].start) / count
            return _flatten(model, loss, weight)

        # Each process sums its own branch of the tree; the branches are gathered, and every process sums the rest:
        #
        #     micro-batches   0   1   2   3
        #     process 0       0 + 1   |   |
        #     process 1               2 + 3
        #     all             (0 + 1) + (2 + 3)
        branch_sum = tree_sum(mine.start, mine.stop, leaf)
        for rank, total in enumerate(group.gather(branch_sum)):
            flat[rank * len(mine)] = total

        def branch(first: int, last: int) -> Tensor | None:
            return flat.get(first) if last - first == len(mine) else None

        return _unflatten(model, tree_sum(0, recipe.micro_batches, branch))

    def _fast(
        self,
        mine: range,
        micro_batch: Callable[[int], Tensor],
        sizes: list[slice],
        count: int,
        saved_buffers: list[Tensor],
    ) -> Tensor:
        """Let DistributedDataParallel all-reduce the gradients during the backward pass of the last micro-batch."""
        model, forward = self.state.model, self.forward
        assert isinstance(forward, DistributedDataParallel)
        rest: Tensor | None = None
        for number in mine:
            _restore(model, saved_buffers)
            context: AbstractContextManager[None] = nullcontext() if number == mine[-1] else forward.no_sync()
            with context:
                loss = micro_batch(number)
            weight = (sizes[number].stop - sizes[number].start) / count
            part = torch.cat([*(weight * buffer.reshape(-1) for buffer in _float_buffers(model)), loss.float()[None]])
            rest = part if rest is None else rest.add_(part)
        assert rest is not None
        return _unflatten_buffers(model, self.group.add(rest))

    def _micro_batch(
        self,
        number: int,
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        count: int,
        saved_buffers: list[Tensor],
    ) -> Tensor:
        """Run forward and backward on a micro-batch; if memory runs out, retry with more activation checkpointing."""
        while True:
            try:
                return self._forward_backward(number, images, labels, indices, count)
            except (RuntimeError, MemoryError) as error:
                # A retry would repeat DDP's collective calls on one process only.
                in_step = isinstance(self.forward, DistributedDataParallel)
                if not is_out_of_memory(error) or in_step or self.checkpoint_level == MAX_CHECKPOINT_LEVEL:
                    if is_out_of_memory(error):
                        raise memory_error(len(labels), self.recipe.micro_batches) from error
                    raise
            self.state.model.zero_grad(set_to_none=True)
            _restore(self.state.model, saved_buffers)
            if not release_memory(self.device):
                self.checkpoint_level += 1
                self.on_message(recomputation_note(len(labels), self.checkpoint_level))

    def _forward_backward(
        self, number: int, images: Tensor, labels: Tensor, indices: Tensor | None, count: int
    ) -> Tensor:
        recipe, model = self.recipe, self.state.model
        torch.manual_seed(seed_of(self.seed, self.state.step + 1, number))
        inputs, targets = normalize(images, self.preprocessing), labels
        if self.objective.multi_label:
            targets = multi_hot(labels, self.classes)
        if self._mix:
            choice = int(torch.randint(0, len(self._mix), ()))
            inputs, targets = self._mix[choice](inputs, targets)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        reduced = has_bfloat16(self.device) if recipe.precision == "auto" else recipe.precision == "bfloat16"
        # DistributedDataParallel averages gradients over the processes; the loss needs their sum.
        scale = self.group.size if isinstance(self.forward, DistributedDataParallel) else 1
        with (
            with_recomputation(model, self.checkpoint_level),
            fake_quantized(model, active=recipe.quantization == "int8"),
        ):
            forward = model if self.checkpoint_level and self.forward is not model and scale == 1 else self.forward
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced):
                logits = forward(inputs)
            loss = loss_of(self.objective, logits.float(), targets)
            if self.teacher is not None and indices is not None:
                # On a CPU, torch's operations in evaluation are slower in bfloat16.
                with torch.autocast(
                    self.device.type, dtype=torch.bfloat16, enabled=reduced and self.device.type != "cpu"
                ):
                    taught = self.teacher(inputs, indices)
                loss = distilled(loss, logits.float(), taught.float(), recipe.distillation, self.objective.link)
            # Recomputation updates batch-norm statistics a second time: keep those of the forward pass.
            buffers = [buffer.clone() for buffer in model.buffers()] if self.checkpoint_level else []
            torch.autograd.backward(loss * (scale / count))
        if buffers:
            _restore(model, buffers)
        return loss.detach()


def seed_of(seed: int, step: int, micro_batch: int) -> int:
    """Mix three numbers into a seed of 63 bits; step 0 is the initialization of the weights.

    Example:
        >>> seed_of(0, 1, 0) == seed_of(0, 1, 0) != seed_of(0, 1, 1)
        True
    """
    return int(np.random.SeedSequence((seed, step, micro_batch)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _has_first_gradient(state: State) -> bool:
    """Return whether a parameter has its first gradient: the optimizer then creates state that cannot be undone."""
    known, optimizer = state.optimizer.state, state.optimizer
    if isinstance(optimizer, torch.optim.SGD) and not optimizer.defaults["momentum"]:
        return False  # this optimizer never creates state
    return any(parameter.grad is not None and parameter not in known for parameter in state.model.parameters())


@torch.no_grad()
def update_if_finite(state: State, saved_buffers: list[Tensor], loss: Tensor, count: int, decay: float) -> None:
    """Update the state if loss and gradients are finite, else undo the step, without synchronizing with the device.

    Args:
        state: The state, with gradients.
        saved_buffers: The model's buffers before the step.
        loss: Sum of losses of the batch.
        count: Number of images in the batch.
        decay: Decay of the moving average.
    """
    finite = _is_finite(state.model, loss)
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    for gradient in gradients:
        torch.where(finite, gradient, torch.zeros_like(gradient), out=gradient)
    for buffer, old in zip(state.model.buffers(), saved_buffers, strict=True):
        torch.where(finite, buffer, old, out=buffer)
    changed: list[Tensor] = [parameter for parameter in state.model.parameters() if parameter.grad is not None]
    changed += [value for values in state.optimizer.state.values() for value in values.values() if value is not None]
    changed += state.average.tensors
    unchanged = [value.clone() for value in changed]
    state.optimizer.step()
    state.average.update(decay)
    # new * 1 + old * 0 is exact, and so is new * 0 + old * 1, since all values are finite.
    keep = finite.to(torch.float32)
    torch._foreach_mul_(changed, keep)
    torch._foreach_mul_(unchanged, 1 - keep)
    torch._foreach_add_(changed, unchanged)
    _count(state, finite, loss, count)


def _count(state: State, finite: Tensor, loss: Tensor, count: int) -> None:
    """Add the loss of a step to the running sums, or count the step as skipped."""
    tally, one = state.tally, finite.to(state.tally.dtype)
    value = torch.where(finite, loss, torch.zeros_like(loss)).to(tally.dtype)
    skipped_steps = 1 - one
    tally += torch.stack([value, one * count, skipped_steps, skipped_steps])
    tally[3] *= skipped_steps  # skipped steps in a row: back to 0 after a finite step
    mean = torch.where(finite, loss / count, torch.full_like(loss, float("nan")))
    state.recent[state.step % WINDOW] = mean


def _is_finite(model: nn.Module, loss: Tensor) -> Tensor:
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    # A norm is finite only if all elements are, and one stacked tensor needs one synchronization.
    norms = torch._foreach_norm(gradients)
    return torch.stack([*norms, loss.to(norms[0].dtype)]).isfinite().all()


@torch.no_grad()
def _restore(model: nn.Module, values: list[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), values, strict=True):
        buffer.copy_(value)


def _float_buffers(model: nn.Module) -> Iterator[Tensor]:
    return (buffer for buffer in model.buffers() if buffer.is_floating_point())


@torch.no_grad()
def _flatten(model: nn.Module, loss: Tensor, weight: float) -> Tensor:
    """Move gradients, weighted buffers and the loss into one flat tensor.

    [ gradient 0 | gradient 1 | ... | weight * buffer 0 | weight * buffer 1 | ... | loss ]
    """
    parts = []
    for parameter in _trained(model):
        gradient, parameter.grad = parameter.grad, None
        parts.append((torch.zeros_like(parameter) if gradient is None else gradient).reshape(-1))
    parts += [weight * buffer.reshape(-1) for buffer in _float_buffers(model)]
    return torch.cat([*parts, loss.to(parts[0].dtype)[None]])


@torch.no_grad()
def _unflatten(model: nn.Module, flat: Tensor) -> Tensor:
    """Copy the sum of tensors of :func:`_flatten` back into the model, and return the loss."""
    parameters = list(_trained(model))
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values in zip(parameters, torch.split(flat[: sum(sizes)], sizes), strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(values.view(parameter.shape))
    return _unflatten_buffers(model, flat[sum(sizes) :])


@torch.no_grad()
def _unflatten_buffers(model: nn.Module, flat: Tensor) -> Tensor:
    buffers = list(_float_buffers(model))
    for buffer, values in zip(buffers, torch.split(flat[:-1], [buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view(buffer.shape))
    return flat[-1]


def _trained(model: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)
