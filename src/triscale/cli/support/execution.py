"""The execution context of a command: progress in this terminal, Ctrl-C and SIGTERM as a stop flag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from triscale.cli.support.terminal import progress_reporter
from triscale.progress import stop_on_signals, with_deadline

if TYPE_CHECKING:
    from triscale.training.context import ExecutionContext


@contextmanager
def execution(
    device: str = "cpu", *, workers: int = 0, threads: int = 1, max_seconds: float | None = None
) -> Iterator[ExecutionContext]:
    """Provide the execution context of a job.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: Number of worker processes of the job.
        threads: Threads of each worker.
        max_seconds: Seconds after which the stop flag is set.

    Raises:
        RecipeError: This machine does not have the device.
    """
    from triscale.training.context import ExecutionContext, choose_device

    chosen = choose_device(device)
    with progress_reporter() as progress, stop_on_signals() as stopped:
        yield ExecutionContext(
            device=chosen,
            workers=workers,
            threads=threads,
            should_stop=with_deadline(stopped, max_seconds),
            progress=progress,
        )
