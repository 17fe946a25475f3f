"""The scan of a job: followed by a watcher, and stopped where the job is."""

from __future__ import annotations

from pathlib import Path

from triscale.data.pipeline.scan import scan
from triscale.data.sources.scanned import Scan
from triscale.errors import Interrupted
from triscale.training.context import ExecutionContext


def scan_with_progress(images: str | Path, context: ExecutionContext, stopped: str) -> Scan:
    """Scan a set of images.

    Args:
        images: as :func:`triscale.data.pipeline.scan.scan` takes them.
        context: Device, workers, progress and stop flag.
        stopped: what to say then.

    Raises:
        DataError: images that cannot be trained on.
        Interrupted: ``context.should_stop`` returned true.
    """

    def on_files(done: int, total: int) -> None:
        if context.should_stop():
            raise Interrupted(stopped)
        if done == 0:
            context.progress.begin("scan", total)
        context.progress.advance(done)

    context.progress.begin("scan")
    return scan(images, progress=on_files)
