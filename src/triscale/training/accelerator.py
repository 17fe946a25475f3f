"""What differs between devices: GPUs of NVIDIA and AMD (``cuda``), of Intel (``xpu``), of Apple (``mps``), and the CPU.

Everything else in training is the same on every device.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from triscale.errors import RecipeError

ACCELERATORS: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "xpu": torch.xpu.is_available,
    "mps": torch.backends.mps.is_available,
}
"""The kinds of accelerators, in the order in which ``auto`` could prefer them, and whether this machine has one."""


def device_count(kind: str) -> int:
    """Return the number of devices of a kind on this machine; 1 for kinds that have no index.

    Example:
        >>> device_count("cpu")
        1
    """
    match kind:
        case "cuda":
            return torch.cuda.device_count()
        case "xpu":
            return torch.xpu.device_count()
        case _:
            return 1


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished all its work; a CPU has none that is pending."""
    match device.type:
        case "cuda":
            torch.cuda.synchronize(device)
        case "xpu":
            torch.xpu.synchronize(device)
        case "mps":
            torch.mps.synchronize()
        case _:
            pass


def release_cached(device: torch.device) -> bool:
    """Return the memory that torch caches for a device to its driver; False for a device without such a cache."""
    match device.type:
        case "cuda":
            torch.cuda.empty_cache()
        case "xpu":
            torch.xpu.empty_cache()
        case "mps":
            torch.mps.empty_cache()
        case _:
            return False
    return True


def device_memory(device: torch.device) -> tuple[int, int] | None:
    """Return the free and the total memory of a device in bytes; None for one that uses the computer's memory.

    Apple's GPU shares the computer's memory; its figures are what Metal recommends as the most that a process uses.
    """
    match device.type:
        case "cuda":
            free, total = torch.cuda.mem_get_info(device)
        case "xpu":
            free, total = torch.xpu.mem_get_info(device)
        case "mps":
            total = torch.mps.recommended_max_memory()
            free = max(0, total - torch.mps.driver_allocated_memory())
        case _:
            return None
    return int(free), int(total)


def device_name(device: torch.device) -> str | None:
    """Return the name of an accelerator; None for a CPU."""
    match device.type:
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "xpu":
            return torch.xpu.get_device_name(device)
        case "mps":
            return "Apple GPU"
        case _:
            return None


def is_pinned_source(device: torch.device) -> bool:
    """Return whether copies from page-locked memory to a device are faster and asynchronous."""
    return device.type in {"cuda", "xpu"}


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes bfloat16 in hardware; a GPU from before 2020 emulates it, which is slower.

    Example:
        >>> has_bfloat16(torch.device("cpu"))
        False
    """
    match device.type:
        case "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        case "xpu":
            return True
        case _:
            return False


def has_float64(device: torch.device) -> bool:
    """Return whether torch supports float64 on a device; Apple's GPU does not."""
    return device.type != "mps"


def has_fused_optimizer(device: torch.device) -> bool:
    """Return whether torch's optimizers keep their step counts on a device if they are fused."""
    return device.type in ACCELERATORS


def distributed_backend(device: torch.device) -> str:
    """Return the backend of the process group for a device.

    NCCL and XCCL need a GPU for each process. Gloo serves processes that share one, which is of use for tests only.

    Raises:
        RecipeError: Several processes cannot train on this kind of device.
    """
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    has_own_device = local_size <= device_count(device.type)
    match device.type:
        case "cuda":
            return "nccl" if has_own_device else "gloo"
        case "xpu":
            if not has_own_device:
                raise RecipeError(
                    f"{local_size} processes share {device_count('xpu')} Intel GPU; start one process for each GPU"
                )
            return "xccl"
        case "mps":
            raise RecipeError("several processes cannot train on Apple's GPU; start one, or give --device cpu")
        case _:
            return "gloo"
