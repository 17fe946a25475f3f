"""Open a table of images, Arrow or Parquet, memory-mapped through pyarrow."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from triscale.data.sources.table_columns import find_columns
from triscale.errors import DataError
from triscale.places import cache_folder
from triscale.record import atomic_file
from triscale.retry import summarize_error

_END = b"\xff\xff\xff\xff\0\0\0\0"  # the end-of-stream marker of the Arrow IPC format


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The names of the image and label columns, and the class names if the file gives them."""

    image: str
    label: str
    classes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class ImageTable:
    """An open table.

    Attributes:
        columns: The columns of images and labels.
        images: A chunked array of ``struct<bytes, path>``.
        ends: The rows at which its chunks end.
        names_files: Whether a row gives the path of a file instead of the bytes of an image.
        state: A string that changes with the content of the file.
        changed_ns: When the content last changed, in ns since 1970.
        table: The ``pyarrow.Table``.
    """

    columns: TableColumns
    images: Any
    ends: list[int]
    names_files: bool
    state: str
    changed_ns: int
    table: Any

    def labels(self) -> list[Any]:
        """Return the labels of all rows."""
        values: list[Any] = self.table.column(self.columns.label).to_pylist()
        return values


def open_table(file: Path) -> ImageTable:
    """Open an ``.arrow`` or ``.parquet`` file; Parquet is converted to Arrow once, in the cache folder.

    Args:
        file: The file.

    Raises:
        DataError: The file does not exist, is damaged or lacks the columns, or the cache folder cannot be written.
    """
    arrow = _module("pyarrow", file)
    try:
        status = file.stat()
        state = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        mapped = _converted(arrow, file, state) if file.suffix.lower() == ".parquet" else file
        with mapped.open("rb") as opened:
            opened.seek(-len(_END), os.SEEK_END)
            if opened.read() != _END:
                raise DataError(f"{file} is damaged: it is truncated; copy or save it again")
        table = importlib.import_module("pyarrow.ipc").open_stream(arrow.memory_map(str(mapped))).read_all()
        columns = _columns(arrow, file, table.schema)
        images = table.column(columns.image)
        images.validate(full=True)
        table.column(columns.label).validate(full=True)
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own errors are subclasses of these
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file} is damaged or cannot be read ({summarize_error(error, 200)})") from error
    return ImageTable(
        columns=columns,
        images=images,
        ends=list(accumulate(map(len, images.chunks))),
        names_files=any(chunk.field("bytes").null_count for chunk in images.chunks),
        state=state,
        changed_ns=max(status.st_mtime_ns, status.st_ctime_ns),
        table=table,
    )


def is_manifest_table(file: Path) -> bool:
    """Return whether a Parquet file names the files and classes of images, and holds no images; False if damaged."""
    arrow = _module("pyarrow", file)
    try:
        schema = _module("pyarrow.parquet", file).read_schema(file)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        return False
    if any(_is_image(arrow, kind.type) for kind in schema):
        return False
    texts = [kind.name for kind in schema if not arrow.types.is_nested(kind.type)]
    return all(find_columns(texts))


def _columns(arrow: Any, file: Path, schema: Any) -> TableColumns:
    """Return the columns that the features declare, or that have the expected type or name."""
    features = _features(schema)
    images = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    images = images or [field.name for field in schema if _is_image(arrow, field.type)]
    labels = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    labels = labels or [name for name in ("label", "labels") if name in schema.names][:1]
    image = _choose_column(file, schema, images, "image", "of the feature Image, with bytes and path")
    label = _choose_column(file, schema, labels, "label", "of the feature ClassLabel")
    if not _is_image(arrow, schema.field(image).type):
        raise DataError(f"the column {image} of {file} holds {schema.field(image).type}; expected bytes and path")
    kind = schema.field(label).type
    if not (arrow.types.is_integer(kind) or arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
        raise DataError(f"the column {label} of {file} holds {kind}; expected integers or text")
    names = features.get(label, {}).get("names")
    return TableColumns(image, label, tuple(map(str, names)) if isinstance(names, list) else None)


def _choose_column(file: Path, schema: Any, candidates: list[str], default: str, what: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    if default in candidates:
        return default
    columns = ", ".join(candidates or schema.names)
    if candidates:
        raise DataError(
            f"{file} has {len(candidates)} columns {what} ({columns}); keep one, or name one of them {default}"
        )
    raise DataError(f"{file} has no column {what}; its columns are {columns}")


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the features that Hugging Face ``datasets`` wrote about the columns."""
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = info.get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _is_image(arrow: Any, kind: Any) -> bool:
    if not arrow.types.is_struct(kind):
        return False
    fields = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
    binary = fields.get("bytes")
    return set(fields) == {"bytes", "path"} and (arrow.types.is_binary(binary) or arrow.types.is_large_binary(binary))


def _converted(arrow: Any, file: Path, state: str) -> Path:
    """Return the Arrow file of a Parquet file, written atomically if it does not exist yet."""
    digest = hashlib.sha256(f"{file.absolute()} {state}".encode(errors="surrogateescape")).hexdigest()
    cached = cache_folder() / "tables" / f"{digest[:32]}.arrow"
    if cached.is_file():
        return cached
    source = _module("pyarrow.parquet", file).ParquetFile(file)
    columns = _columns(arrow, file, source.schema_arrow)
    names = [columns.image, columns.label]
    schema = arrow.schema([source.schema_arrow.field(name) for name in names], source.schema_arrow.metadata)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write to the cache in {cache_folder()} ({error.strerror}); give another folder in TRISCALE_CACHE"
        ) from error
    with atomic_file(cached) as opened, importlib.import_module("pyarrow.ipc").new_stream(opened, schema) as writer:
        for batch in source.iter_batches(batch_size=256, columns=names):
            writer.write_batch(batch.select(names))
    return cached


def _module(name: str, file: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"reading {file} needs pyarrow; install it with: pip install 'triscale[parquet]', or give a folder of "
            f"images"
        ) from error
