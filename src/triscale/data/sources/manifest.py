"""A set of images as a table, CSV or Parquet: which file is of which class and, if it says so, for what."""

from __future__ import annotations

import csv
import importlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from triscale.data.sources.source import ROLE_FOLDERS, FoundFile, Layout, Role, is_text
from triscale.errors import DataError, nearest

SUFFIXES = (".csv", ".parquet")

COLUMNS = ("path", "label", "split")
"""What a manifest holds; ``split`` may be missing."""

_ORDER: tuple[Role, ...] = ("train", "val", "test", "unsplit")
_EXPECTED = "expected the columns path, label and, if the parts are given, split"


class _Row(NamedTuple):
    """One image; ``place`` says where in the manifest it stands."""

    place: str
    path: str
    label: str
    split: str


def is_manifest(path: Path) -> bool:
    """Return whether a path is a manifest by its name, and no folder."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_manifest(file: Path) -> Layout:
    """Read which images a manifest names.

    A path is relative to the manifest's folder. One that leads out of it, by ``..`` or as an absolute path, is taken
    as well if the file exists; but a set with such paths cannot be moved with its folder. A label is the name of a
    class, any text or whole number. A split is one of train, val (also valid, validation) and test, for every image
    or for none. Every image stands there once.

    Args:
        file: a ``.csv`` in UTF-8, with commas and a line of column names, or a ``.parquet`` (needs pyarrow).

    Raises:
        DataError: no such file, or one that is damaged; columns, labels or splits other than these; files that do not
            exist; an image that stands there twice; fewer than two classes, or not the same ones in every part.
    """
    if not file.is_file():
        raise DataError(f"there is no manifest {file}; give a folder of images, or a .csv or .parquet file")
    if not is_text(str(file.absolute())):
        raise DataError(f"the path {str(file)!a} is not valid UTF-8; rename it")
    rows = _read_csv(file) if file.suffix.lower() == ".csv" else _read_parquet(file)
    if not rows:
        raise DataError(f"{file} names no images; expected one in each row")
    root = file.absolute().parent
    files: dict[Role, list[FoundFile]] = {}
    placed: dict[str, _Row] = {}
    missing: list[_Row] = []
    for row in rows:
        path = _normal(root, row, file)
        _refuse_twice(file, placed, path, row)
        if not os.path.isfile(root / path):  # noqa: PTH113 - pathlib raises where a name is too long
            missing.append(row)
        files.setdefault(_role(file, row), []).append(FoundFile(path, _label(file, row)))
    if missing:
        shown = ", ".join(f"{row.path} ({row.place})" for row in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{len(missing)} of {len(rows)} files named in {file} do not exist: {shown}; paths are relative to {root}"
        )
    _check_roles(file, files)
    return Layout(
        root=str(root),
        classes={role: _names(files[role]) for role in _ORDER if role in files},
        files={role: tuple(sorted(files[role])) for role in _ORDER if role in files},
        stray=(),
    )


def _read_csv(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            header = next(reader, [])
            places = _check_columns(file, header)
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise DataError(
                        f"line {reader.line_num} of {file} has {len(fields)} fields; expected {len(header)}, as the "
                        f"first line has: {','.join(header)}"
                    )
                values = [fields[place] if place is not None else "" for place in places]
                rows.append(_Row(f"line {reader.line_num}", *values))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not valid UTF-8; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{file} is damaged ({error}); expected CSV with commas and quotes in pairs") from error
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}); make it readable") from error
    return rows


def _read_parquet(file: Path) -> list[_Row]:
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
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        raise DataError(f"{file} is no Parquet file that can be read ({error})") from error
    places = _check_columns(file, table.column_names)
    rows: list[_Row] = []
    for number, fields in enumerate(zip(*columns, strict=True), start=1):
        values = [
            _as_text(file, number, column, fields[place])
            for column, place in zip(COLUMNS, places, strict=True)
            if place is not None
        ]
        rows.append(_Row(f"row {number}", *values, *[""] * (len(COLUMNS) - len(values))))
    return rows


def _as_text(file: Path, number: int, column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or (column == "label" and isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    kind = type(value).__name__
    wanted = "text or whole numbers" if column == "label" else "text"
    raise DataError(f"column {column} of {file} holds a {kind}, {value!r}, in row {number}; expected {wanted}")


def _check_columns(file: Path, header: Sequence[str]) -> tuple[int, int, int | None]:
    """Return the places of path, label and split."""
    for name in header:
        if name not in COLUMNS:
            together = len(header) == 1 and any(mark in name for mark in ";\t|")
            hint = "; separate columns by commas" if together else nearest(name, COLUMNS).rstrip("?")
            raise DataError(f'{file} has a column "{name}"{hint}; {_EXPECTED}, named in the first line, and no others')
    for name in COLUMNS:
        if header.count(name) > 1:
            raise DataError(f"{file} has two columns {name}; {_EXPECTED}")
        if name not in header and name != "split":
            raise DataError(f"{file} has no column {name}; {_EXPECTED}")
    return header.index("path"), header.index("label"), header.index("split") if "split" in header else None


def _normal(root: Path, row: _Row, file: Path) -> str:
    """Return a path relative to the root where it lies below it, without detours."""
    if not row.path:
        raise DataError(f"{row.place} of {file} has no path")
    if not is_text(row.path) or "\0" in row.path:
        raise DataError(f"the path {row.path!a} in {row.place} of {file} is no valid name of a file")
    path = root / row.path
    short = Path(os.path.normpath(path))
    if short.resolve() == path.resolve():  # or else a symbolic link stands before the ".."
        path = short
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _refuse_twice(file: Path, placed: dict[str, _Row], path: str, row: _Row) -> None:
    before = placed.setdefault(path, row)
    if before is not row:
        differing = f", with the labels {before.label} and {row.label}" if before.label != row.label else ""
        raise DataError(f"{file} names {path} twice, in {before.place} and {row.place}{differing}; keep one of them")


def _label(file: Path, row: _Row) -> str:
    label = unicodedata.normalize("NFC", row.label.strip())
    if not label or not label.isprintable():
        raise DataError(
            f"the label {row.label!r} in {row.place} of {file} is no name of a class; expected a short text"
        )
    return label


def _role(file: Path, row: _Row) -> Role:
    split = row.split.strip()
    if not split:
        return "unsplit"
    role = ROLE_FOLDERS.get(split.lower())
    if role is None:
        hint = nearest(split, ROLE_FOLDERS).rstrip("?")
        raise DataError(f'the split "{split}" in {row.place} of {file} is unknown{hint}; expected train, val or test')
    return role


def _check_roles(file: Path, files: dict[Role, list[FoundFile]]) -> None:
    if "unsplit" in files and len(files) > 1:
        raise DataError(
            f"{len(files['unsplit'])} rows of {file} have no split and the others have one; give it for all or for none"
        )
    if "unsplit" not in files and (len(files) < 2 or "train" not in files):
        raise DataError(
            f"{file} has images of the split {' and '.join(files)} only; expected train and test (or val), or no "
            f"column split"
        )
    classes = _names(files["unsplit" if "unsplit" in files else "train"])
    if len(classes) < 2:
        raise DataError(f"{file} has one label only, {classes[0]}; at least two are needed")
    for role, found in files.items():
        names = _names(found)
        for given, others, what in ((classes, names, "is missing from"), (names, classes, "is only in")):
            odd = sorted(set(given) - set(others))
            if odd:
                more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
                raise DataError(
                    f"the label {odd[0]}{more} {what} the {role} rows of {file}; give train, val and test images "
                    f"of the same labels"
                )


def _names(found: Iterable[FoundFile]) -> tuple[str, ...]:
    return tuple(sorted({image.class_name for image in found}))
