"""Tables of accuracies that stand in for trainings in a baseline search: their networks, and how to read them.

Three forms are read:

- A plain table (``.csv`` or ``.csv.gz``): a row for each network, or for each of its trainings with another seed; a
  column for each free choice of the space (``block0_kernels``, ``block0_layers``, ..., ``resolution``) with the chosen
  option itself, and a column ``accuracy`` (a share from 0 to 1) or ``accuracy_percent``. Other columns are ignored.
- The result of an earlier search: its folder, or ``found.json`` in it.
- Accel-NASBench (``accel_nasbench.csv.gz``): networks of EfficientNet-B0's skeleton, trained on ImageNet.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from triscale.errors import SearchError
from triscale.families import get
from triscale.network.spec import Network, Stage
from triscale.search.baseline.explore import BaselineSearchResult, TableSource, compared
from triscale.search.baseline.options import NAMES, Choices, Options
from triscale.search.baseline.space import Choice, Sample, Space, make_space
from triscale.search.study.trial import Score

ACCURACY, PERCENT = "accuracy", "accuracy_percent"
SUFFIXES = (".csv", ".csv.gz", ".json")
MAX_BYTES = 2**28
"""Maximum size of an unpacked table; Accel-NASBench has less than 1 MB."""

ACCEL = "accel_nasbench"
ACCEL_SKELETON = "efficientnet_b0"
ACCEL_COLUMNS = {"kernels": "k", "expansions": "e", "se_ratios": "se", "layers": "l"}
MACRO_COLUMNS = frozenset({"arch", "acc0", "acc1", "acc2"})
_CHOICE = re.compile(rf"block(\d+)_({'|'.join(NAMES)})|resolution")


class TableAnswer(NamedTuple):
    """The answer of a table for a network: mean accuracy and its standard error, 0 if there is only one row."""

    sample: Sample
    accuracy: float
    error: float


Structure = tuple[tuple[Stage, ...], int]
"""Stages and resolution: what distinguishes networks of one space."""


@dataclass(frozen=True)
class AccuracyTable:
    """The networks of a space whose accuracy is known.

    Attributes:
        file: The file in messages.
        answers: An answer for each network.
    """

    file: str
    answers: dict[Structure, TableAnswer]

    @property
    def name(self) -> str:
        """Name of the file; of the result of a search, with its folder."""
        path = Path(self.file)
        return f"{path.parent.name}/{path.name}" if path.suffix == ".json" else path.name

    @cached_property
    def pool(self) -> list[Sample]:
        """A sample for each network, in the order of the table."""
        return [answer.sample for answer in self.answers.values()]

    def score(self, network: Network) -> Score:
        """Return the accuracy of a network.

        Raises:
            SearchError: The network is not in the table.
        """
        answer = self.answers.get((network.stages, network.resolution))
        if answer is None:
            raise SearchError(f"the table {self.file} has no row for {network.name}")
        return Score(answer.accuracy, answer.error)


class _Column(NamedTuple):
    """A column of a table that holds a choice, the values of its options in their order, and how to read one."""

    name: str
    values: tuple[object, ...]
    free: bool = True


class _Layout(NamedTuple):
    """How a CSV file states samples and accuracies: accuracies are divided by ``scale``."""

    columns: tuple[_Column, ...]
    accuracy: str
    scale: float


def find_table(
    file: Path, skeleton: Network | None = None, space: tuple[str, Choices] | None = None
) -> tuple[TableSource, Space | None]:
    """Return a table and the space that it names: a result and a published table do, a plain table does not.

    Args:
        file: The table, or the folder of a finished search.
        skeleton: The skeleton that was asked for, if any.
        space: Name and choices that were asked for, if any.

    Raises:
        SearchError: The file cannot be read, its form is unknown, or it belongs to another skeleton or space.
        RecordError: A JSON file is not the result of a search.
    """
    path = (file / BaselineSearchResult.file_name if file.is_dir() else file).absolute()
    content = _content(path)
    source = TableSource(file=str(path), sha256=hashlib.sha256(content).hexdigest())
    if path.suffix == ".json":
        own = BaselineSearchResult.from_json(content, str(path)).space
    else:
        header = _header(_text(path, content), path)
        if set(header) >= MACRO_COLUMNS:
            raise SearchError(
                f"{path} is NAS-Bench-Macro, whose layers may be left out and couple kernel and expansion, which no "
                "space of this search does; python benchmarks/search_tables.py of the repository replays it"
            )
        if not _is_accel(header):
            return source, None
        own = accel_space()
    if skeleton is not None and not _same_skeleton(skeleton, own.skeleton):
        raise SearchError(
            f"{path} holds networks around {own.skeleton.name}, and the skeleton given is {skeleton.name}; leave "
            "--skeleton out, or give another table"
        )
    if space is not None and space[1] != own.choices:
        raise SearchError(
            f"{path} holds networks of the space {own.name}, whose choices differ from those of {space[0]}; leave "
            "--space and --resolutions out, or give another table"
        )
    return source, own


def read_table(source: TableSource, space: Space) -> AccuracyTable:
    """Return the accuracies of a table that :func:`find_table` found.

    Rows of the same network are trainings with different seeds: the answer is their mean.

    Raises:
        SearchError: The file was changed or cannot be read, a column is missing, or a value is not one of the options
            or no accuracy.
    """
    path = Path(source.file)
    content = _content(path)
    if (found := hashlib.sha256(content).hexdigest()) != source.sha256:
        raise SearchError(
            f"{path} is another table than the search began with: its SHA-256 is {found[:16]}..., not "
            f"{source.sha256[:16]}...; restore it, or start a new search in another folder"
        )
    if path.suffix == ".json":
        evaluated = BaselineSearchResult.from_json(content, str(path)).evaluated
        rows: Iterable[tuple[Sample, float, float]] = (
            (one.sample, one.accuracy or 0.0, one.error) for one in (evaluated[index] for index in compared(evaluated))
        )
    else:
        rows = _csv_rows(_text(path, content), path, space)
    by_network: dict[Structure, list[tuple[Sample, float, float]]] = {}
    for row in rows:
        by_network.setdefault(space.stages(row[0]), []).append(row)
    if not by_network:
        raise SearchError(f"{path} holds no rows; give a table with at least one network")
    return AccuracyTable(str(path), {structure: _answer(same) for structure, same in by_network.items()})


def accel_space() -> Space:
    """Return the space of Accel-NASBench around EfficientNet-B0, with 1 to 3 layers per block, and to 4 in the sixth.

    Example:
        >>> accel_space().size
        104485552128
    """
    skeleton = get(ACCEL_SKELETON)
    options = tuple(
        Options(
            operations=("mbconv",),
            kernels=(3, 5),
            expansions=(1, 4, 6),
            se_ratios=(0.0, 0.25),
            skips=("identity",),
            widths=(1.0,),
            layers=tuple(count - stage.repeats for count in ((1, 2, 3, 4) if number == 5 else (1, 2, 3))),
        )
        for number, stage in enumerate(skeleton.stages)
    )
    return make_space(ACCEL, skeleton, Choices(options=options))


def column_of(choice: Choice) -> str:
    """Return the name of a choice's column in a plain table.

    Example:
        >>> column_of(accel_space().free_choices[0])
        'block0_kernels'
    """
    return choice.name if choice.block is None else f"block{choice.block}_{choice.name}"


def _answer(rows: Sequence[tuple[Sample, float, float]]) -> TableAnswer:
    sample, _, error = rows[0]
    accuracies = [accuracy for _, accuracy, _ in rows]
    if len(rows) > 1:
        error = stdev(accuracies) / math.sqrt(len(rows))
    return TableAnswer(sample, fmean(accuracies), error)


def _same_skeleton(one: Network, other: Network) -> bool:
    """Return whether skeletons differ at most in classes and in what a recipe changes."""
    changed = {name: getattr(other, name) for name in ("classes", "dropout", "drop_path", "norm")}
    return one.replace(**changed).structure == other.structure


def _content(path: Path) -> bytes:
    if not path.name.endswith(SUFFIXES):
        raise SearchError(
            f"{path} is no table: its name ends in none of {', '.join(SUFFIXES)}; give one of these, or the folder of "
            "a finished search"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise SearchError(
            f"cannot read the table {path} ({error.strerror}); give a {', '.join(SUFFIXES)} file, or the folder of a "
            "finished search"
        ) from error


def _text(path: Path, content: bytes) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SearchError(f"{path} has more than {MAX_BYTES >> 20} MB unpacked, which is no table of this kind")
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SearchError(f"cannot read the table {path}: {error}; give a CSV file in UTF-8") from error


def _header(text: str, path: Path) -> list[str]:
    header = next(_lines(text, path), (0, []))[1]
    if not header:
        raise SearchError(f"{path} is empty; give a table with a header and a row for each network")
    if double := sorted({name for name in header if header.count(name) > 1}):
        raise SearchError(f"{path} has two columns named {double[0]}; give each column once")
    return header


def _lines(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise SearchError(f"cannot read {path}, line {reader.line_num}: {error}; give a CSV file") from error


def _is_accel(header: Sequence[str]) -> bool:
    return {"top1", *(f"block0_{short}" for short in ACCEL_COLUMNS.values())} <= set(header)


def _csv_rows(text: str, path: Path, space: Space) -> Iterator[tuple[Sample, float, float]]:
    header = _header(text, path)
    layout = _accel_layout(space) if _is_accel(header) else _plain_layout(header, path, space)
    places = {name: index for index, name in enumerate(header)}
    if missing := [column.name for column in layout.columns if column.name not in places]:
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise SearchError(
            f"{path} has no column {missing[0]}{more}; a table of the space {space.name} around {space.skeleton.name} "
            "has one for each choice: give the --skeleton and --space of the table, or add the columns"
        )
    indices = [{value: index for index, value in enumerate(column.values)} for column in layout.columns]
    lines = _lines(text, path)
    next(lines)
    for number, cells in lines:
        at = f"{path}, line {number}"
        if len(cells) != len(header):
            raise SearchError(
                f"{at} has {len(cells)} cells, and the header has {len(header)}; give one for each column"
            )
        sample = []
        for column, known in zip(layout.columns, indices, strict=True):
            index = known.get(_value(cell := cells[places[column.name]]))
            if index is None:
                options = ", ".join(map(str, column.values))
                raise SearchError(
                    f'{at}: {column.name} is "{cell}", and the space {space.name} has {options} there; give the '
                    "--skeleton and --space of the table, or correct it"
                )
            if column.free:
                sample.append(index)
        yield tuple(sample), _accuracy(cells[places[layout.accuracy]], layout, at), 0.0


def _value(cell: str) -> object:
    """Return a cell as a number if it is one: 0.250 is the option 0.25, and 3.0 the option 3."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _accuracy(cell: str, layout: _Layout, at: str) -> float:
    value = _value(cell)
    if isinstance(value, float) and 0 <= value <= layout.scale:
        return value / layout.scale
    hint = f"; name the column {PERCENT} if it is in percent" if layout.accuracy == ACCURACY else ""
    raise SearchError(
        f'{at}: {layout.accuracy} is "{cell}"; give a number from 0 to {layout.scale:g}{hint}, or leave the row out'
    )


def _accel_layout(space: Space) -> _Layout:
    """Return the layout of Accel-NASBench, which states numbers of layers and whether a block has SE."""
    columns = []
    for choice in space.free_choices:
        values: tuple[object, ...] = choice.options
        match choice.name:
            case "layers":
                values = tuple(space.skeleton.stages[choice.block or 0].repeats + change for change in choice.options)  # type: ignore[operator]
            case "se_ratios":
                values = (0, 1)
        columns.append(_Column(f"block{choice.block}_{ACCEL_COLUMNS[choice.name]}", values))
    return _Layout(tuple(columns), "top1", 100.0)


def _plain_layout(header: Sequence[str], path: Path, space: Space) -> _Layout:
    stated = [name for name in (ACCURACY, PERCENT) if name in header]
    if len(stated) != 1:
        given = "both of the columns" if stated else "none of the columns"
        raise SearchError(
            f"{path} has {given} {ACCURACY} (a share from 0 to 1) and {PERCENT} (from 0 to 100); give one of them"
        )
    free = {column_of(choice): choice.options for choice in space.free_choices}
    columns = [_Column(name, values) for name, values in free.items()]
    # A choice with a single option needs no column. If there is one, it must agree.
    for name in header:
        found = _CHOICE.fullmatch(name)
        if found is None or name in free:
            continue
        block, options = found.group(1), space.choices.options
        if block is not None and int(block) >= len(space.skeleton.stages):
            raise SearchError(
                f"{path} has a column {name}, and {space.skeleton.name} has the blocks 0 to "
                f"{len(space.skeleton.stages) - 1}; give the --skeleton of the table"
            )
        if block is None:
            only: tuple[object, ...] = space.choices.resolutions or (space.skeleton.resolution,)
        else:
            only = getattr(options[int(block)] if len(options) > 1 else options[0], found.group(2))
        columns.append(_Column(name, only, free=False))
    return _Layout(tuple(columns), stated[0], 1.0 if stated[0] == ACCURACY else 100.0)
