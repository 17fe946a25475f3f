"""Read a manifest: a table that lists the file, the class and optionally the split of every image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.sources.raw_table import RawTable, quoted
from triscale.data.sources.record_table import read_json, read_json_lines, read_parquet
from triscale.data.sources.several_labels import label_sets, marks, one_hot_sets
from triscale.data.sources.source import FoundFile, Layout
from triscale.data.sources.split_folders import ROLE_WORDS, Role, is_text
from triscale.data.sources.table_columns import TableColumnIndices, choose_columns
from triscale.data.sources.table_labels import class_names, one_hot_names, refuse_several_labels
from triscale.data.sources.table_paths import ImagePaths, NamedImage
from triscale.data.sources.text_table import read_text_table
from triscale.errors import DataError, nearest

_RECORDS = {".json": read_json, ".jsonl": read_json_lines, ".ndjson": read_json_lines, ".parquet": read_parquet}
_TEXTS = (".csv", ".tsv", ".tab", ".psv", ".txt", ".lst")
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
SUFFIXES = (*_TEXTS, *_RECORDS, *_SPREADSHEETS)
"""Suffixes of tables; those of spreadsheets are refused with advice."""

_ORDER: tuple[Role, ...] = ("train", "val", "test", "unsplit")


class ManifestRow(NamedTuple):
    """One image.

    ``place`` is its line or row in the manifest, ``label`` its class or the names of its labels. ``group`` is empty
    without a column of groups.
    """

    place: str
    path: str
    label: str | tuple[str, ...]
    role: Role
    group: str = ""


class ManifestRows(NamedTuple):
    """The rows of a manifest, each image once, and a sentence for everything that was concluded."""

    file: Path
    rows: tuple[ManifestRow, ...]
    notes: tuple[str, ...]


def is_manifest(path: Path) -> bool:
    """Return whether a path has the suffix of a manifest and is not a folder.

    Example:
        >>> is_manifest(Path("labels.csv")), is_manifest(Path("photos"))
        (True, False)
    """
    return _suffix(path) in SUFFIXES and not path.is_dir()


def read_manifest(file: Path, options: DataOptions = DEFAULT_DATA) -> Layout:
    r"""Read the images that a manifest lists.

    The file is text with commas, semicolons, tabs, vertical bars or spaces in any usual encoding, JSON, JSON Lines (all
    of them also compressed with gzip), or Parquet (needs pyarrow). The columns of paths, labels and splits are named by
    the options or recognized; further columns are ignored. Paths are relative to the folder of the manifest, to the
    folder of the options, or to a folder next to the manifest with a usual name; they may lack the suffix of the image.
    A label is the name of a class, any text or integer; with some options, an image may have any number of labels. A
    split is one of train, val and test in any usual spelling, given for all images or for none.

    Args:
        file: The file.
        options: How it is read.

    Raises:
        DataError: The file does not exist or is damaged; columns, labels or splits are not as above; images do not
            exist or have several labels; or there are fewer than two classes.

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
    manifest = read_rows(file, options)
    return layout_of(file.absolute().parent, manifest.rows, manifest.notes, str(file))


def read_rows(file: Path, options: DataOptions = DEFAULT_DATA, role: Role | None = None) -> ManifestRows:
    """Read the rows of a manifest; see :func:`read_manifest`.

    Args:
        file: The file.
        options: How it is read.
        role: The split of all rows, if the name of the file or its folder gives it.

    Raises:
        DataError: As :func:`read_manifest`, except that any number of classes and splits is allowed.
    """
    paths = ImagePaths(file, options.image_folder, role)
    table = read_table(file, paths.is_image)
    if not table.rows:
        choose_columns(table, options, paths.is_image)
        raise DataError(f"{file} lists no images: it names the columns {quoted(table.columns)}, and has no rows")
    columns = choose_columns(table, options, paths.is_image)
    places = [row.place for row in table.rows]
    images = [NamedImage(place, text) for place, text in zip(places, table.column(columns.path), strict=True)]
    found, path_notes = paths.resolve(images)
    labels, label_notes = _labels(table, columns, options)
    splits = columns.splits(table) if role is None else [""] * len(places)
    groups = [""] * len(places) if columns.group is None else _groups(file, places, table.column(columns.group))
    rows = [
        ManifestRow(place, path, label, role or _role(file, place, split), group)
        for place, path, label, split, group in zip(places, found, labels, splits, groups, strict=True)
    ]
    unique, unique_notes = _unique(file, rows)
    return ManifestRows(file, unique, (*table.notes, *columns.notes, *path_notes, *label_notes, *unique_notes))


def _labels(
    table: RawTable, columns: TableColumnIndices, options: DataOptions
) -> tuple[Sequence[str | tuple[str, ...]], list[str]]:
    """Return the class of each row, or all of its labels, and notes."""
    if columns.label is None:
        rows = marks(table, columns.one_hot)
        if options.is_multi_label or any(sum(row) > 1 for row in rows):
            return one_hot_sets(table, columns.one_hot)
        return one_hot_names(table, columns.one_hot, rows)
    places, values = [row.place for row in table.rows], table.column(columns.label)
    if options.is_multi_label:
        return label_sets(table.file, places, values, options.label_separator)
    return class_names(table.file, places, values, combinations=options.label_separator == "none")


def read_table(file: Path, is_image: Callable[[str], bool]) -> RawTable:
    """Read the rows of a table as texts, in any of the formats.

    Args:
        file: The file.
        is_image: Whether a field names an image.

    Raises:
        DataError: The file does not exist, is damaged or in another format.
    """
    suffix = _suffix(file)
    if suffix in _SPREADSHEETS:
        raise DataError(f"{file} is a spreadsheet; save it as CSV in UTF-8 and give that")
    if not file.is_file():
        raise DataError(f"there is no manifest {file}; give a folder of images, or a .csv or .parquet file")
    if not is_text(str(file.absolute())):
        raise DataError(f"the path {str(file)!a} is not valid UTF-8; rename it")
    return _RECORDS[suffix](file) if suffix in _RECORDS else read_text_table(file, is_image)


def layout_of(root: Path, rows: Iterable[ManifestRow], notes: tuple[str, ...], source: str) -> Layout:
    """Return the images of rows, by their splits.

    Args:
        root: What the paths are relative to.
        rows: The images.
        notes: What was concluded.
        source: The file or folder, for messages.

    Raises:
        DataError: Only some rows have a split, there is no training split or no other, or only one class.
    """
    files: dict[Role, list[FoundFile]] = {}
    for row in rows:
        files.setdefault(row.role, []).append(FoundFile(row.path, row.label, row.group))
    _check_roles(source, files)
    return Layout(
        root=str(root),
        classes={role: _names(files[role]) for role in _ORDER if role in files},
        files={role: tuple(sorted(files[role])) for role in _ORDER if role in files},
        stray=(),
        notes=notes,
    )


def _suffix(path: Path) -> str:
    """Return the last suffix of a file, in lower case; the one before ``.gz``."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _unique(file: Path, rows: Iterable[ManifestRow]) -> tuple[tuple[ManifestRow, ...], list[str]]:
    """Return the rows without repetitions."""
    placed: dict[str, ManifestRow] = {}
    repeated: list[ManifestRow] = []
    for row in rows:
        first = placed.setdefault(row.path, row)
        if first is row:
            continue
        if isinstance(first.label, tuple) and isinstance(row.label, tuple):
            placed[row.path] = first._replace(label=tuple(sorted({*first.label, *row.label})))
        elif first.label != row.label:
            refuse_several_labels(file, row.path, (first.place, str(first.label)), (row.place, str(row.label)))
        if first.role != row.role:
            raise DataError(
                f"{file} lists {row.path} twice, in {first.place} and {row.place}, with the splits {first.role} and "
                f"{row.role}; keep one of them"
            )
        if first.group != row.group:
            raise DataError(
                f"{file} lists {row.path} twice, in {first.place} and {row.place}, with the groups {first.group} and "
                f"{row.group}; keep one of them"
            )
        repeated.append(row)
    if not repeated:
        return tuple(placed.values()), []
    what = (
        "and add their labels to it" if isinstance(repeated[0].label, tuple) else "with the same label, and count once"
    )
    note = f"{len(repeated)} rows of {file.name} repeat an image {what} ({repeated[0].path} in {repeated[0].place})"
    return tuple(placed.values()), [note]


def _groups(file: Path, places: list[str], groups: list[str]) -> list[str]:
    """Return the groups, all of which must be given: an image without one could leak into another split."""
    empty = [place for place, group in zip(places, groups, strict=True) if not group]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(places)} rows of {file} have no group, such as {empty[0]}; give each image one, or "
            f"a group of its own"
        )
    return groups


def _role(file: Path, place: str, split: str) -> Role:
    if not split:
        return "unsplit"
    role = ROLE_WORDS.get(split.lower())
    if role is None:
        hint = nearest(split, ROLE_WORDS).rstrip("?")
        raise DataError(f'the split "{split}" in {place} of {file} is unknown{hint}; expected train, val or test')
    return role


def _check_roles(source: str, files: dict[Role, list[FoundFile]]) -> None:
    if "unsplit" in files and len(files) > 1:
        raise DataError(
            f"{len(files['unsplit'])} rows of {source} have no split and the others have one; give it for all or none"
        )
    if "unsplit" not in files and (len(files) < 2 or "train" not in files):
        raise DataError(
            f"{source} has only images of the split {' and '.join(files)}; expected train and test (or val), or no "
            f"column split"
        )
    classes = _names(files["unsplit" if "unsplit" in files else "train"])
    if len(classes) < 2:
        raise DataError(f"{source} has only one label, {classes[0]}; give at least two")


def _names(files: Iterable[FoundFile]) -> tuple[str, ...]:
    return tuple(sorted({name for image in files for name in image.class_names}))
