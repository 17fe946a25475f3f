"""Write embeddings to a Parquet file, or to a NumPy array with a CSV table; files are written atomically."""

from __future__ import annotations

import csv
import importlib
import io
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from triscale.errors import DataError, UserError
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.inference.features import Features, FeatureStream
from triscale.record import Record, atomic_file, write_atomic
from triscale.results.data_summary import BadFile

COLUMNS = ("file", "label", "split")


class FeatureFile(Record):
    """The result of writing embeddings.

    Attributes:
        images: Number of rows.
        channels: Length of each embedding.
        files: Paths of the written files.
        bad: Files that cannot be read as images and have no row.
    """

    kind_name: ClassVar[str] = "features"

    images: int
    channels: int
    files: tuple[str, ...]
    bad: tuple[BadFile, ...]


def check_feature_file(file: Path, images: str | None = None) -> None:
    """Check, before embeddings are computed, that they can be written to a file.

    Args:
        file: The output file.
        images: The images; the file must not be inside their folder.

    Raises:
        UserError: The suffix is not ``.parquet`` or ``.npy``, the folder does not exist, or the file is inside the
            folder of the images.
        DataError: The file requires pyarrow, which is not installed.
    """
    if file.suffix not in (".parquet", ".npy"):
        raise UserError(f"{file} ends in neither .parquet nor .npy; give one of these")
    if not file.absolute().parent.is_dir():
        raise UserError(f"the folder {file.absolute().parent} for {file.name} does not exist; create it")
    if images is not None:
        refuse_output_in_images(file, images)
    if file.suffix == ".parquet":
        _arrow("pyarrow", file)


def write_features(stream: FeatureStream, file: Path) -> FeatureFile:
    """Write embeddings to a file while they are computed; only one batch is in memory.

    A ``.parquet`` file has the columns file, label, split and features (a list of float32). A ``.npy`` file holds an
    array ``[N, C]`` of float32; a ``.csv`` file with the same stem holds file, label and split of each row.

    Raises:
        UserError: See :func:`check_feature_file`.
        Interrupted: See :func:`triscale.jobs.inference.features.features_of`; no file is written.
    """
    check_feature_file(file)
    if file.suffix == ".parquet":
        return FeatureFile(
            images=stream.images, channels=_write_parquet(stream, file), files=(str(file),), bad=stream.bad
        )
    table = file.with_suffix(".csv")
    channels = _write_array(stream, file, table)
    return FeatureFile(images=stream.images, channels=channels, files=(str(file), str(table)), bad=stream.bad)


def _write_parquet(stream: FeatureStream, file: Path) -> int:
    arrow, parquet = _arrow("pyarrow", file), _arrow("pyarrow.parquet", file)
    batches = iter(stream)
    first = next(batches)
    channels = int(first.vectors.shape[1])
    kind = arrow.list_(arrow.float32(), channels)
    schema = arrow.schema([*((name, arrow.string()) for name in COLUMNS), ("features", kind)])

    def rows(batch: Features) -> Any:
        values = arrow.FixedSizeListArray.from_arrays(arrow.array(batch.vectors.ravel()), channels)
        texts = [arrow.array(column, arrow.string()) for column in (batch.files, batch.labels, batch.splits)]
        return arrow.record_batch([*texts, values], schema=schema)

    with atomic_file(file) as opened, parquet.ParquetWriter(opened, schema) as writer:
        writer.write_batch(rows(first))
        for batch in batches:
            writer.write_batch(rows(batch))
    return channels


def _write_array(stream: FeatureStream, file: Path, table: Path) -> int:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    channels = 0
    with atomic_file(file) as opened:
        for batch in stream:
            if not channels:
                channels = int(batch.vectors.shape[1])
                header = {"descr": "<f4", "fortran_order": False, "shape": (stream.images, channels)}
                np.lib.format.write_array_header_1_0(opened, header)
            opened.write(np.ascontiguousarray(batch.vectors, "<f4").tobytes())
            columns = (batch.files, batch.labels, batch.splits)
            writer.writerows(["" if value is None else value for value in row] for row in zip(*columns, strict=True))
        write_atomic(table, text.getvalue().encode())
    return channels


def _arrow(name: str, file: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"writing {file} requires pyarrow; install it with: pip install 'triscale[parquet]', or write a .npy file"
        ) from error
