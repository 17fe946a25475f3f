"""The scan of a job: followed by a watcher, and stopped where the job is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from triscale.data.pipeline.scan import scan
from triscale.data.sources.scanned import Scan
from triscale.errors import Interrupted
from triscale.jobs.core.progress import ProgressReporter


def scan_with_progress(
    images: str | Path, reporter: ProgressReporter, should_stop: Callable[[], bool], stopped: str
) -> Scan:
    """Scan a set of images.

    Args:
        images: as :func:`triscale.data.pipeline.scan.scan` takes them.
        reporter: told of every file that is done.
        should_stop: polled; true to end.
        stopped: what to say then.

    Raises:
        DataError: images that cannot be trained on.
        Interrupted: ``should_stop`` answered true.
    """

    def on_files(done: int, total: int) -> None:
        if should_stop():
            raise Interrupted(stopped)
        if done == 0:
            reporter.begin("scan", total)
        reporter.advance(done)

    reporter.begin("scan")
    return scan(images, progress=on_files)
