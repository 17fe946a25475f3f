"""The cost of custom models, counted in one forward pass: on the meta device, or with real tensors where that fails."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from triscale.errors import NetworkError
from triscale.network.cost import Cost, Counts, StageCost, figures
from triscale.network.custom import CustomNetwork
from triscale.network.input_size import ImageShape
from triscale.network.spec import RGB
from triscale.network.tree import Shape
from triscale.nn.custom import build_custom, failure

_CHANNELS_HINT = "; give the function a parameter in_channels, which it is then called with"
_SIZE_HINT = "; with --law 1.2,1.1,1 the resolution stays as it is"
BIASED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Modules whose bias is added to each activation."""


def _size_of_output(*arguments: Any, out_shape: Any = None, **options: Any) -> int:
    del arguments, options
    return torch.Size(out_shape).numel()


_aten = torch.ops.aten
PRODUCTS = (_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.convolution, _aten._convolution)
"""Operations whose outputs are activations: convolutions, also transposed ones, and matrix products."""
_needs_values: set[str] = set()
"""Functions of custom models that could not be counted on the meta device before."""


def trace_cost(network: CustomNetwork) -> Cost:
    """Count a custom model, for each child of its module.

    The conventions are those of :mod:`triscale.network.cost`: MACs of convolutions and matrix products, and their
    outputs as activations, whether modules or functions compute them. No weights are allocated if the model can be
    built and run on the meta device. If not, because it needs values, it is built and run on the CPU.

    Raises:
        NetworkError: The module cannot be built or run, or does not return ``[N, classes]`` logits.
    """
    if network.function not in _needs_values:
        try:
            return _counted(network, "meta")
        except NetworkError as error:
            if error.__cause__ is None:  # it ran, and its output is not what is expected
                raise
    found = _counted(network, "cpu")
    _needs_values.add(network.function)
    return found


def _counted(network: CustomNetwork, device: str) -> Cost:
    with torch.device(device), torch.random.fork_rng(devices=[]), _plain_operations():
        model = build_custom(network).eval()
    tracer = _Tracer(model, network.input_shape)
    images = torch.rand(1, *network.input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    macs_counter = FlopCounterMode(display=False)
    activation_counter = FlopCounterMode(display=False, custom_mapping=dict.fromkeys(PRODUCTS, _size_of_output))
    try:
        with torch.no_grad(), _plain_operations(), macs_counter, activation_counter:
            logits = model(images)
    # The model is the user's, and may raise anything.
    except Exception as error:
        raise _cannot_run(network, error) from error
    finally:
        tracer.close()
    if not isinstance(logits, Tensor) or logits.shape != (1, network.classes):
        returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(
            f"{network.function} returns {returned} for one image; expected (1, {network.classes}) logits"
        )
    # FlopCounterMode counts a multiply-accumulate as two operations.
    macs = {path: flops // 2 for path, flops in _by_module(macs_counter).items()}
    activations = _by_module(activation_counter)
    root = type(model).__name__
    parts, total = [], Counts()
    for name, child in [*model.named_children(), ("", model)]:
        path = f"{root}.{name}" if name else root
        counts = Counts(
            params=sum(p.numel() for p in child.parameters()),
            buffers=sum(b.numel() for key, b in child.named_buffers() if not key.endswith("num_batches_tracked")),
            macs=_sum_of(child, path, macs),
            biased=tracer.sum(tracer.biased, name),
            normalized=tracer.sum(tracer.normalized, name),
            activations=_sum_of(child, path, activations),
        )
        if name:
            parts.append(StageCost.of(name, tracer.shape(name), counts))
        else:
            total = counts
    return Cost(stages=tuple(parts), **figures(total))


def _cannot_run(network: CustomNetwork, error: Exception) -> NetworkError:
    is_scaled = (network.depth, network.width) != (1, 1)
    hints = (_CHANNELS_HINT if network.in_channels != RGB else "", _SIZE_HINT if is_scaled else "")
    return NetworkError(f"{failure(network, 'cannot be run', error)}{''.join(hints)}")


@contextmanager
def _plain_operations() -> Iterator[None]:
    """Keep torch from fused attention and recurrent layers, whose matrix products it does not show."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    had_mkldnn, *_ = torch.backends.mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]
    try:
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the meta device leaves out
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)
        torch.backends.mkldnn.set_flags(_enabled=had_mkldnn)  # type: ignore[no-untyped-call]


def _by_module(counter: FlopCounterMode) -> dict[str, int]:
    return {str(name): sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}


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


def _sum_of(module: nn.Module, path: str, counted: dict[str, int]) -> int:
    """Return the count of a module, or the sum of its children's if it is not called itself, like a ModuleList."""
    if path in counted:
        return counted[path]
    return sum(_sum_of(child, f"{path}.{name}", counted) for name, child in module.named_children())


class _Tracer:
    """Records the output sizes of modules during one forward pass."""

    def __init__(self, model: nn.Module, input_shape: ImageShape) -> None:
        self._input_shape = input_shape
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
            if isinstance(output, tuple) and output:  # of recurrent and attention layers
                output = output[0]
            if not isinstance(output, Tensor):
                return
            if isinstance(module, BIASED) and module.bias is not None:
                self.biased[name] = self.biased.get(name, 0) + output.numel()
            elif isinstance(module, nn.BatchNorm2d):
                self.normalized[name] = self.normalized.get(name, 0) + output.numel()
            if output.ndim in (2, 3, 4):
                self.shapes[name] = _shape_of(output, self._input_shape)

        return record


def _shape_of(output: Tensor, input_shape: ImageShape) -> Shape:
    """Return the shape of a map, whose channels may come last, of a sequence ``[N, length, channels]``, or of logits.

    Channels come last if the second and third dimension have the ratio of the image, and the last two have not.
    """
    if output.ndim == 2:
        return Shape(output.shape[1], 1, 1)
    if output.ndim == 3:
        return Shape(output.shape[2], 1, output.shape[1])
    _, height, width = input_shape
    first, second, third = output.shape[1:]
    if first * width == second * height and second * width != third * height:
        return Shape(third, first, second)
    return Shape(first, second, third)
