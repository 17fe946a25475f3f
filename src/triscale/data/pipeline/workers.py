"""Processes that decode images, and go on when one of them is killed or hangs."""

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

Load = Callable[[int, int], Tensor | str]
"""From epoch and index to an image, or to a sentence that says why there is none."""

BATCH_TIMEOUT_SECONDS = 600.0
"""Seconds that a batch is waited for."""

MAX_RESTARTS = 3
"""How often workers are started anew, all of them together."""

_POLL_SECONDS = 2.0
_AHEAD = 2  # batches that each worker makes before they are due
_MAX_TEXT = 2000  # of a message, as shorter ones pass a pipe whole or not at all


class DecodeTask(NamedTuple):
    """A batch to make: of which epoch, of which samples."""

    epoch: int
    indices: Sequence[int]


class _Done(NamedTuple):
    """What a worker says of a task: done, or why there is an image that cannot be made."""

    run: int
    number: int
    bad: str = ""


class _Order(NamedTuple):
    """What a worker is told; the indices stand in its slot."""

    run: int
    number: int
    slot: int
    size: int
    epoch: int


class Workers:
    """Processes that make batches in memory shared with this one; every wait for them has a limit.

    Which worker makes a batch, and whether one was started anew meanwhile, changes nothing about its content. A batch
    is written to the slot of its number, of which each belongs to one worker; messages are so small that a pipe takes
    them whole, so that no process waits for half of one.

    Args:
        load: makes an image of fixed shape.
        number: of processes, at least one.
        shape: of an image, uint8.
        most: number of images in the largest batch.
        timeout: seconds that a batch is waited for, until its worker is taken for hung and killed.
        on_restart: told in a sentence of every worker that was started anew; by default a warning.
    """

    def __init__(
        self,
        load: Load,
        number: int,
        shape: tuple[int, ...],
        most: int,
        *,
        timeout: float = BATCH_TIMEOUT_SECONDS,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        # A forked worker begins in milliseconds; a new interpreter would import torch first, for seconds.
        self._context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._load, self._number, self._timeout = load, number, timeout
        self._on_restart = on_restart or (lambda text: warnings.warn(text, stacklevel=3))
        slots = _AHEAD * number
        self._images = self._shared((slots, most, *shape), torch.uint8)
        self._indices = self._shared((slots, most), torch.int64)
        self._workers: list[_Worker] = []
        self._done: dict[int, _Done] = {}
        self._run = self._restarts = 0

    def run(self, tasks: Sequence[DecodeTask], *, pin: bool = False) -> Generator[Tensor]:
        """Yield the images of each task, a tensor of its own; nothing may be asked of an earlier run any more.

        Raises:
            DataError: an image cannot be made.
            JobError: too many workers failed, were killed or hung.
        """
        if not self._workers:
            self._workers = [self._start() for _ in range(self._number)]
        self._run += 1
        self._done = {}
        for number in range(min(len(tasks), _AHEAD * self._number)):
            self._order(number, tasks[number])
        for number, task in enumerate(tasks):
            done = self._await(number, tasks)
            if done.bad:
                raise DataError(done.bad)
            shared = self._images[number % len(self._images), : len(task.indices)]
            images = torch.empty(shared.shape, dtype=torch.uint8, pin_memory=pin).copy_(shared)
            ahead = number + _AHEAD * self._number
            if ahead < len(tasks):
                self._order(ahead, tasks[ahead])
            yield images

    def close(self) -> None:
        """End the processes."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.end()

    def _order(self, number: int, task: DecodeTask) -> None:
        slot = number % len(self._images)
        count = len(task.indices)
        self._indices[slot, :count] = torch.as_tensor(task.indices, dtype=torch.int64)
        try:
            self._workers[number % self._number].orders.send((self._run, number, slot, count, task.epoch))
        except OSError:  # it is gone, which is seen when the batch is due
            return

    def _await(self, number: int, tasks: Sequence[DecodeTask]) -> _Done:
        """Wait for one batch, whatever happens to the workers."""
        until = time.monotonic() + self._timeout
        while number not in self._done:
            left = until - time.monotonic()
            ready = wait([worker.answers for worker in self._workers], max(left, 0)) if left > 0 else []
            failed = {
                place: worker.last_words()
                for place, worker in enumerate(self._workers)
                if worker.answers in ready and not self._hear(worker)
            }
            if not ready:
                failed = {number % self._number: f"did not answer for {self._timeout:g} s"}
            for place, why in failed.items():
                self._restart(place, why, number, tasks)
                until = time.monotonic() + self._timeout
        return self._done.pop(number)

    def _hear(self, worker: _Worker) -> bool:
        """Take a message, and return whether there was one."""
        try:
            done = _Done(*worker.answers.recv())
        except (EOFError, OSError):
            return False
        if done.run == self._run:
            self._done[done.number] = done
        return True

    def _restart(self, place: int, why: str, due: int, tasks: Sequence[DecodeTask]) -> None:
        """Start a worker anew, and have it make what it had not made."""
        worker = self._workers[place]
        worker.end()
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise JobError(
                f"a data worker {why}, after {MAX_RESTARTS} were started anew; with fewer workers, memory lasts longer"
            )
        self._on_restart(f"data worker {worker.pid} {why} and was started anew; this changes no batch")
        self._workers[place] = self._start()
        for number in range(due, min(due + _AHEAD * self._number, len(tasks))):
            if number % self._number == place and number not in self._done:
                self._order(number, tasks[number])

    def _start(self) -> _Worker:
        """Start a worker, which is born with the signals blocked that it is going to ignore."""
        take, orders = self._context.Pipe(duplex=False)
        answers, say = self._context.Pipe(duplex=False)
        arguments = (self._load, take, say, self._images, self._indices, os.getpid())
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        take.close()
        say.close()
        return _Worker(process, orders, answers)

    def _shared(self, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        if self._context.get_start_method() != "fork":
            shared: Tensor = torch.empty(shape, dtype=kind).share_memory_()  # type: ignore[no-untyped-call]
            return shared
        # Not a file in /dev/shm, of which containers have little.
        memory = mmap.mmap(-1, max(math.prod(shape), 1) * kind.itemsize)
        return torch.frombuffer(memory, dtype=kind)[: math.prod(shape)].view(shape)


class _Worker:
    """A process and the two pipes to it."""

    def __init__(self, process: multiprocessing.process.BaseProcess, orders: Connection, answers: Connection) -> None:
        self._process, self.orders, self.answers = process, orders, answers
        self.pid = process.pid

    def last_words(self) -> str:
        """Return how a process ended whose pipe is closed."""
        self._process.join(5)
        code = self._process.exitcode
        return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"

    def end(self) -> None:
        """Kill the process, which has nothing to lose, also when it is stopped."""
        self._process.kill()
        self._process.join()
        self.orders.close()
        self.answers.close()


def _work(load: Load, orders: Connection, answers: Connection, images: Tensor, indices: Tensor, parent: int) -> None:
    """Carry out orders until there are no more; a worker outlives the signals that stop a job, which saves first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    gc.freeze()  # a collection would write to every object of the parent, and so copy the pages they lie in
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody is there any more
        while os.getppid() == parent:  # asked now and then, as a forked worker keeps the pipes to it open itself
            if orders.poll(_POLL_SECONDS):
                answers.send(tuple(_carry_out(load, _Order(*orders.recv()), images, indices)))


def _carry_out(load: Load, order: _Order, images: Tensor, indices: Tensor) -> _Done:
    for place, index in enumerate(indices[order.slot, : order.size].tolist()):
        image = load(order.epoch, index)
        if isinstance(image, str):
            return _Done(order.run, order.number, image[:_MAX_TEXT])
        images[order.slot, place] = image
    return _Done(order.run, order.number)
