"""Custom models: import, build, and count them by tracing on the meta device."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from triscale.errors import NetworkError
from triscale.network.cost import Cost, Counts, StageCost, figures
from triscale.network.custom import CustomNetwork
from triscale.network.spec import RGB
from triscale.network.tree import Shape

_CHANNELS_HINT = "; give the function a parameter in_channels, which it is then called with"

COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def build_custom(network: CustomNetwork) -> nn.Module:
    """Call the function of a custom model and return its module.

    Raises:
        NetworkError: The function cannot be imported or does not return a module.
    """
    module_name, _, function_name = network.function.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name)
    except (ImportError, AttributeError) as error:
        raise NetworkError(
            f"cannot find {network.function} ({error}); expected package.module:function, importable from this folder"
        ) from error
    try:
        more = {"in_channels": network.in_channels} if _takes_channels(function) else {}
        built = function(depth=network.depth, width=network.width, classes=network.classes, **more)
    except TypeError as error:
        raise NetworkError(
            f"{network.function} cannot be called as build(depth=..., width=..., classes=...): {error}"
        ) from error
    if not isinstance(built, nn.Module):
        raise NetworkError(f"{network.function} returned a {type(built).__name__}; expected a torch.nn.Module")
    return built


def _takes_channels(function: Any) -> bool:
    try:
        return "in_channels" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def trace_cost(network: CustomNetwork) -> Cost:
    """Count a custom model on the meta device, for each child of its module, without allocating weights.

    The conventions are those of :mod:`triscale.network.cost`: MACs of convolutions and matrix products, activations
    of convolutions and linear layers.

    Raises:
        NetworkError: The module cannot be built or run on the meta device, or does not return ``[N, classes]`` logits.
    """
    with torch.device("meta"):
        model = build_custom(network).eval()
    tracer = _Tracer(model)
    images = torch.empty(1, *network.input_shape, device="meta")
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            logits = model(images)
    except (RuntimeError, NotImplementedError) as error:
        more = "" if network.in_channels == RGB else _CHANNELS_HINT
        raise NetworkError(
            f"{network.function} cannot be counted at {network.size} px on the meta device: {error}{more}"
        ) from error
    finally:
        tracer.close()
    if not isinstance(logits, Tensor) or logits.shape != (1, network.classes):
        returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(
            f"{network.function} returns {returned} for one image; expected (1, {network.classes}) logits"
        )
    # FlopCounterMode counts a multiply-accumulate as two operations.
    macs = {str(name): sum(by_op.values()) // 2 for name, by_op in counter.get_flop_counts().items()}
    root = type(model).__name__
    parts, total = [], Counts()
    for name, child in [*model.named_children(), ("", model)]:
        counts = Counts(
            params=sum(p.numel() for p in child.parameters()),
            buffers=sum(b.numel() for key, b in child.named_buffers() if not key.endswith("num_batches_tracked")),
            macs=_macs_of(child, f"{root}.{name}" if name else root, macs),
            biased=tracer.sum(tracer.biased, name),
            normalized=tracer.sum(tracer.normalized, name),
            activations=tracer.sum(tracer.activations, name),
        )
        if name:
            parts.append(StageCost.of(name, tracer.shape(name), counts))
        else:
            total = counts
    return Cost(stages=tuple(parts), **figures(total))


def trace_counts(network: CustomNetwork) -> Counts:
    """Count a custom model as a whole, see :func:`trace_cost`."""
    cost = trace_cost(network)
    return Counts(
        params=cost.params,
        buffers=cost.buffers,
        macs=cost.macs,
        biased=cost.macs_with_bias - cost.macs,
        normalized=cost.macs_with_norm - cost.macs_with_bias,
        activations=cost.activations,
    )


def _macs_of(module: nn.Module, path: str, counted: dict[str, int]) -> int:
    """Return the MACs of a module, or the sum of its children's if it is not called itself, like a ModuleList."""
    if path in counted:
        return counted[path]
    return sum(_macs_of(child, f"{path}.{name}", counted) for name, child in module.named_children())


class _Tracer:
    """Records the output sizes of modules during one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.activations: dict[str, int] = {}
        self.biased: dict[str, int] = {}
        self.normalized: dict[str, int] = {}
        self.shapes: dict[str, Shape] = {}
        self._handles = [module.register_forward_hook(self._hook(name)) for name, module in model.named_modules()]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    @staticmethod
    def sum(counts: dict[str, int], prefix: str) -> int:
        return sum(n for name, n in counts.items() if not prefix or name == prefix or name.startswith(f"{prefix}."))

    def shape(self, prefix: str) -> Shape:
        """Return the shape of the last output of a module or of its submodules."""
        shapes = [shape for name, shape in self.shapes.items() if f"{name}.".startswith(f"{prefix}.")]
        return shapes[-1] if shapes else Shape(0, 0, 0)

    def _hook(self, name: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            del inputs
            if not isinstance(output, Tensor):
                return
            if isinstance(module, COUNTED):
                self.activations[name] = self.activations.get(name, 0) + output.numel()
                if module.bias is not None:
                    self.biased[name] = self.biased.get(name, 0) + output.numel()
            elif isinstance(module, nn.BatchNorm2d):
                self.normalized[name] = self.normalized.get(name, 0) + output.numel()
            if output.ndim in (2, 4):
                self.shapes[name] = Shape(*output.shape[1:])

        return record
