"""Find a folder whose images are labeled by tables in it, as Kaggle and Hugging Face ImageFolder have it.

::

    train.csv  train/1.jpg ...  test/ ...          metadata.csv  1.jpg ...
    train.csv  test.csv  images/1.jpg ...          train/metadata.jsonl  train/1.jpg ...  test/metadata.jsonl ...
                                                   train/_classes.csv  train/1.jpg ...  valid/_classes.csv ...
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from triscale.data.images.other_formats import may_be_image
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.sources.manifest import ManifestRow, ManifestRows, is_manifest, layout_of, read_rows, read_table
from triscale.data.sources.raw_table import quoted
from triscale.data.sources.shards import is_shards, role_in_filename
from triscale.data.sources.source import Layout, entries
from triscale.data.sources.split_folders import Role, find_class_folders, role_of
from triscale.data.sources.table_columns import choose_columns
from triscale.data.sources.table_paths import ImagePaths
from triscale.data.sources.tables import is_tables
from triscale.errors import DataError

_MAX_FILES = 1000
"""Number of files of a folder among which an image is looked for."""
_ORDER: tuple[Role, ...] = ("train", "val", "test")
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_ONE_HOT = ("_classes.csv", "classes.csv")
"""Names that Roboflow gives the tables of its splits; others use them for lists of classes."""
_SURE = (".csv", ".tsv", ".jsonl")
"""Suffixes of files that are hardly anything but tables."""


def find_labeled_folder(root: Path, options: DataOptions = DEFAULT_DATA) -> Layout | None:
    """Return the images of a folder that tables in it label; None if it holds no such tables.

    Class folders win over tables, unless an option names a column. Tables whose names give splits (``train.csv`` and
    ``test.csv``) are read together; those without labels and sample submissions are left out with a note.

    Args:
        root: The folder.
        options: How tables are read.

    Raises:
        DataError: A table cannot be read, or several tables could label the images.
    """
    if not root.is_dir():
        return None
    root = _descend(root.absolute())
    if is_tables(root) or is_shards(root):
        return None
    by_split = _metadata_of_splits(root, options)
    tables = _tables(root)
    if not (by_split or tables) or (not options.for_tables and has_class_folders(root)):
        return None
    if by_split:
        return _read_together(root, by_split, options, [])
    return _read_tables(root, tables, options)


def unused_tables(root: Path) -> list[str]:
    """Return a note about the tables in a folder that could label its images, but are not read.

    Args:
        root: A folder of class folders.
    """
    root = _descend(root.absolute())
    names = [file.name for file in _tables(root) if _is_labeled(file, DEFAULT_DATA)]
    if not names:
        return []
    return [f"the class folders are used, not {quoted(names)}; give the table instead of the folder to use it"]


def has_class_folders(root: Path) -> bool:
    """Return whether a folder holds at least two folders with images that are not those of splits or of all images.

    Args:
        root: The folder.
    """
    try:
        start = _descend_to_classes(root)
        found = find_class_folders(str(start), lambda path: entries(start / path))
    except DataError:
        return False
    if not all(found.of.values()):
        return False  # the images of a split are in no class folder
    classes = {name: start / folder for named in found.of.values() for name, folder in named.items()}
    return sum(not _is_neutral(name) and _holds_image(folder) for name, folder in classes.items()) > 1


def _read_tables(root: Path, tables: list[Path], options: DataOptions) -> Layout | None:
    labeled = [file for file in tables if _is_labeled(file, options)]
    notes = []
    ignored = [file.name for file in tables if file not in labeled and file.suffix.lower() in _SURE]
    if labeled and ignored:
        notes.append(
            f"{quoted(ignored)} in {root.name} {'is' if len(ignored) == 1 else 'are'} not read, for want of labels"
        )
    roles = {file: role_in_filename(file.name) for file in labeled}
    split_tables = {role: file for file, role in roles.items() if role is not None}
    if len(labeled) > 1 and "train" in split_tables and len(split_tables) == len(labeled):
        return _read_together(root, split_tables, options, notes)
    sure = [file for file in tables if file.suffix.lower() in _SURE]
    if not labeled and len(sure) != 1:
        return None
    if len(labeled) > 1:
        raise DataError(
            f"{root} holds {len(labeled)} tables of images ({quoted([file.name for file in labeled])}); give one of "
            f"them instead of the folder, such as {labeled[0]}"
        )
    file = (labeled or sure)[0]
    manifest = read_rows(file, options)
    layout = layout_of(root, manifest.rows, (), str(file))
    return replace(layout, notes=(f"the images are labeled by the table {file.name}", *notes, *manifest.notes))


def _read_together(root: Path, tables: dict[Role, Path], options: DataOptions, notes: list[str]) -> Layout:
    """Read one table for each split."""
    tables = {role: tables[role] for role in _ORDER if role in tables}
    shown = ", ".join(f"{file.relative_to(root)} ({role})" for role, file in tables.items())
    rows: list[ManifestRow] = []
    notes = [f"the images are labeled by the tables {shown}", *notes]
    split: dict[Role, Role | None] = {role: role for role in tables}
    if len(tables) == 1:
        split = dict.fromkeys(tables)
    for file, manifest in _read_alike(tables, split, options):
        notes += manifest.notes
        for row in manifest.rows:
            path = Path(os.path.normpath(file.parent / row.path))
            inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
            rows.append(row._replace(path=inside))
    _refuse_shared(root, rows)
    return layout_of(root, rows, tuple(notes), str(root))


def _read_alike(
    tables: dict[Role, Path], split: dict[Role, Role | None], options: DataOptions
) -> list[tuple[Path, ManifestRows]]:
    """Read the tables of splits; all with any number of labels if one has images with several."""
    found: list[tuple[Path, ManifestRows]] = []
    for role, file in tables.items():
        manifest = read_rows(file, options, split[role])
        found.append((file, manifest))
        if not options.is_multi_label and any(isinstance(row.label, tuple) for row in manifest.rows):
            return _read_alike(tables, split, options.replace(multi_label=True))
    return found


def _refuse_shared(root: Path, rows: list[ManifestRow]) -> None:
    roles: dict[str, Role] = {}
    for row in rows:
        if roles.setdefault(row.path, row.role) != row.role:
            raise DataError(
                f"{row.path} is in the tables of the splits {roles[row.path]} and {row.role} in {root}; keep it in one"
            )


def _metadata_of_splits(root: Path, options: DataOptions) -> dict[Role, Path]:
    """Return the table in each split folder, as Hugging Face ImageFolder and Roboflow have it."""
    found: dict[Role, Path] = {}
    for name in entries(root)[0]:
        role = role_of(name)
        if role is None or role[1]:
            continue
        files = entries(root / name)[1]
        for file in _METADATA:
            if file in files:
                found.setdefault(role[0], root / name / file)
        for file in _ONE_HOT:
            if file in files and role[0] not in found and _is_labeled(root / name / file, options):
                found[role[0]] = root / name / file
    return found if "train" in found else {}


def _tables(root: Path) -> list[Path]:
    """Return the tables in a folder, except sample submissions; only the metadata file if there is one."""
    files = [root / name for name in entries(root)[1]]
    metadata = [file for file in files if file.name.lower() in _METADATA]
    if metadata:
        return metadata[:1]
    return [file for file in files if is_manifest(file) and "submission" not in file.name.lower()]


def _is_labeled(file: Path, options: DataOptions) -> bool:
    """Return whether a table has columns of paths and labels that can be recognized, and its first images exist."""
    paths = ImagePaths(file, options.image_folder)
    try:
        table = read_table(file, paths.is_image)
        columns = choose_columns(table, options, paths.is_image)
    except DataError:
        return False
    return bool(table.rows) and any(map(paths.exists, table.column(columns.path)[:10]))


def _descend(root: Path) -> Path:
    """Follow folders that hold nothing but one folder, since archives are often unpacked to one."""
    folder = root
    for _ in range(16):
        folders, files = entries(folder)
        if len(folders) != 1 or files:
            return folder
        folder = folder / folders[0]
    return root


def _descend_to_classes(root: Path) -> Path:
    """Follow single folders next to files, as :func:`triscale.data.sources.source.find_images` does."""
    folder = root
    for _ in range(16):
        folders, _ = entries(folder)
        if len(folders) != 1:
            return folder if folders else root
        folder = folder / folders[0]
    return root


def _is_neutral(name: str) -> bool:
    """Return whether a folder is named like a split or like all images, such as train_images or images_part_1."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return role_of(name) is not None or bool(words & {"images", "image", "img", "imgs", "jpg", "data"})


def _holds_image(folder: Path) -> bool:
    seen = 0
    for _, _, files in os.walk(folder):
        if any(map(may_be_image, files[:_MAX_FILES])):
            return True
        seen += len(files)
        if seen > _MAX_FILES:
            return False
    return False
