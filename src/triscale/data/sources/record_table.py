"""Read a table from records: JSON, JSON Lines or Parquet."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triscale.data.sources.coco import coco_table, is_coco
from triscale.data.sources.raw_table import RawTable, TableRow
from triscale.data.sources.text_table import decode_text, read_content
from triscale.errors import DataError

_FORMS = (
    'expected a list of records such as {"path": ..., "label": ...}, an object {path: label}, or images, annotations '
    "and categories as in COCO"
)


def read_json(file: Path) -> RawTable:
    """Read a list of records, an object from paths to labels or from columns to values, or a file in COCO's format.

    Args:
        file: The file, plain or compressed with gzip.

    Raises:
        DataError: The file cannot be read, is no valid JSON, or has another form.
    """
    text, note = decode_text(read_content(file), file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error) and text.lstrip().startswith("{"):
            return read_json_lines(file)
        raise DataError(f"{file} is not valid JSON ({error}); save it again") from error
    if is_coco(content):
        return coco_table(file, content)
    records = _records(content)
    if records is None:
        raise DataError(f"{file} is not a table of images; {_FORMS}")
    places = [f"record {number}" for number in range(1, len(records) + 1)]
    return _table(file, places, records, (note,) if note else ())


def read_json_lines(file: Path) -> RawTable:
    """Read one JSON object from each line.

    Args:
        file: The file, plain or compressed with gzip.

    Raises:
        DataError: The file cannot be read, or a line is no JSON object.
    """
    text, note = decode_text(read_content(file), file)
    records: list[dict[str, Any]] = []
    places: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} of {file} is not valid JSON ({error}); save it again") from error
        if not isinstance(record, dict):
            raise DataError(f"line {number} of {file} is not a JSON object; expected one with path and label")
        records.append(record)
        places.append(f"line {number}")
    return _table(file, places, records, (note,) if note else ())


def read_parquet(file: Path) -> RawTable:
    """Read the columns of a Parquet file.

    Args:
        file: The file.

    Raises:
        DataError: pyarrow is missing, or the file is damaged.
    """
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            f"reading {file} needs pyarrow; install it with: pip install 'triscale[parquet]', or give the manifest as "
            f".csv"
        ) from error
    try:
        table = parquet.read_table(file, memory_map=False)
        columns = [table.column(name).to_pylist() for name in table.column_names]
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own errors are subclasses of these
        raise DataError(f"{file} is not a readable Parquet file ({error}); save it again") from error
    rows = (
        TableRow(f"row {number}", tuple(map(text_of, fields)))
        for number, fields in enumerate(zip(*columns, strict=True), start=1)
    )
    return RawTable(file, tuple(table.column_names), tuple(rows))


def text_of(value: object) -> str:
    """Return a value of a record as text; a list as JSON, and nothing for None and NaN.

    Example:
        >>> text_of(1), text_of(1.0), text_of(None), text_of(["a", "b"])
        ('1', '1.0', '', '["a", "b"]')
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case float() if math.isnan(value):
            return ""
        case bytes():
            return f"({len(value)} bytes)"
        case {"path": str(path)}:
            return path  # an image as Hugging Face datasets writes it
        case list() | tuple() | dict():
            return json.dumps(value, default=str, ensure_ascii=False)
        case _:
            return str(value)


def _records(content: object) -> list[dict[str, Any]] | None:
    match content:
        case list() if content and all(isinstance(record, dict) for record in content):
            return content
        case list() if content and all(_is_pair(record) for record in content):
            return [{"path": path, "label": label} for path, label in content]
        case dict() if content and all(isinstance(value, str | int | float) for value in content.values()):
            return [{"path": path, "label": label} for path, label in content.items()]
        case {"schema": dict(), "data": list(data)}:
            return _records(data)  # written by pandas with orient="table"
        case dict() if len(content) == 1:
            return _records(next(iter(content.values())))
        case dict() if content and all(isinstance(value, list) for value in content.values()):
            return _of_columns({name: dict(enumerate(values)) for name, values in content.items()})
        case dict() if content and all(isinstance(value, dict) for value in content.values()):
            return _of_columns(content)
        case _:
            return None


def _is_pair(record: object) -> bool:
    return isinstance(record, list) and len(record) == 2 and isinstance(record[0], str)


def _of_columns(columns: dict[str, dict[Any, Any]]) -> list[dict[str, Any]] | None:
    """Return the records of columns of equal length; of records that are named by their paths, too."""
    keys = [tuple(values) for values in columns.values()]
    if any(other != keys[0] for other in keys):
        return None
    if len(keys[0]) and not all(str(key).isdigit() for key in keys[0]):
        return [{"path": path, **record} for path, record in columns.items()]
    return [{name: values[key] for name, values in columns.items()} for key in keys[0]]


def _table(file: Path, places: Sequence[str], records: list[dict[str, Any]], notes: tuple[str, ...]) -> RawTable:
    columns = tuple(dict.fromkeys(name for record in records for name in record))
    rows = (
        TableRow(place, tuple(text_of(record.get(name)) for name in columns))
        for place, record in zip(places, records, strict=True)
    )
    return RawTable(file, columns, tuple(rows), notes=notes)
