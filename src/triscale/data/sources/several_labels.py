"""Read any number of labels for each image: from one cell with a separator, from lists, or from columns of 0 and 1."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from triscale.data.sources.raw_table import RawTable, quoted
from triscale.data.sources.table_labels import EMPTY_LABELS, items_of, other_separators, refuse_unprintable

Labels = tuple[str, ...]


def label_sets(
    file: Path, places: Sequence[str], values: Sequence[str], separator: str | None
) -> tuple[list[Labels], list[str]]:
    """Return the labels of each row, sorted, and notes; an empty cell has none.

    Args:
        file: The table, for messages.
        places: Where each row is.
        values: The cell of each row: labels with the separator between them, or a list as Python or JSON writes it.
        separator: What separates labels; None or ``"none"`` if a cell that is no list is one label.

    Raises:
        DataError: A label holds characters that cannot be seen.

    Example:
        >>> label_sets(Path("a.csv"), ["line 2", "line 3"], ["sea sunset", ""], " ")[0]
        [('sea', 'sunset'), ()]
    """
    sets: list[Labels] = []
    for place, value in zip(places, values, strict=True):
        cell = unicodedata.normalize("NFC", value.strip())
        if cell.lower() in EMPTY_LABELS or cell == "[]":
            sets.append(())
            continue
        items = items_of(cell)
        if items is None:
            items = cell.split(separator) if separator not in (None, "none") else [cell]
        labels = tuple(sorted({item.strip() for item in items if item.strip()}))
        for label in labels:
            refuse_unprintable(file, place, label)
        sets.append(labels)
    return sets, [*_notes(file, sets), *other_separators(file, sets, separator)]


def one_hot_sets(table: RawTable, indices: Sequence[int]) -> tuple[list[Labels], list[str]]:
    """Return the labels of each row from columns of zeros and ones, sorted, and notes.

    Args:
        table: The table.
        indices: The columns, one for each class.
    """
    names = [unicodedata.normalize("NFC", table.columns[index]) for index in indices]
    sets = [
        tuple(sorted(name for name, is_set in zip(names, row, strict=True) if is_set)) for row in marks(table, indices)
    ]
    note = f"{table.file.name} has no column label; each column with a 1 is a label: {quoted(names)}"
    return sets, [note, *_notes(table.file, sets)]


def marks(table: RawTable, indices: Sequence[int]) -> list[list[bool]]:
    """Return for each row which of the columns hold a 1."""
    return [[row.fields[index].strip().lower() in ("1", "1.0", "true") for index in indices] for row in table.rows]


def _notes(file: Path, sets: Sequence[Labels]) -> list[str]:
    several, none = sum(len(labels) > 1 for labels in sets), sum(not labels for labels in sets)
    mean = sum(map(len, sets)) / max(1, len(sets))
    without = f", {none} have none" if none else ""
    note = (
        f"{file.name}: images have any number of labels, {mean:.3g} on average ({several} of {len(sets)} rows have "
        f"several{without})"
    )
    return [note]
