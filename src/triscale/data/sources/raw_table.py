"""The rows of a table of images, as texts, whatever file they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class TableRow(NamedTuple):
    """One row of a table.

    Attributes:
        place: Its line or row in the file, for messages.
        fields: The value of each column.
    """

    place: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawTable:
    """The rows of a table of images.

    Attributes:
        file: The file, for messages.
        columns: The names of the columns; their numbers, from 1, if the file has no header.
        rows: The rows.
        has_header: Whether the file names its columns.
        notes: A sentence for everything that was concluded from unusual content.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    has_header: bool = True
    notes: tuple[str, ...] = ()

    def column(self, index: int) -> list[str]:
        """Return the values of a column, without spaces around them."""
        return [row.fields[index].strip() for row in self.rows]


def quoted(names: list[str] | tuple[str, ...], most: int = 8) -> str:
    """Return names as a list in a message; the first few if there are many.

    Example:
        >>> quoted(["path", "", "label"])
        'path, (no name), label'
    """
    shown = ", ".join(name or "(no name)" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
