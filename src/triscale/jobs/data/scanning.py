"""Scan a data set with progress and a stop flag."""

from __future__ import annotations

from pathlib import Path

from triscale.data.checks.class_names import name_warnings
from triscale.data.checks.group_names import group_suggestion
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.pipeline.scan import scan
from triscale.data.sources.scanned import Scan
from triscale.errors import Interrupted
from triscale.training.context import ExecutionContext


def scan_with_progress(
    images: str | Path,
    context: ExecutionContext,
    stopped: str,
    options: DataOptions = DEFAULT_DATA,
    *,
    strict: bool = True,
    uses_splits: bool = True,
) -> Scan:
    """Scan a data set and report progress.

    Args:
        images: A data set, as for :func:`triscale.data.pipeline.scan.scan`.
        context: Progress and stop flag.
        stopped: Message of the exception if the scan is stopped.
        options: How the data set is read, and what is tolerated.
        strict: Whether problems that stop a training are raised; otherwise the result lists them.
        uses_splits: Whether the given splits are those of the training, as in :func:`triscale.data.pipeline.scan.scan`.

    Returns:
        The scan.

    Raises:
        DataError: The images cannot be trained on.
        Interrupted: ``context.should_stop`` returned true.
    """

    def on_files(done: int, total: int) -> None:
        if context.should_stop():
            raise Interrupted(stopped)
        if done == 0:
            context.progress.begin("scan", total)
        context.progress.advance(done)

    context.progress.begin("scan")
    scanned = scan(images, progress=on_files, options=options, strict=strict, uses_splits=uses_splits)
    for note in (*scanned.notes, *(warnings_about_names(scanned) if strict else ())):
        context.progress.note(note)
    return scanned


def warnings_about_names(scanned: Scan) -> list[str]:
    """Return a sentence for each kind of doubtful class name, and for file names that suggest groups.

    See :mod:`triscale.data.checks.class_names` and :mod:`triscale.data.checks.group_names`.
    """
    suggestion = group_suggestion(scanned)
    sentences = name_warnings(scanned.classes, len(scanned.train or scanned.unsplit))
    return sentences if suggestion is None else [*sentences, suggestion]
