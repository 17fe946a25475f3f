"""Fused chains on the device: which kernels they have there, their time and their memory, block by block.

A device belongs in ``triscale.nn.chain.FUSED_DEVICES`` if the chains are faster in the row ``verdict``. Whole networks
with fused chains are rows of the part ``speed``, and their gradients of the part ``gradients``.
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor, nn

from gpu_parts.rows import Result, Rows, Setting
from gpu_parts.speed import Step, interleaved, spread
from steps import saved_bytes
from triscale import get
from triscale.network.lower import lower
from triscale.network.tree import block_paths
from triscale.nn import chain
from triscale.nn.build import build

NETWORK, SIDE, BATCH = "efficientnet_b0", 224, 128
BLOCKS = 4
"""Number of blocks that are timed, evenly spaced over the network."""


def run(rows: Rows) -> None:
    """Time blocks, then conclude."""
    setting = rows.setting
    side, batch = (32, 4) if setting.tiny else (SIDE, BATCH)
    paths = block_paths(lower(get(f"{NETWORK}@{side}")))
    chosen = [paths[round(index * (len(paths) - 1) / (BLOCKS - 1))] for index in range(BLOCKS)]
    timed = [rows.once(path, lambda path=path: time_block(path, side, batch, setting)) for path in chosen]
    rows.once("verdict", lambda: verdict(timed, setting))


def time_block(path: str, side: int, batch: int, setting: Setting) -> Result:
    """Time forward and backward pass of one block, module by module and as fused chains."""
    device, inputs = setting.device, []
    torch.manual_seed(0)
    model = build(get(f"{NETWORK}@{side}")).to(device).to(memory_format=torch.channels_last).train()
    block = model.get_submodule(path)
    handle = block.register_forward_pre_hook(lambda module, given: inputs.append(given[0].detach().clone()))
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        model(torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last))
    handle.remove()
    maps: Tensor = inputs[0].requires_grad_()
    seconds, peaks = interleaved(
        {name: step_of(block, maps, devices) for name, devices in (("plain", ()), ("fused", (device.type,)))},
        device,
        rounds=2 if setting.tiny else 9,
        repeats=1 if setting.tiny else 20,
    )
    ratios = [fused / plain for fused, plain in zip(seconds["fused"], seconds["plain"], strict=True)]
    saved = {name: saved_by(block, maps, devices) for name, devices in (("plain", ()), ("fused", (device.type,)))}
    return {
        "input": list(maps.shape),
        "milliseconds": {name: spread([1e3 * value for value in times]) for name, times in seconds.items()},
        "time of fused relative to plain": spread(ratios),
        "bytes saved for backward": saved,
        "peak bytes": peaks,
        "operations": operations_on(device),
    }


def step_of(block: nn.Module, maps: Tensor, devices: tuple[str, ...]) -> Step:
    """Return a function that runs forward and backward, with chains fused on some devices."""

    def step() -> None:
        with chain.fused_on(*devices), torch.autocast(maps.device.type, dtype=torch.bfloat16):
            result = block(maps)
        torch.autograd.backward(result.float().square().mean())
        block.zero_grad(set_to_none=True)
        maps.grad = None

    return step


def saved_by(block: nn.Module, maps: Tensor, devices: tuple[str, ...]) -> int:
    """Return the bytes that autograd keeps between forward and backward pass, with chains fused on these devices."""
    with chain.fused_on(*devices), torch.autocast(maps.device.type, dtype=torch.bfloat16):
        return saved_bytes(block, lambda: block(maps))


def operations_on(device: torch.device) -> str:
    """Return the name of the operations that a chain uses on a device: ``Portable`` are torch's own."""
    maps = torch.zeros(1, 8, 4, 4, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        return type(chain._operations(maps, (maps,))).__name__


def verdict(timed: list[Result], setting: Setting) -> Result:
    """Say whether chains are faster, and whether the code agrees."""
    ratios = [row["time of fused relative to plain"]["median"] for row in timed if "operations" in row]
    if not ratios:
        return {"failed": ["no block could be timed"]}
    ratio = statistics.geometric_mean(ratios)
    return {
        "time of fused relative to plain": float(f"{ratio:.3g}"),
        "chains are faster": ratio < 1,
        "FUSED_DEVICES has the device": setting.device.type in chain.FUSED_DEVICES,
        "operations": operations_on(setting.device),
    }
