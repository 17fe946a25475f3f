"""Terminal output: tables, JSON and progress."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from triscale.record import Record

SHORT_CELL = 24
"""Texts up to this length are not wrapped."""
MAX_TABLE = 400
"""Maximum width of a table if the output is not a terminal."""

console = Console(highlight=False)


def make_printable() -> None:
    r"""Replace what cannot be encoded, rather than fail.

    A character that the terminal's encoding lacks is printed as a question mark. A byte of a file name that is not
    UTF-8 is printed as an escape such as ``\udcff``, which in JSON stands for the same.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if _is_utf8(stream) else "replace")


def print_json(data: Record | Sequence[Record] | dict[str, object]) -> None:
    """Print machine-readable output: one JSON document, escaped if the output's encoding is not UTF-8."""
    if isinstance(data, Record):
        plain: object = json.loads(data.to_json())
    elif isinstance(data, dict):
        plain = data
    else:
        plain = [json.loads(item.to_json()) for item in data]
    print(json.dumps(plain, indent=1, ensure_ascii=not _is_utf8(sys.stdout)))


def json_text(record: Record) -> str:
    """Return a record as indented JSON, escaped if the output's encoding is not UTF-8."""
    return json.dumps(json.loads(record.to_json()), indent=1, ensure_ascii=not _is_utf8(sys.stdout))


def _is_utf8(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf8")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, title: str = "") -> None:
    """Print a table that stays readable in a narrow terminal.

    If the table is wider than the terminal, long texts in the left columns are wrapped between words. If that is not
    enough, each row is printed as a block with one line per column. If the output is not a terminal, the width is not
    limited.

    Args:
        columns: Headings.
        rows: Rows with one cell per column.
        left: Number of left-aligned columns; the others are right-aligned and never wrapped.
        title: Title above the table.
    """
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        if index < left:
            cells = [row[index] for row in (columns, *rows)]
            words = [word for cell in cells for word in cell.split()]
            short = [cell for cell in cells if len(cell) <= SHORT_CELL]
            grid.add_column(column, overflow="fold", min_width=max(map(len, (*words, *short)), default=1))
        else:
            grid.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(escape, row))
    measured = Measurement.get(console, console.options.update(max_width=MAX_TABLE), grid)
    if title:  # not as the title of the grid, which would be wrapped at the width of a narrow table
        console.print(title, style="bold", markup=False)
    if measured.minimum <= console.width:
        console.print(grid)
    elif not console.is_terminal:
        # rich never prints wider than its console, and assumes 80 columns if the output is not a terminal.
        Console(file=console.file, width=measured.minimum, highlight=False).print(grid)
    else:
        _print_blocks(columns, rows)


def _print_blocks(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as a block of lines."""
    wide = max(map(len, columns), default=0)
    for number, row in enumerate(rows):
        if number:
            console.print()
        for column, cell in zip(columns, row, strict=True):
            if cell:
                console.print(f"{column:<{wide}}  {cell}", markup=False)


def visible(name: str) -> str:
    r"""Return a name of a class or a file in one line, with control characters as escapes.

    Example:
        >>> print(visible("two\nlines"))
        two\nlines
    """
    return "".join(repr(one)[1:-1] if unicodedata.category(one) == "Cc" else one for one in name)


def counted(number: int, word: str) -> str:
    """Return a number with its noun: 1 seed, 3 seeds."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
