"""Synchronized batch norm: statistics over the batches of all processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from triscale.errors import RecipeError
from triscale.training.distributed.group import Group
from triscale.training.recipe import Recipe


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm with statistics over all processes; torch.nn.SyncBatchNorm does not support the CPU.

    The variance takes a second all-reduce: the mean of squared deviations from the global mean is numerically stable,
    unlike the difference of ``E[x^2]`` and ``E[x]^2``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``[N, C, H, W]`` over N, H, W and the processes."""
        if not self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        values = input.float()
        number = values.new_tensor([values.numel() // values.shape[1]])
        sums = _over_processes(torch.cat([values.sum((0, 2, 3)), number]))
        count = sums[-1]
        mean = sums[:-1] / count
        centered = values - mean[:, None, None]
        variance = _over_processes(centered.square().sum((0, 2, 3))) / count
        # Running statistics hold the unbiased variance, as in torch.nn.BatchNorm2d.
        self._update_running(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalized = centered * scale[:, None, None] + self.bias[:, None, None]
        return normalized.to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def _over_processes(values: Tensor) -> Tensor:
    """Return the differentiable sum over all processes."""
    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total


def sync_batch_norm(model: nn.Module, recipe: Recipe, group: Group) -> nn.Module:
    """Return the model, with :class:`SyncBatchNorm` if the recipe's ``norm_over`` is ``batch``.

    Raises:
        RecipeError: Statistics over the batch are requested, but a process has several micro-batches.
    """
    if recipe.norm_over == "micro_batch" or recipe.micro_batches == 1:
        return model
    if recipe.micro_batches != group.size:
        raise RecipeError(
            f'norm_over "batch" needs one micro-batch for each process; there are {recipe.micro_batches} micro-batches '
            f"and {group.size} processes: start {recipe.micro_batches} processes, or give --set norm_over=micro_batch"
        )
    return _converted(model)


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        synced = SyncBatchNorm(module.num_features, eps=module.eps, momentum=module.momentum)
        synced.load_state_dict(module.state_dict())
        return synced
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module
