"""The processes that train together: started by ``python -m torch.distributed.run``, or this one alone."""

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

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others within a training."""

PREPARE_TIMEOUT = timedelta(hours=12)
"""How long the others wait for the first, which scans the images."""

_POLL_SECONDS = 0.2
_BUCKET = 1 << 24  # elements that are gathered at a time, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those that train together; alone, nothing waits and nothing is sent.

    Attributes:
        rank: 0 for the process that writes.
        size: number of processes.
        store: what the processes tell each other by, None alone.
    """

    rank: int = 0
    size: int = 1
    store: Store | None = None

    @property
    def is_writer(self) -> bool:
        """Whether this process writes to the run."""
        return self.rank == 0

    def gather(self, values: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, all of one shape, by rank.

        Raises:
            JobError: another process did not answer in time or was lost.
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
        """Return the sum over all processes, in whatever order the backend adds; the tensor is written over.

        Raises:
            JobError: another process did not answer in time or was lost.
        """
        if self.size > 1:
            with _waiting(self):
                dist.all_reduce(values)
        return values

    def share_text(self, text: str) -> str:
        """Return the text of the first process.

        Raises:
            JobError: the first process did not answer in time or was lost.
        """
        if self.size == 1:
            return text
        texts = [text]
        with _waiting(self):
            dist.broadcast_object_list(texts, 0)
        return texts[0]

    def share_tensors(self, tensors: dict[str, Tensor] | None, device: torch.device) -> dict[str, Tensor]:
        """Return the tensors of the first process, which alone has some; elsewhere they lie on the device.

        Raises:
            JobError: the first process did not answer in time or was lost.
        """
        if self.size == 1:
            assert tensors is not None
            return tensors
        named: list[Any] = [None if tensors is None else {name: _empty(value) for name, value in tensors.items()}]
        with _waiting(self):
            dist.broadcast_object_list(named, 0)
            shared = {}
            for name, empty in named[0].items():
                known = torch.empty_like(empty, device=device) if tensors is None else tensors[name]
                values = known.to(device).contiguous()
                dist.broadcast(values, 0)
                shared[name] = values
        return shared

    def share_objects(self, own: Any) -> list[Any]:
        """Return what each process has, by rank.

        Raises:
            JobError: another process did not answer in time or was lost.
        """
        if self.size == 1:
            return [own]
        gathered: list[Any] = [None] * self.size
        with _waiting(self):
            dist.all_gather_object(gathered, own)
        return gathered

    def send(self, key: str, text: str) -> None:
        """Tell the other processes a text under a key that is used once."""
        if self.store is not None:
            self.store.set(key, text)

    def receive(self, key: str, timeout: timedelta = PREPARE_TIMEOUT) -> str:
        """Return what another process told under a key, as soon as it has.

        Raises:
            JobError: it has not within the time.
        """
        assert self.store is not None
        until = time.monotonic() + timeout.total_seconds()
        with _waiting(self):
            while not self.store.check([key]):
                if time.monotonic() > until:
                    raise JobError(f"process {self.rank} waited {timeout} for process 0 to say {key}; see its messages")
                time.sleep(_POLL_SECONDS)
            return str(self.store.get(key).decode())

    def barrier(self, what: str) -> None:
        """Wait until all processes have come to a point.

        Raises:
            JobError: some have not in time; names them where the backend can tell.
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
    """Join the processes that the environment names (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``).

    The addresses that a restarted process reads are those of this start: each start has keys of its own, as the store
    of ``torch.distributed.run`` outlives the processes and still holds those of lost ones.

    Raises:
        RecipeError: the environment is incomplete.
        JobError: the others did not come.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    rank, start = int(os.environ["RANK"]), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise RecipeError(f"{size} processes were asked for, and {' and '.join(missing)} are not set")
    alone = Group(rank, size)
    with _waiting(alone, "the start"):
        store, _, _ = next(rendezvous("env://", rank, size, timeout=TIMEOUT))
        own = PrefixStore(f"triscale/start-{start}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield Group(rank, size, PrefixStore("words", own))
    finally:
        dist.destroy_process_group()


@contextmanager
def _waiting(group: Group, what: str = "its part of a step") -> Iterator[None]:
    """Turn what torch raises about other processes into a sentence."""
    try:
        yield
    except JobError:
        raise
    except (RuntimeError, TimeoutError) as error:
        message = " ".join(str(error).split())
        raise JobError(
            f"process {group.rank} of {group.size} on {socket.gethostname()} waited for another at {what}, which was "
            f"lost or did not answer within {TIMEOUT} ({message[:300]})"
        ) from error
