"""Worker processes that decode images, and are restarted when they are killed or hang.

::

    parent                                         worker w of N
      task t  --request (run, t, slot, size, epoch)-->  indices[slot] -> images[slot]
      images[slot]  <--result (run, t, error or "")--

Slot ``t % (2 N)`` belongs to worker ``t % N``. Each worker prefetches two batches: while the parent consumes task t,
its worker makes task ``t + N``.
"""

from __future__ import annotations

import contextlib
import gc
import math
import mmap
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triscale.errors import DataError, JobError

Load = Callable[..., Tensor | str]
"""From epoch and index to an image, or to an error message; with ``fresh=True`` without any cache."""

BATCH_TIMEOUT_SECONDS = 600.0
"""Maximum time to wait for one batch."""

MAX_RESTARTS = 3
"""Maximum number of worker restarts, over all workers."""

_POLL_SECONDS = 2.0
_PREFETCH = 2  # batches that each worker makes before they are needed
_MAX_ERROR = 2000  # characters of an error message, so that it fits the buffer of a pipe and is never half written


class DecodeTask(NamedTuple):
    """A batch to make: the epoch and the indices of its samples; ``fresh`` ones are read without any cache."""

    epoch: int
    indices: Sequence[int]
    fresh: bool = False


class _Result(NamedTuple):
    """A worker's answer: the task is done, or ``error`` says which image failed."""

    run: int
    number: int
    error: str = ""


class _Request(NamedTuple):
    """A task for a worker; the indices are in its slot of shared memory."""

    run: int
    number: int
    slot: int
    size: int
    epoch: int
    fresh: bool


class Workers:
    """Processes that write batches into memory shared with the parent; every wait for them has a time limit.

    The content of a batch does not depend on the worker that makes it, or on restarts. Every slot of the shared memory
    belongs to one worker. Messages are small enough for atomic pipe writes, so no process waits for half a message.

    Args:
        load: Makes an image of fixed shape.
        number: Number of processes, at least one.
        shape: Shape of an image, uint8.
        max_batch: Number of images in the largest batch.
        timeout: Seconds to wait for a batch before its worker counts as hung and is killed.
        on_restart: Called with a message for every restarted worker; by default it is a warning.

    Example:
        >>> def load(epoch: int, index: int) -> Tensor:
        ...     return torch.full((1,), epoch + index, dtype=torch.uint8)
        >>> workers = Workers(load, number=1, shape=(1,), max_batch=2)
        >>> [images.flatten().tolist() for images in workers.run([DecodeTask(10, [0, 1]), DecodeTask(10, [2])])]
        [[10, 11], [12]]
        >>> workers.close()
    """

    def __init__(
        self,
        load: Load,
        number: int,
        shape: tuple[int, ...],
        max_batch: int,
        *,
        timeout: float = BATCH_TIMEOUT_SECONDS,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        # A forked worker starts in milliseconds; a spawned one first imports torch, which takes seconds.
        allowed = multiprocessing.get_start_method(allow_none=True) in (None, "fork")
        self._context: Any = multiprocessing.get_context("fork" if allowed and sys.platform == "linux" else "spawn")
        self._load, self._number, self._timeout = load, number, timeout
        self._on_restart = on_restart or (lambda text: warnings.warn(text, stacklevel=3))
        slots = _PREFETCH * number
        self._images = self._shared((slots, max_batch, *shape), torch.uint8)
        self._indices = self._shared((slots, max_batch), torch.int64)
        self._workers: list[_Worker] = []
        self._results: dict[int, _Result] = {}
        self._run = self._restarts = 0

    def run(self, tasks: Sequence[DecodeTask], *, pin: bool = False) -> Generator[Tensor]:
        """Yield the images of each task as a new tensor; starting a run invalidates the previous one.

        Args:
            tasks: The batches to make, in order.
            pin: Whether to return tensors in page-locked memory.

        Raises:
            DataError: An image cannot be made.
            JobError: More than :data:`MAX_RESTARTS` workers failed, were killed or hung.
        """
        if not self._workers:
            self._workers = [self._start() for _ in range(self._number)]
        self._run += 1
        self._results = {}
        for number in range(min(len(tasks), _PREFETCH * self._number)):
            self._send(number, tasks[number])
        for number, task in enumerate(tasks):
            result = self._await(number, tasks)
            if result.error:
                raise DataError(result.error)
            shared = self._images[number % len(self._images), : len(task.indices)]
            images = torch.empty(shared.shape, dtype=torch.uint8, pin_memory=pin).copy_(shared)
            ahead = number + _PREFETCH * self._number
            if ahead < len(tasks):
                self._send(ahead, tasks[ahead])
            yield images

    def close(self) -> None:
        """Kill the worker processes."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.end()

    def _send(self, number: int, task: DecodeTask) -> None:
        slot = number % len(self._images)
        count = len(task.indices)
        self._indices[slot, :count] = torch.as_tensor(task.indices, dtype=torch.int64)
        try:
            self._workers[number % self._number].requests.send(
                tuple(_Request(self._run, number, slot, count, task.epoch, task.fresh))
            )
        except OSError:  # the worker is gone, which is noticed when the batch is needed
            return

    def _await(self, number: int, tasks: Sequence[DecodeTask]) -> _Result:
        """Wait for one batch, and restart workers that fail meanwhile."""
        deadline = time.monotonic() + self._timeout
        while number not in self._results:
            left = deadline - time.monotonic()
            ready = wait([worker.results for worker in self._workers], max(left, 0)) if left > 0 else []
            failed = {
                worker_index: worker.exit_reason()
                for worker_index, worker in enumerate(self._workers)
                if worker.results in ready and not self._receive(worker)
            }
            if not ready:
                failed = {number % self._number: f"did not answer for {self._timeout:g} s"}
            for worker_index, why in failed.items():
                self._restart(worker_index, why, number, tasks)
                deadline = time.monotonic() + self._timeout
        return self._results.pop(number)

    def _receive(self, worker: _Worker) -> bool:
        """Receive a message, and return whether there was one."""
        try:
            result = _Result(*worker.results.recv())
        except (EOFError, OSError):
            return False
        if result.run == self._run:  # or else it belongs to an abandoned epoch
            self._results[result.number] = result
        return True

    def _restart(self, worker_index: int, why: str, due: int, tasks: Sequence[DecodeTask]) -> None:
        """Restart a worker, and send it the tasks that it had not finished."""
        worker = self._workers[worker_index]
        worker.end()
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise JobError(
                f"a data worker {why}, after {MAX_RESTARTS} restarts; use fewer workers if the memory is too small"
            )
        self._on_restart(f"data worker {worker.pid} {why} and was restarted; the batches do not change")
        self._workers[worker_index] = self._start()
        for number in range(due, min(due + _PREFETCH * self._number, len(tasks))):
            if number % self._number == worker_index and number not in self._results:
                self._send(number, tasks[number])

    def _start(self) -> _Worker:
        """Start a worker with SIGINT and SIGTERM blocked until it ignores them."""
        request_reader, requests = self._context.Pipe(duplex=False)
        results, result_writer = self._context.Pipe(duplex=False)
        arguments = (self._load, request_reader, result_writer, self._images, self._indices, os.getpid())
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
        request_reader.close()
        result_writer.close()
        return _Worker(process, requests, results)

    def _shared(self, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        if self._context.get_start_method() != "fork":
            shared: Tensor = torch.empty(shape, dtype=kind).share_memory_()  # type: ignore[no-untyped-call]
            return shared
        # Anonymous memory instead of a file in /dev/shm, which is small in containers.
        memory = mmap.mmap(-1, max(math.prod(shape), 1) * kind.itemsize)
        return torch.frombuffer(memory, dtype=kind)[: math.prod(shape)].view(shape)


class _Worker:
    """A worker process and the two pipes to it."""

    def __init__(self, process: multiprocessing.process.BaseProcess, requests: Connection, results: Connection) -> None:
        self._process, self.requests, self.results = process, requests, results
        self.pid = process.pid

    def exit_reason(self) -> str:
        """Return how a process whose pipe is closed has ended."""
        self._process.join(5)
        code = self._process.exitcode
        return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"

    def end(self) -> None:
        """Kill the process, which has no state to lose, even if it is suspended."""
        self._process.kill()
        self._process.join()
        self.requests.close()
        self.results.close()


def _work(load: Load, requests: Connection, results: Connection, images: Tensor, indices: Tensor, parent: int) -> None:
    """Serve requests until the parent is gone; SIGINT and SIGTERM are for the parent, which saves its job first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    gc.freeze()  # a collection would write to all objects of the parent and so copy their pages
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while os.getppid() == parent:  # polled, as forked siblings keep the write ends of the pipes open
            if requests.poll(_POLL_SECONDS):
                results.send(tuple(_decode_batch(load, _Request(*requests.recv()), images, indices)))


def _decode_batch(load: Load, request: _Request, images: Tensor, indices: Tensor) -> _Result:
    for position, index in enumerate(indices[request.slot, : request.size].tolist()):
        image = load(request.epoch, index, fresh=True) if request.fresh else load(request.epoch, index)
        if isinstance(image, str):
            return _Result(request.run, request.number, image[:_MAX_ERROR])
        images[request.slot, position] = image
    return _Result(request.run, request.number)
