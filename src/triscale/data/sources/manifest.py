"""Read a manifest: a CSV or Parquet table that lists the file, the class and optionally the split of every image."""

from __future__ import annotations

import csv
import importlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from triscale.data.sources.source import FoundFile, Layout
from triscale.data.sources.split_folders import ROLE_WORDS, Role, is_text
from triscale.errors import DataError, nearest

SUFFIXES = (".csv", ".parquet")

COLUMNS = ("path", "label", "split")
"""The columns of a manifest; ``split`` is optional."""

_ORDER: tuple[Role, ...] = ("train", "val", "test", "unsplit")
_EXPECTED = "expected the columns path, label and, optionally, split"


class _Row(NamedTuple):
    """One image; ``place`` is its line or row in the manifest."""

    place: str
    path: str
    label: str
    split: str


def is_manifest(path: Path) -> bool:
    """Return whether a path has the suffix of a manifest and is not a folder.

    Example:
        >>> is_manifest(Path("labels.csv")), is_manifest(Path("photos"))
        (True, False)
    """
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_manifest(file: Path) -> Layout:
    r"""Read the images that a manifest lists.

    Paths are relative to the folder of the manifest. Paths that lead out of it, with ``..`` or as absolute paths, are
    allowed if the files exist, but such a dataset cannot be moved with its folder. A label is the name of a class, any
    text or integer. A split is one of train, val (also valid, validation) and test, given for all images or for none.
    Every image is listed once.

    Args:
        file: A ``.csv`` file in UTF-8, with commas and a header line, or a ``.parquet`` file (needs pyarrow).

    Raises:
        DataError: The file does not exist or is damaged; columns, labels or splits are not as above; images do not
            exist or are listed twice; there are fewer than two classes, or different ones in the splits.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as temporary:
        ...     folder = Path(temporary)
        ...     for name in ("1.png", "2.png"):
        ...         Image.new("RGB", (8, 8)).save(folder / name)
        ...     _ = (folder / "labels.csv").write_text("path,label\n1.png,cat\n2.png,dog\n")
        ...     read_manifest(folder / "labels.csv").classes
        {'unsplit': ('cat', 'dog')}
    """
    if not file.is_file():
        raise DataError(f"there is no manifest {file}; give a folder of images, or a .csv or .parquet file")
    if not is_text(str(file.absolute())):
        raise DataError(f"the path {str(file)!a} is not valid UTF-8; rename it")
    rows = _read_csv(file) if file.suffix.lower() == ".csv" else _read_parquet(file)
    if not rows:
        raise DataError(f"{file} lists no images; expected one in each row")
    root = file.absolute().parent
    files: dict[Role, list[FoundFile]] = {}
    placed: dict[str, _Row] = {}
    missing: list[_Row] = []
    for row in rows:
        path = _normalized(root, row, file)
        _check_unique(file, placed, path, row)
        if not os.path.isfile(root / path):  # noqa: PTH113 - pathlib raises where a name is too long
            missing.append(row)
        files.setdefault(_role(file, row), []).append(FoundFile(path, _label(file, row)))
    if missing:
        shown = ", ".join(f"{row.path} ({row.place})" for row in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{len(missing)} of {len(rows)} files listed in {file} do not exist: {shown}; paths are relative to {root}"
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
            indices = _check_columns(file, header)
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise DataError(
                        f"line {reader.line_num} of {file} has {len(fields)} fields; expected {len(header)}, as in "
                        f"the first line: {','.join(header)}"
                    )
                values = [fields[index] if index is not None else "" for index in indices]
                rows.append(_Row(f"line {reader.line_num}", *values))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not valid UTF-8; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{file} is damaged ({error}); expected CSV with commas and balanced quotes") from error
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
    except (OSError, ValueError) as error:  # pyarrow's own errors are subclasses of these
        raise DataError(f"{file} is not a readable Parquet file ({error}); save it again") from error
    indices = _check_columns(file, table.column_names)
    rows: list[_Row] = []
    for number, fields in enumerate(zip(*columns, strict=True), start=1):
        values = [
            _as_text(file, number, column, fields[index])
            for column, index in zip(COLUMNS, indices, strict=True)
            if index is not None
        ]
        rows.append(_Row(f"row {number}", *values, *[""] * (len(COLUMNS) - len(values))))
    return rows


def _as_text(file: Path, number: int, column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or (column == "label" and isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    kind = type(value).__name__
    expected = "text or integers" if column == "label" else "text"
    raise DataError(f"column {column} of {file} holds a {kind}, {value!r}, in row {number}; expected {expected}")


def _check_columns(file: Path, header: Sequence[str]) -> tuple[int, int, int | None]:
    """Return the indices of path, label and split."""
    for name in header:
        if name not in COLUMNS:
            together = len(header) == 1 and any(mark in name for mark in ";\t|")
            hint = "; separate columns with commas" if together else nearest(name, COLUMNS).rstrip("?")
            raise DataError(f'{file} has a column "{name}"{hint}; {_EXPECTED}, named in the first line, and no others')
    for name in COLUMNS:
        if header.count(name) > 1:
            raise DataError(f"{file} has two columns {name}; {_EXPECTED}")
        if name not in header and name != "split":
            raise DataError(f"{file} has no column {name}; {_EXPECTED}")
    return header.index("path"), header.index("label"), header.index("split") if "split" in header else None


def _normalized(root: Path, row: _Row, file: Path) -> str:
    """Return a path relative to the root if it is below it, without ``..``."""
    if not row.path:
        raise DataError(f"{row.place} of {file} has no path")
    if not is_text(row.path) or "\0" in row.path:
        raise DataError(f"the path {row.path!a} in {row.place} of {file} is not a valid file name")
    path = root / row.path
    short = Path(os.path.normpath(path))
    if short.resolve() == path.resolve():  # not so if a symbolic link precedes the ".."
        path = short
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _check_unique(file: Path, placed: dict[str, _Row], path: str, row: _Row) -> None:
    first = placed.setdefault(path, row)
    if first is not row:
        differing = f", with the labels {first.label} and {row.label}" if first.label != row.label else ""
        raise DataError(f"{file} lists {path} twice, in {first.place} and {row.place}{differing}; keep one of them")


def _label(file: Path, row: _Row) -> str:
    label = unicodedata.normalize("NFC", row.label.strip())
    if not label or not label.isprintable():
        raise DataError(f"the label {row.label!r} in {row.place} of {file} is not a class name; expected a short text")
    return label


def _role(file: Path, row: _Row) -> Role:
    split = row.split.strip()
    if not split:
        return "unsplit"
    role = ROLE_WORDS.get(split.lower())
    if role is None:
        hint = nearest(split, ROLE_WORDS).rstrip("?")
        raise DataError(f'the split "{split}" in {row.place} of {file} is unknown{hint}; expected train, val or test')
    return role


def _check_roles(file: Path, files: dict[Role, list[FoundFile]]) -> None:
    if "unsplit" in files and len(files) > 1:
        raise DataError(
            f"{len(files['unsplit'])} rows of {file} have no split and the others have one; give it for all or none"
        )
    if "unsplit" not in files and (len(files) < 2 or "train" not in files):
        raise DataError(
            f"{file} has only images of the split {' and '.join(files)}; expected train and test (or val), or no "
            f"column split"
        )
    classes = _names(files["unsplit" if "unsplit" in files else "train"])
    if len(classes) < 2:
        raise DataError(f"{file} has only one label, {classes[0]}; give at least two")
    for role, in_role in files.items():
        names = _names(in_role)
        for given, others, what in ((classes, names, "is missing from"), (names, classes, "is only in")):
            unmatched = sorted(set(given) - set(others))
            if unmatched:
                more = f" (and {len(unmatched) - 1} more)" if len(unmatched) > 1 else ""
                raise DataError(
                    f"the label {unmatched[0]}{more} {what} the {role} rows of {file}; give train, val and test images "
                    f"the same labels"
                )


def _names(files: Iterable[FoundFile]) -> tuple[str, ...]:
    return tuple(sorted({image.class_name for image in files}))
