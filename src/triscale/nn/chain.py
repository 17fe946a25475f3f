r"""Fused chains: convolution, batch norm, activation and squeeze-and-excitation that save one tensor per convolution.

Module by module, autograd saves the output of a convolution, of its batch norm, of the activation and of the
squeeze-and-excitation, all of the same size. A fused chain saves only the convolution's output ``y`` and recomputes the
next convolution's input from it in the backward pass, for one pass over memory and no convolution (as in-place
activated batch norm, Rota Bulo et al. 2018, and gradient checkpointing, Chen et al. 2016)::

    x -> conv -> y -> norm -> act -> se -> conv -> y' -> norm -> act -> ...
                 ^    \___recomputed___/            ^
               saved                             saved

Modules keep their parameters and statistics. A batch norm in evaluation mode (frozen, as fine-tuning keeps it) uses its
running statistics. Modules that a chain does not support or that have hooks are called one by one, and so are all
modules on a GPU, where it has not been measured that chains are faster (:data:`FUSED_DEVICES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from triscale.network.tree import same_pads
from triscale.nn.layers import SameConv2d, SqueezeExcitation, activation
from triscale.nn.native import Native, native
from triscale.nn.operations import AnyGradients, Geometry, Normed, Operations, Portable, convolution
from triscale.nn.units import Unit, has_hooks, parts

SAVED = 5
"""Tensors saved per unit: the convolution's output, mean and variance, and the input and output of its SE."""

FUSED_DEVICES = ("cpu", "meta")
"""Types of devices on which chains are fused; ``meta`` counts the memory of a CPU (:mod:`triscale.measurement.memory`).

On a GPU cuDNN's batch norm competes with the portable operations of a chain, which have no kernels of their own there.
``benchmarks/gpu.py`` measures both; a device belongs in this list once its results show that chains are faster.
"""

_fused_devices: list[tuple[str, ...]] = [FUSED_DEVICES]
"""The last one is in effect, see :func:`fused_on`."""


@contextmanager
def fused_on(*devices: str) -> Iterator[None]:
    """Fuse chains on these types of devices only inside the context, instead of on :data:`FUSED_DEVICES`.

    Example:
        >>> with fused_on("cpu", "cuda"):  # e.g. to save memory on a GPU
        ...     pass
    """
    _fused_devices.append(devices)
    try:
        yield
    finally:
        _fused_devices.pop()


class Chained(nn.Sequential):
    """A sequence of modules that runs its convolutions as fused chains in training."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply all modules."""
        return run(list(self), input)


def run(modules: Sequence[nn.Module], maps: Tensor) -> Tensor:
    """Apply modules in sequence, with convolutions as fused chains in training.

    The result equals that of the modules called one by one, up to rounding. They are called one by one in evaluation,
    under ``torch.compile``, where the compiler decides what to save, and on other devices than :data:`FUSED_DEVICES`.

    Args:
        modules: The modules in order.
        maps: Feature maps ``[N, C, H, W]``.

    Raises:
        ValueError: A batch norm would see one value per channel, the same error as torch's.
    """
    observed = torch.compiler.is_compiling() or _has_any_global_hook()  # type: ignore[no-untyped-call]
    # A fused chain is one autograd function, which the transforms of torch.func (vmap, grad, jvp) do not support.
    transformed = torch._C._are_functorch_transforms_active()
    if (
        observed
        or transformed
        or torch._C._get_tracing_state() is not None
        or not any(module.training for module in modules)
        or maps.device.type not in _fused_devices[-1]
    ):
        for module in modules:
            maps = module(maps)
        return maps
    for part in parts(list(_leaves(modules))):
        maps = part(maps) if isinstance(part, nn.Module) else _apply(part, maps)
    return maps


def _leaves(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, Chained) and not has_hooks(module):
            yield from _leaves(module)
        else:
            yield module


def _apply(units: list[Unit], maps: Tensor) -> Tensor:
    out: Tensor = _Chain.apply(maps, tuple(units), *(value for unit in units for value in unit.parameters))
    return out


def _geometry(conv: nn.Conv2d, maps: Tensor) -> Geometry:
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if isinstance(conv, SameConv2d):
        return Geometry(stride, same_pads(maps.shape[-2:], kernel, stride), conv.groups)
    assert not isinstance(conv.padding, str)
    vertical, horizontal = conv.padding
    return Geometry(stride, (vertical, vertical, horizontal, horizontal), conv.groups)


@cache
def _portable() -> Operations:
    return Portable()


@cache
def _native(dtype: torch.dtype) -> Operations:
    return native(dtype) or _portable()


def _operations(maps: Tensor, parameters: tuple[Tensor, ...]) -> Operations:
    """Return the native functions if they support a map, else torch's; dispatch modes see only torch's operations.

    Under autocast to bfloat16 they store maps in bfloat16, and the parameters stay float32.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    is_supported = (
        type(maps) is Tensor
        and maps.device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and maps.dtype in (torch.float32, dtype)
        and all(value.dtype == torch.float32 for value in parameters)
        and maps.numel() > 0
        and torch._C._len_torch_dispatch_stack() == 0
    )
    return _native(dtype) if is_supported and not _portable_only else _portable()


_portable_only: list[bool] = []
"""Not empty inside :func:`portable_only`."""


@contextmanager
def portable_only(*, active: bool = True) -> Iterator[None]:
    """Disable the native kernels inside the context, so that all ranks of a job compute the same results."""
    if active:
        _portable_only.append(True)
    try:
        yield
    finally:
        if active:
            _portable_only.pop()


class _Chain(torch.autograd.Function):
    """A sequence of units; saves the input, the outputs of the convolutions and per-channel tensors."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, units: tuple[Unit, ...], *parameters: Tensor) -> Tensor:
        ctx.units, ctx.autocast = units, _autocast(maps.device.type)
        ctx.operations = operations = _operations(maps, parameters)
        if isinstance(operations, Native):
            maps = maps.to(operations.dtype).contiguous(memory_format=torch.channels_last)
        source: Normed | Tensor = maps
        geometries: list[Geometry] = []
        saved: list[Tensor | None] = []
        for unit in units:
            geometries.append(_geometry(unit.conv, source if isinstance(source, Tensor) else source.y))
            if unit.frozen:
                y = operations.convolve(source, unit.conv.weight, geometries[-1])
                mean, variance = _running_statistics(unit.norm, y)
            else:
                y, mean, variance = operations.convolve_with_moments(source, unit.conv.weight, geometries[-1])
                _count(unit.norm, y, mean, variance)
            source = unit.normed(y, mean, variance, unit.norm.weight, unit.norm.bias)
            means = se = None
            if unit.se is not None:
                means = operations.pixel_means(source)
                se = _se_scale(unit.se, means, unit.parameters[3:])
                source = replace(source, se=se)
            saved += [y, mean, variance, means, se]
        ctx.geometries = geometries
        ctx.save_for_backward(maps, *parameters, *saved)
        assert isinstance(source, Normed)
        return operations.activate(source)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: double backward
            return _differentiable_backward(ctx, gradient)
        operations: Operations = ctx.operations
        maps, links = _links(ctx.units, ctx.saved_tensors)
        gradients: list[tuple[Tensor | None, ...]] = []
        # From the last unit to the first; native kernels return the previous unit's norm gradients (PendingGradients).
        incoming: Tensor | AnyGradients | None = gradient
        with torch.autocast(*ctx.autocast):
            for at in reversed(range(len(links))):
                link, before = links[at], links[at - 1].source if at else maps
                se_of: tuple[Tensor | None, ...] = ()
                if isinstance(incoming, Tensor):
                    of_means = None
                    if link.unit.se is not None:
                        of_means, se_of = _se_backward(link, operations.se_scale_gradient(link.source, incoming))
                    owned = incoming is not gradient  # autograd owns the gradient that it passed in
                    incoming = operations.norm_backward(link.source, incoming, of_means, owned=owned)
                assert incoming is not None
                after, needs_input = incoming, at > 0 or ctx.needs_input_grad[0]
                incoming, of_weight = operations.convolve_backward(
                    before, link.weight, ctx.geometries[at], after, needs_input
                )
                gradients.append((of_weight, after.weight, after.bias, *se_of))
        assert incoming is None or isinstance(incoming, Tensor)
        return incoming, None, *(value for values in reversed(gradients) for value in values)


def _differentiable_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Compute the gradients of a chain by autograd through plain operations, which supports double backward."""
    maps, *values = ctx.saved_tensors
    parameters = values[: sum(len(unit.parameters) for unit in ctx.units)]
    with torch.autocast(*ctx.autocast):
        out = _plain_chain(ctx.units, ctx.geometries, maps, parameters)
    inputs = [value for value in (maps, *parameters) if value.requires_grad]
    computed = iter(torch.autograd.grad(out, inputs, gradient, create_graph=True))
    of_maps, *rest = (next(computed) if value.requires_grad else None for value in (maps, *parameters))
    return of_maps, None, *rest


def _plain_chain(
    units: tuple[Unit, ...], geometries: Sequence[Geometry], maps: Tensor, parameters: Sequence[Tensor]
) -> Tensor:
    """Compute a chain with torch's operations, without updating running statistics."""
    remaining = iter(parameters)
    for unit, geometry in zip(units, geometries, strict=True):
        weight, norm_weight, norm_bias, *of_se = (next(remaining) for _ in unit.parameters)
        y = convolution(maps, weight, geometry)
        mean, variance = _running_statistics(unit.norm, y) if unit.frozen else (None, None)
        z = F.batch_norm(y, mean, variance, norm_weight, norm_bias, training=not unit.frozen, eps=unit.norm.eps)
        maps = z if unit.activation is None else activation(unit.activation, inplace=False)(z)
        if unit.se is not None:
            maps = maps * _se_scale(unit.se, maps.mean((2, 3)), of_se)[:, :, None, None].to(maps.dtype)
    return maps


@dataclass(frozen=True, slots=True)
class _Link:
    """A unit with its saved tensors; ``means`` are the inputs of its SE."""

    unit: Unit
    weight: Tensor
    se_of: tuple[Tensor, ...]
    source: Normed
    means: Tensor | None


def _links(units: tuple[Unit, ...], saved: tuple[Any, ...]) -> tuple[Tensor, list[_Link]]:
    """Return the chain's input and its links from the saved tensors of :class:`_Chain`."""
    values: Iterator[Any] = iter(saved)
    maps: Tensor = next(values)
    parameters = [[next(values) for _ in unit.parameters] for unit in units]
    links = []
    for unit, (weight, norm_weight, norm_bias, *se_of) in zip(units, parameters, strict=True):
        y, mean, variance, means, se = (next(values) for _ in range(SAVED))
        source = replace(unit.normed(y, mean, variance, norm_weight, norm_bias), se=se)
        links.append(_Link(unit, weight, tuple(se_of), source, means))
    return maps, links


def _se_backward(link: _Link, gradient: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Return the gradients of an SE's input means and parameters; its forward pass is recomputed."""
    assert link.unit.se is not None
    assert link.means is not None
    means = link.means.detach().requires_grad_()
    parameters = [value.detach().requires_grad_(value.requires_grad) for value in link.se_of]
    with torch.enable_grad():
        se = _se_scale(link.unit.se, means, parameters)
    trained = [value for value in parameters if value.requires_grad]
    of_means, *rest = torch.autograd.grad(se, [means, *trained], gradient.to(se.dtype))
    of_trained = iter(rest)  # gradients of the parameters that are not frozen
    return of_means, tuple(next(of_trained) if value.requires_grad else None for value in parameters)


def _se_scale(se: SqueezeExcitation, means: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return the scale ``[N, C]`` of an SE with given parameters from the means ``[N, C]`` of its input.

    A 1x1 convolution of one pixel is computed as a matrix product, which has several times less overhead in torch.
    """
    values, remaining = means, list(parameters)
    for module in se:
        if isinstance(module, nn.Conv2d):
            weight = remaining.pop(0).flatten(1)
            values = F.linear(values, weight, None if module.bias is None else remaining.pop(0))
        else:
            values = module(values)
    return values.to(means.dtype)


def _running_statistics(norm: nn.BatchNorm2d, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return running mean and variance, in float64 for maps in float64, else in float32."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    dtype = torch.float64 if y.dtype == torch.float64 else torch.float32
    return norm.running_mean.to(dtype), norm.running_var.to(dtype)


@torch.no_grad()
def _count(norm: nn.BatchNorm2d, y: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics of a norm as torch does, with the unbiased variance."""
    # Batches are normalized with the biased variance, but the running one is unbiased: n / (n - 1).
    count = y.numel() // y.shape[1]
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {y.shape}")
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)


def _autocast(device: str) -> tuple[str, torch.dtype, bool]:
    """Return the arguments of ``torch.autocast`` that restore its current state."""
    if not torch.amp.is_autocast_available(device):
        return "cpu", torch.bfloat16, False
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
