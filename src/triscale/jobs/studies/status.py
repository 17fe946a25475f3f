"""What can be asked of any study in its folder: how it stands, to continue, its trials as a table."""

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
from triscale.record import KIND_KEY, Record, write_atomic
from triscale.search.study.entries import Entry, read_entries

KINDS: tuple[type[StudyRequest], ...] = (CoefficientSearchRequest, ComparisonRequest, BaselineSearchRequest)
RESULTS = {
    CoefficientSearchRequest.kind_name: coefficients.RESULT,
    ComparisonRequest.kind_name: compare.RESULT,
    BaselineSearchRequest.kind_name: baseline.FOUND,
}
COLUMNS = tuple(name for name in Entry._fields if name != "number")


class StudyStanding(Record):
    """A network so far: accuracy averaged over the seeds that have come as far as ``epochs``, the most of any."""

    network: str
    ratio: float
    epochs: int
    seeds: int
    accuracy: float


class StudyStatus(Record):
    """How a study stands.

    ``training_macs`` of jobs that are written down, and of those that have finished, relative to one another.
    ``seconds_left``: for those, at the pace of the last ones; a search by halving writes down more when a rung ends.
    """

    kind_name: ClassVar[str] = "status"

    kind: str
    baseline: str
    study: str
    place: str
    waiting: int
    running: int
    done: int
    failed: int
    finished: bool
    seconds_left: float | None
    standings: tuple[StudyStanding, ...]
    now: tuple[str, ...]
    why: tuple[str, ...]


def read_status(out: Path, storage: str | None = None) -> StudyStatus:
    """Return how the study in a folder stands, also while it runs.

    Args:
        out: the folder.
        storage: address of the server that it uses, if its password is not to be asked of the environment.

    Raises:
        RunError: there is no study in the folder.
        SearchError: its storage cannot be read.
    """
    asked, place = request_of(out), location_of(out, storage)
    entries = _entries(out, place)
    count = {
        state: sum(entry.state == state for entry in entries) for state in ("waiting", "running", "done", "failed")
    }
    return StudyStatus(
        kind=asked.kind_name,
        baseline=asked.baseline.name,
        study=place.study,
        place=place.storage or str(out / STUDY),
        finished=(out / RESULTS[asked.kind_name]).is_file(),
        seconds_left=_seconds_left(entries),
        standings=_standings(entries),
        now=tuple(
            f"{entry.network} with seed {entry.seed}, epochs {entry.start} to {entry.stop}, by {entry.worker}"
            for entry in entries
            if entry.state == "running"
        ),
        why=tuple(f"{entry.network} with seed {entry.seed}: {entry.why}" for entry in entries if entry.why),
        **count,
    )


def export(out: Path, file: Path, storage: str | None = None) -> int:
    """Write the jobs of a study as a table; return how many.

    Args:
        out: folder of the study.
        file: ``.csv`` or ``.json``.
        storage: as of :func:`read_status`.

    Raises:
        RunError: there is no study in the folder, or the file has another ending.
        SearchError: its storage cannot be read.
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
    """Return what was requested of the study in a directory.

    Raises:
        RunError: There is no study in the directory.
    """
    for kind in KINDS:
        file = out / f"{kind.kind_name}.json"
        if file.is_file() and json.loads(file.read_text()).get(KIND_KEY) == kind.kind_name:
            return kind.load(file)
    raise RunError(f"{out} holds no study; give the folder that --out named when it was begun")


def location_of(out: Path, storage: str | None) -> StudyLocation:
    """Return where the study of a directory is kept; ``storage`` replaces the URL, which has no password there.

    Raises:
        RunError: The study has not started to train.
    """
    file = out / StudyLocation.file_name
    if not file.is_file():
        raise RunError(f"the study in {out} has not begun to train; give its first command again")
    place = StudyLocation.load(file)
    return place if storage is None else place.replace(storage=storage)


def _entries(out: Path, place: StudyLocation) -> tuple[Entry, ...]:
    return read_entries(place.storage or out / STUDY, place.study)


def _standings(entries: Sequence[Entry]) -> tuple[StudyStanding, ...]:
    by_network: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.state == "done":
            by_network.setdefault(entry.network, []).append(entry)
    found = []
    for network, ended in by_network.items():
        most = max(entry.stop for entry in ended)
        reached = [entry for entry in ended if entry.stop == most]
        accuracy = fmean(entry.accuracy for entry in reached if entry.accuracy is not None)
        found.append(
            StudyStanding(network=network, ratio=reached[0].ratio, epochs=most, seeds=len(reached), accuracy=accuracy)
        )
    return tuple(sorted(found, key=lambda standing: (-standing.epochs, -standing.accuracy)))


def _seconds_left(entries: Sequence[Entry]) -> float | None:
    """Return the time that the jobs written down will take, as the ended ones took theirs, on as many workers."""
    ended = [entry for entry in entries if entry.state == "done" and entry.began and entry.ended]
    open_ = [entry for entry in entries if entry.state in ("waiting", "running")]
    if not ended or not open_:
        return None
    spent = sum((entry.ended - entry.began).total_seconds() for entry in ended if entry.began and entry.ended)
    pace = spent / sum(map(_weight, ended))
    running = max(1, sum(entry.state == "running" for entry in entries))
    now = datetime.now()
    gone = sum(
        min((now - entry.began).total_seconds(), pace * _weight(entry))
        for entry in open_
        if entry.state == "running" and entry.began
    )
    return (pace * sum(map(_weight, open_)) - gone) / running


def _weight(entry: Entry) -> float:
    return float(entry.macs * (entry.stop - entry.start))
