"""Read images from tables as saved by Hugging Face ``datasets``: Arrow files, or a folder of Parquet files."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from triscale.data.images.color import BadImage
from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits, read_bytes
from triscale.data.images.other_formats import has_image_suffix
from triscale.data.sources.scan_cache import FileStamp
from triscale.data.sources.shards import role_in_filename
from triscale.data.sources.source import FoundFile, Layout, entries, is_visible
from triscale.data.sources.split_folders import ROLE_WORDS, Role
from triscale.data.sources.table_file import ImageTable, is_manifest_table, open_table
from triscale.errors import DataError

_ORDER: tuple[Role, ...] = ("train", "val", "test", "unsplit")


def is_tables(root: Path) -> bool:
    """Return whether a folder was saved by ``datasets``, or holds Parquet files, no class folders and no images.

    Parquet files that are manifests do not count, see :func:`triscale.data.sources.manifest.read_manifest`.

    Example:
        >>> is_tables(Path("no such folder"))
        False
    """
    if not root.is_dir():
        return False
    if (root / "dataset_dict.json").is_file() or _is_saved(root):
        return True
    folders, files = entries(root)
    inside = entries(root / "data") if folders == ["data"] else ([], [])
    if folders not in ([], ["data"]) or inside[0] or any(map(has_image_suffix, files)):
        return False
    paths = [root / name for name in files if _is_parquet(name)]
    paths += [root / "data" / name for name in inside[1] if _is_parquet(name)]
    return bool(paths) and not any(map(is_manifest_table, paths))


def find_tables(root: Path) -> Layout:
    """Find the rows with an image and a label.

    The folder was written by ``save_to_disk``, from one ``Dataset`` or a ``DatasetDict`` of splits. Or it holds Parquet
    files, directly or in a folder ``data``, with the split in the name of every file or of none. The image column has
    the feature ``Image`` or the type ``struct<bytes, path>``. The label column has the feature ``ClassLabel`` or the
    name ``label``. Of several candidates, those named ``image`` and ``label`` are used. The path of an image consists
    of its file and row.

    Parquet is converted to Arrow once, in the cache folder, since single rows of it cannot be read.

    Args:
        root: The folder.

    Raises:
        DataError: Files are unreadable or damaged, columns are missing or ambiguous, only some files have a split, or
            class names differ between files.
    """
    root = root.absolute()
    files: dict[Role, list[FoundFile]] = {}
    unusable: list[tuple[str, str]] = []
    labels_of: dict[str, list[Any]] = {}
    named: dict[str, tuple[str, ...] | None] = {}
    roles = table_roles(root)
    for name in roles:
        table = open_table(root / name)
        labels_of[name], named[name] = table.labels(), table.columns.classes
    if len(set(named.values())) > 1:
        other = next(name for name, names in named.items() if names != next(iter(named.values())))
        raise DataError(
            f"the classes of {next(iter(named))} and {other} in {root} differ; save them with the same names"
        )
    names = next(iter(named.values()))
    for name, role in roles.items():
        in_role = files.setdefault(role, [])
        for row, label in enumerate(labels_of[name]):
            path = f"{name}#{row}"
            class_name = _class_of(label, names)
            if class_name is None:
                unusable.append((path, "it has no label" if label in (None, -1) else f"its label is {label!r}"))
            else:
                in_role.append(FoundFile(path, class_name))
    present = {
        role: {name for one in in_role for name in one.class_names} | set(names or ())
        for role, in_role in files.items()
    }
    all_names = names or tuple(sorted(set().union(*present.values()), key=_by_number))
    return Layout(
        root=str(root),
        classes={role: tuple(name for name in all_names if name in present[role]) for role in files},
        files={role: tuple(sorted(files[role])) for role in _ORDER if role in files},
        stray=(),
        unusable=tuple(unusable),
    )


def table_roles(root: Path) -> dict[str, Role]:
    """Return the table files below a folder, by their relative paths, in order, and the split of each.

    Raises:
        DataError: Splits have other names than train, val and test, or only some files have one.
    """
    if (root / "dataset_dict.json").is_file():
        splits = sorted(path.name for path in root.iterdir() if path.is_dir() and is_visible(path.name))
        unknown = [split for split in splits if split.lower() not in ROLE_WORDS]
        if unknown:
            raise DataError(
                f"{root} has a split {unknown[0]}; expected train, val (or validation) and test: rename or remove it"
            )
        files: dict[str, Role | None] = {
            f"{split}/{name}": ROLE_WORDS[split.lower()] for split in splits for name in _saved(root / split)
        }
    elif _is_saved(root):
        files = dict.fromkeys(_saved(root))
    else:
        names = [name for name in entries(root)[1] if _is_parquet(name)]
        if (root / "data").is_dir():
            names += [f"data/{name}" for name in entries(root / "data")[1] if _is_parquet(name)]
        files = {name: role_in_filename(Path(name).name) for name in names}
    given_roles = set(files.values())
    if given_roles in ({None}, {"train"}):
        return dict.fromkeys(files, "unsplit")
    if None in given_roles or "train" not in given_roles:
        shown = ", ".join(name for name, role in files.items() if role != "train")
        raise DataError(
            f"expected train, and val or test, in the names of the files in {root}, or no split in any; given "
            f"{shown[:200]}"
        )
    return {name: role for role_in_order in _ORDER for name, role in files.items() if role == role_in_order}


class ImageTables:
    """Read the images in a folder of tables; see :class:`triscale.data.sources.store.Store`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tables = {name: open_table(root / name) for name in table_roles(root)}

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageTables, (self.root,)

    def read(self, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
        """Return the bytes of a row's image, or of the file whose path the row gives instead."""
        table, row = self._row(path)
        if table is None:
            raise BadImage("no such row")
        chunk = bisect_right(table.ends, row)
        images = table.images.chunk(chunk)
        index = row - (table.ends[chunk - 1] if chunk else 0)
        if not images[index].is_valid:
            raise BadImage("the row has no image")
        content, file = images.field("bytes")[index], images.field("path")[index].as_py()
        if not content.is_valid:
            if not file:
                raise BadImage("the row has no image")
            return read_bytes(self.root / file, limits)
        buffer = content.as_buffer()
        if buffer.size > limits.file_bytes:
            raise BadImage(f"{buffer.size} bytes, more than the limit of {limits.file_bytes}")
        return bytes(buffer)

    def stamp(self, path: str) -> FileStamp:
        """Return the state of the file and the row; unknown if rows refer to other files."""
        table = self._row(path)[0]
        if table is None or table.names_files:
            return FileStamp("", 0)
        return FileStamp(f"{path} {table.state}", table.changed_ns)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the paths of rows that do not exist."""
        return [path for path in paths if self._row(path)[0] is None]

    def location(self, path: str) -> str:
        """Return file and row."""
        return str(self.root / path)

    def _row(self, path: str) -> tuple[ImageTable | None, int]:
        name, _, digits = path.rpartition("#")
        table = self._tables.get(name)
        if table is None or not digits.isdigit() or int(digits) >= table.images.length():
            return None, 0
        return table, int(digits)


def _class_of(label: Any, names: tuple[str, ...] | None) -> str | None:
    """Return the class name of a label; None if it has none."""
    if isinstance(label, bool) or label is None or label == "":
        return None
    if isinstance(label, int):
        if names is None:
            return str(label) if label >= 0 else None
        return names[label] if 0 <= label < len(names) else None
    return str(label) if names is None or label in names else None


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isascii() and name.isdigit() else (1 << 62, name)


def _is_saved(root: Path) -> bool:
    return (root / "state.json").is_file() and any(root.glob("*.arrow"))


def _saved(folder: Path) -> list[str]:
    """Return the files of a saved dataset, in order."""
    try:
        state = json.loads((folder / "state.json").read_bytes())
        if state.get("_indices_data_files"):
            raise DataError(f"{folder} holds a selection by indices; save it again with a newer version of datasets")
        return [str(Path(file["filename"]).name) for file in state["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder / 'state.json'} is missing or damaged ({error}); save the dataset again") from error


def _is_parquet(name: str) -> bool:
    return name.lower().endswith(".parquet")
