"""Losses and gradients of a network of every family on the device, compared with float64 on the CPU.

Rounding is amplified, by another factor in each network. The bound is therefore relative: the CPU's own float32
(bfloat16) deviates from float64 too, and the device may deviate a few times as much. In a deep network of random
weights, a rounding error moves some values across the kink of ReLU, and each changes the gradient at once: in bfloat16
the gradients of two devices then have nothing in common. So each network is also compared with smooth activations,
and that is where bfloat16 is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpu_parts.rows import Result, Rows, failed_checks
from triscale import cost, get
from triscale.families import FAMILIES
from triscale.nn.build import build
from triscale.nn.chain import fused_on
from triscale.training.transfer import freeze_norms

MAX_RATIO = 10.0
"""Largest deviation of the device, as a multiple of the CPU's in the same precision."""
MAX_DEVIATION = 0.7
"""A gradient that deviates by its own length is noise, or wrong."""
FLOOR = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Deviations below this are never a failure."""
KINKS = 0.1
"""The same for gradients through ReLU, where a single value that crosses the kink makes a difference."""
TINY = ("EfficientNet", "MobileNetV1", "TinyNet")
CPU = torch.device("cpu")
Gradients = dict[str, float | Tensor]
"""The loss, the gradients with batch norm trained and frozen, and the logits in evaluation, in float64 on the CPU."""


def run(rows: Rows) -> None:
    """Compare all families, the smallest network of each."""
    device, tiny = rows.setting.device, rows.setting.tiny
    for family in TINY if tiny else FAMILIES:
        rows.once(family, lambda family=family: compare_family(family, device, tiny=tiny), seconds=40)


def compare_family(family: str, device: torch.device, *, tiny: bool) -> Result:
    """Compare the smallest network of a family."""
    side, number = (32, 4) if tiny else (64, 8)
    name = min((member.network for member in FAMILIES[family]), key=lambda network: cost(network).macs).name
    # Dropout and stochastic depth draw other random numbers on each device.
    network = get(f"{name}@{side}").replace(classes=10, dropout=0.0, drop_path=0.0)
    torch.manual_seed(0)
    model, images = build(network), torch.randn(number, 3, side, side)
    labels = torch.arange(number) % 10
    smooth = smoothed(copy.deepcopy(model))
    result: Result = {"network": network.name, "side": side, "images": number}
    checks: dict[str, bool] = {}
    plain, single, half = fused_on("cpu"), torch.float32, torch.bfloat16
    for label, chosen, dtype, layout, settings in (
        ("as published: float32", model, single, torch.contiguous_format, exact_products()),
        ("float32", smooth, single, torch.contiguous_format, exact_products()),
        ("float32, channels_last", smooth, single, torch.channels_last, exact_products()),
        ("float32, fused chains", smooth, single, torch.channels_last, fused_products(device)),
        ("bfloat16, channels_last", smooth, half, torch.channels_last, plain),
        ("bfloat16, fused chains", smooth, half, torch.channels_last, fused_on("cpu", device.type)),
        ("tensor float 32", smooth, single, torch.channels_last, tensor_float_32()),
    ):
        exact, of_cpu = reference(chosen, images, labels, dtype)
        moved = copy.deepcopy(chosen).to(device).to(memory_format=layout)
        with settings:
            given = images.to(device).contiguous(memory_format=layout)
            found = deviation(gradients_of(moved, given, labels.to(device), device, dtype), exact)
        result[label] = {"device": found, "cpu": of_cpu}
        if label == "tensor float 32":
            continue  # how much it deviates is of interest; it has the mantissa of float16
        for what, value in found.items():
            least = KINKS if chosen is model and what.endswith("gradients") else FLOOR[dtype]
            bound = min(MAX_DEVIATION, max(least, MAX_RATIO * of_cpu[what]))
            checks[f"{label}: deviation of {what} {value:.2g} is at most {bound:.2g}"] = value <= bound
    reference.cache_clear()
    return result | failed_checks(checks)


@cache
def reference(
    model: nn.Module, images: Tensor, labels: Tensor, dtype: torch.dtype
) -> tuple[Gradients, dict[str, float]]:
    """Return the values in float64, and how much the CPU's own in another precision deviate from them."""
    exact = gradients_of(copy.deepcopy(model).double(), images.double(), labels, CPU)
    return exact, deviation(gradients_of(copy.deepcopy(model), images, labels, CPU, dtype), exact)


def smoothed(model: nn.Module) -> nn.Module:
    """Replace activations that have a kink."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6 | nn.Hardswish):
                setattr(module, name, nn.SiLU())
            elif isinstance(child, nn.Hardsigmoid):
                setattr(module, name, nn.Sigmoid())
    return model


def gradients_of(
    model: nn.Module, images: Tensor, labels: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
) -> Gradients:
    """Return the logits in evaluation, then loss and gradients of training steps with frozen and trained norms."""
    found: Gradients = {}
    with torch.inference_mode():
        found["logits"] = model.eval()(images).cpu().double()
    for what, frozen in (("frozen gradients", True), ("gradients", False)):
        model.train()
        if frozen:
            freeze_norms(model)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = model(images)
        loss = F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), labels)
        torch.autograd.backward(loss)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        found[what] = torch.cat([gradient.detach().cpu().double().reshape(-1) for gradient in gradients])
        found["loss"] = float(loss.detach())
        model.zero_grad(set_to_none=True)
    return found


def deviation(found: Gradients, exact: Gradients) -> dict[str, float]:
    """Return the relative deviations of all values, by the norm of their difference."""
    tensors = {name: (torch.as_tensor(found[name]), torch.as_tensor(exact[name])) for name in exact}
    return {name: float((one - other).norm() / other.norm().clamp(min=1e-12)) for name, (one, other) in tensors.items()}


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply float32 in full precision."""
    with precision(matmul=False):
        yield


@contextmanager
def tensor_float_32() -> Iterator[None]:
    """Multiply float32 on tensor cores, with 10 bits of mantissa."""
    with precision(matmul=True):
        yield


@contextmanager
def fused_products(device: torch.device) -> Iterator[None]:
    """Fuse chains, in full precision."""
    with precision(matmul=False), fused_on("cpu", device.type):
        yield


@contextmanager
def precision(*, matmul: bool) -> Iterator[None]:
    """Allow tensor float 32 in matrix products and convolutions, or do not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = matmul
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
