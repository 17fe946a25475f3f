"""Status of the study in a folder, its request, and its trials as a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from triscale.errors import RunError
from triscale.jobs.studies import baseline, coefficients, compare
from triscale.jobs.studies.requests import (
    BaselineSearchRequest,
    CoefficientSearchRequest,
    ComparisonRequest,
    StudyLocation,
    StudyRequest,
)
from triscale.jobs.studies.trials import STUDY
from triscale.record import KIND_KEY, Record, SparseRecord, write_atomic
from triscale.search.study.entries import Entry, read_entries

KINDS: tuple[type[StudyRequest], ...] = (CoefficientSearchRequest, ComparisonRequest, BaselineSearchRequest)
RESULTS = {
    CoefficientSearchRequest.kind_name: coefficients.RESULT,
    ComparisonRequest.kind_name: compare.RESULT,
    BaselineSearchRequest.kind_name: baseline.FOUND,
}
COLUMNS = tuple(name for name in Entry._fields if name != "number")


class StudyStanding(Record):
    """Intermediate result of a network: mean accuracy over the seeds that have been trained for ``epochs``.

    ``epochs`` is the largest number of epochs that any seed of the network has reached.
    """

    network: str
    ratio: float
    epochs: int
    seeds: int
    accuracy: float


class StudyStatus(SparseRecord):
    """Status of a study.

    Attributes:
        kind: Kind of the study.
        baseline: Name of the baseline.
        study: Name of the study in its storage.
        storage: URL or file of the storage.
        waiting: Number of queued jobs.
        running: Number of running jobs.
        done: Number of finished jobs.
        failed: Number of failed jobs.
        finished: Whether the study has a result.
        seconds_left: Estimated time for all queued and running jobs; None if unknown. Successive halving queues more
            jobs at the end of each rung.
        standings: Intermediate results, best first.
        running_jobs: A description of each running job.
        errors: The error message of each failed job.
        table: The table that accuracies were read from instead of trainings; left out of JSON if there is none.
    """

    kind_name: ClassVar[str] = "status"
    schema_number: ClassVar[int] = 2
    sparse: ClassVar[tuple[str, ...]] = ("table",)

    kind: str
    baseline: str
    study: str
    storage: str
    waiting: int
    running: int
    done: int
    failed: int
    finished: bool
    seconds_left: float | None
    standings: tuple[StudyStanding, ...]
    running_jobs: tuple[str, ...]
    errors: tuple[str, ...]
    table: str | None = None


def read_status(out: Path, storage: str | None = None) -> StudyStatus:
    """Return the status of the study in a folder, running or not.

    Args:
        out: The folder of the study.
        storage: URL of the study's server, if its password is not in the environment.

    Raises:
        RunError: The folder holds no study.
        SearchError: The storage cannot be read.
    """
    request, location = request_of(out), location_of(out, storage)
    entries = _entries(out, location)
    counts = {
        state: sum(entry.state == state for entry in entries) for state in ("waiting", "running", "done", "failed")
    }
    table = request.table if isinstance(request, BaselineSearchRequest) else None
    return StudyStatus(
        table=None if table is None else table.file,
        kind=request.kind_name,
        baseline=request.baseline.name,
        study=location.study,
        storage=location.storage or str(out / STUDY),
        finished=(out / RESULTS[request.kind_name]).is_file(),
        seconds_left=_seconds_left(entries),
        standings=_standings(entries),
        running_jobs=tuple(
            f"{entry.network}, seed {entry.seed}, epochs {entry.start} to {entry.stop}, on {entry.worker}"
            for entry in entries
            if entry.state == "running"
        ),
        errors=tuple(f"{entry.network}, seed {entry.seed}: {entry.failure}" for entry in entries if entry.failure),
        **counts,
    )


def export(out: Path, file: Path, storage: str | None = None) -> int:
    """Write the jobs of a study as a table; return their number.

    Args:
        out: The folder of the study.
        file: The table; ends in ``.csv`` or ``.json``.
        storage: See :func:`read_status`.

    Raises:
        RunError: The folder holds no study, or the file has another suffix.
        SearchError: The storage cannot be read.
    """
    if file.suffix not in (".csv", ".json"):
        raise RunError(f"{file} ends in neither .csv nor .json; give one of these")
    request_of(out)
    entries = _entries(out, location_of(out, storage))
    rows = [
        {name: value.isoformat() if isinstance(value := getattr(entry, name), datetime) else value for name in COLUMNS}
        for entry in entries
    ]
    if file.suffix == ".json":
        content = json.dumps(rows, indent=1) + "\n"
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        content = buffer.getvalue()
    write_atomic(file, content.encode())
    return len(rows)


def request_of(out: Path) -> StudyRequest:
    """Return the request of the study in a directory.

    Raises:
        RunError: There is no study in the directory.
    """
    for kind in KINDS:
        file = out / f"{kind.kind_name}.json"
        if file.is_file() and json.loads(file.read_text()).get(KIND_KEY) == kind.kind_name:
            return kind.load(file)
    raise RunError(f"{out} holds no study; give the folder that was passed to --out")


def location_of(out: Path, storage: str | None) -> StudyLocation:
    """Return the location of the study in a directory; ``storage`` replaces the saved URL, which has no password.

    Raises:
        RunError: The study has not started training.
    """
    file = out / StudyLocation.file_name
    if not file.is_file():
        raise RunError(f"the study in {out} has not started training; run the command that created it again")
    location = StudyLocation.load(file)
    return location if storage is None else location.replace(storage=storage)


def _entries(out: Path, location: StudyLocation) -> tuple[Entry, ...]:
    return read_entries(location.storage or out / STUDY, location.study)


def _standings(entries: Sequence[Entry]) -> tuple[StudyStanding, ...]:
    by_network: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.state == "done":
            by_network.setdefault(entry.network, []).append(entry)
    standings = []
    for network, done in by_network.items():
        epochs = max(entry.stop for entry in done)
        reached = [entry for entry in done if entry.stop == epochs]
        accuracy = fmean(entry.accuracy for entry in reached if entry.accuracy is not None)
        standings.append(
            StudyStanding(network=network, ratio=reached[0].ratio, epochs=epochs, seeds=len(reached), accuracy=accuracy)
        )
    return tuple(sorted(standings, key=lambda standing: (-standing.epochs, -standing.accuracy)))


def _seconds_left(entries: Sequence[Entry]) -> float | None:
    """Estimate the time for queued and running jobs from the finished ones, with the current number of workers."""
    done = [entry for entry in entries if entry.state == "done" and entry.began and entry.ended]
    pending = [entry for entry in entries if entry.state in ("waiting", "running")]
    if not done or not pending:
        return None
    spent = sum((entry.ended - entry.began).total_seconds() for entry in done if entry.began and entry.ended)
    pace = spent / sum(map(_weight, done))
    running = max(1, sum(entry.state == "running" for entry in entries))
    now = datetime.now()
    elapsed = sum(
        min((now - entry.began).total_seconds(), pace * _weight(entry))
        for entry in pending
        if entry.state == "running" and entry.began
    )
    return (pace * sum(map(_weight, pending)) - elapsed) / running


def _weight(entry: Entry) -> float:
    """Return the relative duration of a job."""
    return float(entry.macs * (entry.stop - entry.start))
