"""Units of fused chains: a convolution with the batch norm, activation and squeeze-and-excitation that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from triscale.network.spec import ActivationKind
from triscale.nn.layers import SameConv2d, SqueezeExcitation
from triscale.nn.operations import Normed

ACTIVATIONS: dict[type[nn.Module], ActivationKind] = {
    nn.ReLU: ActivationKind.RELU,
    nn.ReLU6: ActivationKind.RELU6,
    nn.SiLU: ActivationKind.SILU,
    nn.Sigmoid: ActivationKind.SIGMOID,
    nn.Hardswish: ActivationKind.HARD_SWISH,
    nn.Hardsigmoid: ActivationKind.HARD_SIGMOID,
}
"""Activation modules that a fused chain supports; any other module is called separately."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A convolution with its batch norm, activation and squeeze-and-excitation (SE)."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    frozen: bool
    """Whether the norm was in evaluation mode in the forward pass."""
    activation: ActivationKind | None
    se: SqueezeExcitation | None

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameters, those of the SE last."""
        values = (self.conv.weight, self.norm.weight, self.norm.bias)
        return values if self.se is None else (*values, *self.se.parameters())

    def normed(self, y: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor) -> Normed:
        """Return the map after the norm and activation, before the SE."""
        return Normed(y, mean, variance, weight, bias, self.norm.eps, self.activation, frozen=self.frozen)


def parts(leaves: list[nn.Module]) -> Iterator[nn.Module | list[Unit]]:
    """Yield maximal chains, and the modules between them."""
    units: list[Unit] = []
    at = 0
    while at < len(leaves):
        unit = _unit(leaves[at : at + 4])
        if unit is not None:
            units.append(unit)
            at += 2 + (unit.activation is not None) + (unit.se is not None)
            continue
        if units:
            yield units
            units = []
        yield leaves[at]
        at += 1
    if units:
        yield units


def _unit(leaves: list[nn.Module]) -> Unit | None:
    """Return the unit at the start of a list of modules: convolution, norm, optional activation and SE."""
    if len(leaves) < 2:
        return None
    conv, norm, *rest = leaves
    if not (_is_known_convolution(conv) and _is_known_norm(norm)):
        return None
    kind: ActivationKind | None = None
    if rest and type(rest[0]) in ACTIVATIONS and not has_hooks(rest[0]):
        kind = ACTIVATIONS[type(rest.pop(0))]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    last = rest[0] if rest else None
    se = last if isinstance(last, SqueezeExcitation) and _is_known_se(last) else None
    return Unit(conv, norm, not norm.training, kind, se)


def _is_known_convolution(module: nn.Module) -> bool:
    return (
        type(module) in (nn.Conv2d, SameConv2d)
        and isinstance(module, nn.Conv2d)
        and module.bias is None
        and module.dilation == (1, 1)
        and module.kernel_size[0] == module.kernel_size[1]
        and module.stride[0] == module.stride[1]
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and not has_hooks(module)
    )


def _is_known_norm(module: nn.Module) -> bool:
    return (
        type(module) is nn.BatchNorm2d
        and module.affine
        and module.track_running_stats
        and (module.momentum is not None or not module.training)
        and not has_hooks(module)
    )


def _is_known_se(se: SqueezeExcitation) -> bool:
    pointwise = [module for module in se if type(module) is nn.Conv2d]
    return (
        all(type(module) in (nn.Conv2d, *ACTIVATIONS) for module in se)
        and all(module.kernel_size == (1, 1) and module.groups == 1 for module in pointwise)
        and all(module.padding == (0, 0) and module.stride == (1, 1) for module in pointwise)
        and not any(map(has_hooks, se.modules()))
    )


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module has hooks, or an instance attribute that shadows its class's forward."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
    )
