"""The numbers behind a figure, as a table from which the figure can be drawn again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class FigureData:
    r"""The numbers behind a figure.

    Attributes:
        columns: Names of the columns, with units.
        rows: The values, in full precision.

    Raises:
        ValueError: A row has more or fewer values than there are columns.

    Example:
        >>> FigureData.of(("epochs", "accuracy (share)"), [(1, 0.5), (2, None)]).to_csv()
        'epochs,accuracy (share)\n1,0.5\n2,\n'
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, columns: Iterable[str], rows: Iterable[Iterable[Cell]]) -> FigureData:
        """Return the data of a figure from any iterables."""
        return cls(tuple(columns), tuple(map(tuple, rows)))

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} values for the {len(self.columns)} columns {self.columns}")

    def to_csv(self) -> str:
        """Return the table as CSV: a header, unrounded numbers, ``yes`` or ``no``, and nothing for a missing value."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_text(cell) for cell in row] for row in self.rows)
        return buffer.getvalue()


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case float():
            return repr(float(cell))  # also of numpy's subclass, whose own repr names its type
        case _:
            return str(cell)
