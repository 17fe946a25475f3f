"""The execution context of a command; imports torch only when it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triscale.training.context import ExecutionContext


@contextmanager
def execution(
    device: str = "cpu", *, workers: int = 0, threads: int = 1, max_seconds: float | None = None
) -> Iterator[ExecutionContext]:
    """Provide the context of a job; see :func:`triscale.jobs.core.execution.execution`."""
    from triscale.jobs.core.execution import execution as provide

    with provide(device, workers=workers, threads=threads, max_seconds=max_seconds) as context:
        yield context
