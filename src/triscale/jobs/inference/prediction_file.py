"""Write predictions to a file as they are made; an interrupted file is continued by the same command."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triscale.errors import RecordError, UserError
from triscale.jobs.inference.predict import Prediction
from triscale.network.contract import SOFTMAX, Decision
from triscale.record import atomic_file

SUFFIXES = (".csv", ".jsonl", ".parquet")


class PredictionFile:
    """A table of predictions, one row per image.

    A ``.csv`` file has the columns file, class, probability, class_2, probability_2, ..., error. After the file there
    are labels for images with any number of them, prediction_set and unknown if the calibration of the network gives
    them; classes are separated by ``|``. A ``.jsonl`` file has
    one prediction as JSON per line, which is also what the rows of a ``.parquet`` file are collected in until it is
    complete (``NAME.parquet.part``).

    Attributes:
        path: The file.
        done: The images that the file holds already.
    """

    def __init__(self, path: Path, top: int, decision: Decision = SOFTMAX) -> None:
        self.path = path
        self._top, self._extra = top, _extra_columns(decision)
        self._rows = path.with_name(f"{path.name}.part") if path.suffix == ".parquet" else path
        self._columns = ("file", *self._extra, *_columns(top), "error")
        self.done: frozenset[str] = frozenset(self._read()) if self._rows.is_file() else frozenset()

    @contextmanager
    def writer(self) -> Iterator[PredictionWriter]:
        """Append predictions; every row is on disk before the next image is read."""
        is_new = not self._rows.is_file() or self._rows.stat().st_size == 0
        try:
            with self._rows.open("a", encoding="utf-8", newline="") as stream:
                as_csv = self.path.suffix == ".csv"
                writer = PredictionWriter(stream, self._top, self._extra, as_csv=as_csv)
                if is_new and as_csv:
                    writer.write_row(self._columns)
                yield writer
        except OSError as error:
            raise UserError(f"cannot write {self._rows}: {error.strerror}; give another file with --out") from error

    def finish(self) -> None:
        """Convert the collected rows, if the file is a Parquet file."""
        if self.path.suffix != ".parquet":
            return
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
        rows: list[list[object]] = [_row(Prediction.from_json(line), self._top, self._extra) for line in self._lines()]
        schema = arrow.schema(
            [(name, arrow.float64() if name.startswith("probability") else arrow.string()) for name in self._columns]
        )
        columns = [arrow.array([row[i] for row in rows], schema.field(i).type) for i in range(len(self._columns))]
        with atomic_file(self.path) as opened:
            parquet.write_table(arrow.table(columns, schema=schema), opened)
        self._rows.unlink()

    def _read(self) -> Iterator[str]:
        if self.path.suffix != ".csv":
            yield from (Prediction.from_json(line, f"a line of {self._rows}").file for line in self._lines())
            return
        reader = csv.reader(io.StringIO(self._whole_lines().decode(errors="replace"), newline=""))
        header = next(reader, None)
        if header is not None and tuple(header) != self._columns:
            raise UserError(
                f"{self.path} exists and is not a table of {self._top} classes per image; give another file with --out"
            )
        yield from (row[0] for row in reader if len(row) == len(self._columns))

    def _whole_lines(self) -> bytes:
        """Return the complete lines; a line that was cut by a kill is removed from the file."""
        content = self._rows.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content) and (whole or self.path.suffix != ".csv"):
            with self._rows.open("r+b") as stream:
                stream.truncate(len(whole))
        return whole

    def _lines(self) -> list[str]:
        try:
            lines = self._whole_lines().decode().splitlines()
            for line in lines:
                json.loads(line)
        except ValueError as error:
            raise RecordError(f"{self._rows} exists and holds no predictions; give another file with --out") from error
        return lines


class PredictionWriter:
    """Appends predictions to a table; see :meth:`PredictionFile.writer`."""

    def __init__(self, stream: io.TextIOWrapper, top: int, extra: Sequence[str], *, as_csv: bool) -> None:
        self._stream, self._top, self._extra, self._as_csv = stream, top, extra, as_csv

    def write(self, prediction: Prediction) -> None:
        """Append one prediction."""
        if self._as_csv:
            self.write_row(_row(prediction, self._top, self._extra))
        else:
            self._append(json.dumps(json.loads(prediction.to_json()), ensure_ascii=False) + "\n")

    def write_row(self, row: Sequence[object]) -> None:
        """Append the cells of a row of a CSV file."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(row)
        self._append(buffer.getvalue())

    def _append(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def open_prediction_file(path: Path, top: int, decision: Decision = SOFTMAX) -> PredictionFile:
    """Open a table of predictions to write or to continue.

    Args:
        path: A .csv, .jsonl or .parquet file.
        top: Number of classes per image.
        decision: How the network answers; what it gives besides classes has columns.

    Raises:
        UserError: The suffix is another one, the folder does not exist or cannot be written, pyarrow is missing, or the
            file holds something else.
        RecordError: The file holds something else.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} ends in none of {', '.join(SUFFIXES)}; give a file that does")
    if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise UserError(f"{path.absolute().parent} is not a folder that can be written; give another file with --out")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"{path} requires pyarrow; install it with: pip install 'triscale[parquet]'")
    return PredictionFile(path, top, decision)


def _columns(top: int) -> list[str]:
    return [name if rank == 1 else f"{name}_{rank}" for rank in range(1, top + 1) for name in ("class", "probability")]


def _extra_columns(decision: Decision) -> tuple[str, ...]:
    """Return the columns of what a network gives besides classes; each is a field of a prediction."""
    confidence = decision.confidence
    return (
        *(("labels",) if decision.link == "sigmoid" else ()),
        *(("prediction_set",) if confidence is not None and confidence.set_threshold is not None else ()),
        *(("unknown",) if confidence is not None and confidence.unknown_threshold is not None else ()),
    )


def _row(prediction: Prediction, top: int, extra: Sequence[str]) -> list[Any]:
    cells: list[Any] = []
    for rank in range(top):
        found = prediction.classes[rank] if rank < len(prediction.classes) else None
        cells += [None, None] if found is None else [found.name, round(found.probability, 6)]
    return [prediction.file, *(_cell(getattr(prediction, name)) for name in extra), *cells, prediction.error]


def _cell(value: tuple[str, ...] | bool | None) -> str | None:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return ""
        case _:
            return "|".join(value)
