"""The execution context of a command or a Python call: progress, a stop flag, a device, and a process group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from triscale.errors import Interrupted, JobError
from triscale.jobs.core.hosts import check_same_versions
from triscale.progress import NO_PROGRESS, stop_on_signals, with_deadline
from triscale.progress_bars import progress_reporter
from triscale.training.context import CPU, EngineName, ExecutionContext, choose_device
from triscale.training.distributed.group import join
from triscale.training.engine import abandon_engine, start_engine


@contextmanager
def execution(
    device: str = "cpu",
    *,
    workers: int = 0,
    threads: int = 1,
    max_seconds: float | None = None,
    progress: bool = True,
) -> Iterator[ExecutionContext]:
    """Provide the context of a job in one process. Ctrl-C and SIGTERM raise its stop flag.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: Worker processes of the job.
        threads: Threads of each.
        max_seconds: Time after which the stop flag is raised.
        progress: Whether progress is shown on standard error.

    Raises:
        RecipeError: This machine does not have the device.
    """
    chosen = choose_device(device)
    with progress_reporter() if progress else nullcontext(NO_PROGRESS) as reporter, stop_on_signals() as stopped:
        yield ExecutionContext(
            device=chosen,
            workers=workers,
            threads=threads,
            should_stop=with_deadline(stopped, max_seconds),
            progress=reporter,
        )


@contextmanager
def training_execution(
    device: str = "auto",
    *,
    workers: int = 0,
    compile: bool = False,
    max_seconds: float | None = None,
    progress: bool = True,
    chooses_threads: bool = False,
    engine: EngineName = "torch",
) -> Iterator[ExecutionContext]:
    """Provide the context of a training, which joins the process group of ``torch.distributed.run`` if there is one.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; with several GPUs each process uses its own.
        workers: Image-decoding processes.
        compile: Whether the forward pass goes through ``torch.compile``.
        max_seconds: Time after which the stop flag is raised.
        progress: Whether the first process shows progress on standard error.
        chooses_threads: Whether the number of threads may be chosen by what is faster.
        engine: What takes the steps; with ``xla``, ``device`` may also be ``tpu``.

    Raises:
        UserError: The engine is not installed.
        RecipeError: This machine does not have the device.
        JobError: The other processes did not join in time, or have other versions.
    """
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0"))) if engine == "torch" else CPU
    reporting = progress_reporter() if progress else nullcontext(NO_PROGRESS)
    with stop_on_signals() as stopped, join(chosen) as group, reporting as reporter:
        check_same_versions(engine, group)
        start_engine(engine, device, group)
        context = ExecutionContext(
            device=chosen,
            engine=engine,
            workers=workers,
            group=group,
            compile=compile,
            chooses_threads=chooses_threads,
            should_stop=with_deadline(stopped, max_seconds),
            progress=reporter if group.is_writer else NO_PROGRESS,
        )
        try:
            yield context
        except Interrupted:  # on all processes together
            raise
        except JobError:
            abandon_engine(engine, group)
            raise
