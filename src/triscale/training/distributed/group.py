"""The process group of a training: processes started by ``python -m torch.distributed.run``, or this one alone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from triscale.errors import JobError, RecipeError
from triscale.training.accelerator import distributed_backend

TIMEOUT = timedelta(minutes=10)
"""Timeout of collective operations during training."""

PREPARE_TIMEOUT = timedelta(hours=12)
"""How long the other processes wait while rank 0 scans the images."""

_POLL_SECONDS = 0.2
_BUCKET = 1 << 24  # elements per all_gather call, which bounds memory


@dataclass(frozen=True, slots=True)
class Group:
    """This process and its process group. With one process, nothing is sent or waited for.

    Attributes:
        rank: Rank of this process; rank 0 writes.
        size: Number of processes.
        store: Key-value store that all processes share; None for a single process.

    Example:
        >>> ALONE.add(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    rank: int = 0
    size: int = 1
    store: Store | None = None

    @property
    def is_writer(self) -> bool:
        """Whether this process writes to the run."""
        return self.rank == 0

    def gather(self, values: Tensor) -> list[Tensor]:
        """Gather tensors of the same shape from all processes, by rank.

        Raises:
            JobError: Another process did not answer in time or was lost.
        """
        if self.size == 1:
            return [values]
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        with _waiting(self):
            for first in range(0, values.numel(), _BUCKET):
                part = slice(first, first + _BUCKET)
                dist.all_gather([tensor.view(-1)[part] for tensor in gathered], values.view(-1)[part])
        return gathered

    def add(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes in place, in the backend's order of addition, and return it.

        Raises:
            JobError: Another process did not answer in time or was lost.
        """
        if self.size > 1:
            with _waiting(self):
                dist.all_reduce(values)
        return values

    def share_text(self, text: str) -> str:
        """Broadcast a text from rank 0.

        Raises:
            JobError: The first process did not answer in time or was lost.
        """
        if self.size == 1:
            return text
        texts = [text]
        with _waiting(self):
            dist.broadcast_object_list(texts, 0)
        return texts[0]

    def share_tensors(self, tensors: dict[str, Tensor] | None, device: torch.device) -> dict[str, Tensor]:
        """Broadcast tensors from rank 0.

        Args:
            tensors: The tensors by name on rank 0, None on other ranks.
            device: Device for the broadcast tensors.

        Raises:
            JobError: The first process did not answer in time or was lost.
        """
        if self.size == 1:
            assert tensors is not None
            return tensors
        # First names, shapes and types, so that every rank can allocate the tensors; then the values one by one.
        named: list[Any] = [None if tensors is None else {name: _empty(value) for name, value in tensors.items()}]
        with _waiting(self):
            dist.broadcast_object_list(named, 0)
            shared = {}
            for name, empty in named[0].items():
                local = torch.empty_like(empty, device=device) if tensors is None else tensors[name]
                values = local.to(device).contiguous()
                dist.broadcast(values, 0)
                shared[name] = values
        return shared

    def share_objects(self, value: Any) -> list[Any]:
        """Gather a picklable object from every process, by rank.

        Raises:
            JobError: Another process did not answer in time or was lost.
        """
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        with _waiting(self):
            dist.all_gather_object(gathered, value)
        return gathered

    def send(self, key: str, text: str) -> None:
        """Publish a text under a key that is used only once."""
        if self.store is not None:
            self.store.set(key, text)

    def receive(self, key: str, timeout: timedelta = PREPARE_TIMEOUT) -> str:
        """Wait for the text that another process publishes under a key.

        Raises:
            JobError: Nothing was published in time.
        """
        assert self.store is not None
        deadline = time.monotonic() + timeout.total_seconds()
        with _waiting(self):
            while not self.store.check([key]):
                if time.monotonic() > deadline:
                    raise JobError(
                        f"process {self.rank} waited {timeout} for process 0 to publish {key}; see its messages"
                    )
                time.sleep(_POLL_SECONDS)
            return str(self.store.get(key).decode())

    def barrier(self, what: str) -> None:
        """Wait until all processes have reached a point.

        Raises:
            JobError: Some processes did not reach it in time; the message names them if the backend does.
        """
        if self.size == 1:
            return
        with _waiting(self, what):
            if dist.get_backend() == "gloo":
                dist.monitored_barrier(timeout=TIMEOUT, wait_all_ranks=True)
            else:
                dist.barrier()


def _empty(values: Tensor) -> Tensor:
    return torch.empty_like(values, device="meta", memory_format=torch.contiguous_format)


ALONE = Group()


@contextmanager
def join(device: torch.device) -> Iterator[Group]:
    """Join the process group that the environment names (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``).

    The store of ``torch.distributed.run`` outlives its processes and still holds the addresses of lost ones. Each
    restart therefore uses its own key prefix.

    Args:
        device: The device of this process: NCCL for CUDA, XCCL for Intel GPUs, else Gloo; also Gloo if processes share
            a GPU.

    Raises:
        RecipeError: The environment is incomplete, or several processes cannot train on this kind of device.
        JobError: The other processes did not join in time.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    rank, start = int(os.environ["RANK"]), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise RecipeError(
            f"WORLD_SIZE is {size}, but {' and '.join(missing)} are not set; start the processes with torchrun"
        )
    this_process, backend = Group(rank, size), distributed_backend(device)
    with _waiting(this_process, "the start"):
        store, _, _ = next(rendezvous("env://", rank, size, timeout=TIMEOUT))
        prefixed = PrefixStore(f"triscale/start-{start}", store)
        if device.type != "cpu":
            torch.accelerator.set_device_index(device.index or 0)
        # With its device, NCCL connects at once: an error shows here instead of in the first step.
        own = device if backend in {"nccl", "xccl"} else None
        dist.init_process_group(backend, store=prefixed, rank=rank, world_size=size, timeout=TIMEOUT, device_id=own)
    try:
        yield Group(rank, size, PrefixStore("words", prefixed))
    finally:
        dist.destroy_process_group()


@contextmanager
def _waiting(group: Group, what: str = "its part of a step") -> Iterator[None]:
    """Turn errors that torch raises about other processes into a :class:`JobError`."""
    try:
        yield
    except JobError:
        raise
    except (RuntimeError, TimeoutError) as error:
        message = " ".join(str(error).split())
        raise JobError(
            f"process {group.rank} of {group.size} on {socket.gethostname()} waited at {what} for another process, "
            f"which was lost or did not answer within {TIMEOUT} ({message[:300]})"
        ) from error
