"""The execution context: how a job is carried out, apart from what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from triscale.errors import RecipeError
from triscale.progress import LOGGED_PROGRESS, ProgressReporter, StopFlag, never_stop
from triscale.training.accelerator import ACCELERATORS, device_count
from triscale.training.distributed.group import ALONE, Group

CPU = torch.device("cpu")

EngineName = Literal["torch", "xla"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """How and where a job runs. Apart from device, engine and chosen threads, nothing here changes the result.

    Attributes:
        device: Where tensors are computed.
        workers: Image-decoding processes per training process; in a study, trials that are trained in parallel.
        threads: Compute threads per process in a study or a measurement.
        chooses_threads: Whether a new training on the CPU may choose one thread instead of all; the number, which
            changes results by rounding, is recorded in the run.
        group: The process group that trains together; only rank 0 writes.
        compile: Whether the forward pass goes through ``torch.compile``.
        engine: What takes the steps of a training; other jobs always use torch. With XLA, ``device`` is the CPU, where
            the host copy of the state is, and every process of the group is a host with all its XLA devices.
        should_stop: Polled between steps; once it returns true the job saves and raises ``Interrupted``.
        stop_at: The step before which a training stops in the same way; None for the end.
        progress: Receives progress reports; by default notes go to the logger ``triscale``.

    Example:
        >>> ExecutionContext(workers=2).device
        device(type='cpu')
    """

    device: torch.device = CPU
    workers: int = 0
    threads: int = 1
    chooses_threads: bool = False
    group: Group = ALONE
    compile: bool = False
    engine: EngineName = "torch"
    should_stop: StopFlag = never_stop
    stop_at: int | None = None
    progress: ProgressReporter = LOGGED_PROGRESS


_INDEXED = ("cuda", "xpu")
"""Kinds of accelerators of which a machine can have several; ``auto`` takes the first that there is."""

DEFAULT_CONTEXT = ExecutionContext()


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device of a name.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``xpu`` (Intel), either with an index as in ``cuda:1``, just the index of a
            CUDA device, or ``mps`` (Apple); ``auto`` is CUDA or an Intel GPU if available, else the CPU.
        local_rank: Rank of this process on its machine; with several GPUs each process uses its own.

    Raises:
        RecipeError: This machine does not have the device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    known = {"cpu": True} | {kind: is_available() for kind, is_available in ACCELERATORS.items()}
    if name == "auto":
        name = next((kind for kind in _INDEXED if known[kind]), "cpu")
    if name in _INDEXED and known[name]:
        return torch.device(name, local_rank % device_count(name))
    kind, _, index = (f"cuda:{name}" if name.isdecimal() else name).partition(":")
    if known.get(kind) and (not index or (kind in _INDEXED and index.isdecimal() and int(index) < device_count(kind))):
        return torch.device(kind) if not index else torch.device(kind, int(index))
    available = ", ".join(["auto", *(kind for kind, there in known.items() if there)])
    raise RecipeError(f'there is no device "{name}" here; the devices are {available}')


def limit_threads(threads: int | None) -> None:
    """Set the number of threads that torch uses in this process; None keeps torch's default.

    Raises:
        RecipeError: The number is less than 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise RecipeError(f"--threads {threads} is not a number of threads; give 1 or more")
    torch.set_num_threads(threads)
