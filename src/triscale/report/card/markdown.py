"""Parts of a Markdown file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_ROWS = 20
"""A longer table is folded."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def escaped(text: str) -> str:
    r"""Return a text, such as the name of a class, on one line, with everything that Markdown or HTML would read.

    Example:
        >>> print(escaped("a|b <i>"))
        a\|b \<i\>
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table; texts are not escaped.

    Args:
        header: Titles of the columns.
        rows: Cells of each row.
        left: Number of columns that are aligned to the left; the others hold numbers.

    Example:
        >>> print(markdown_table(("class", "images"), [("cat", "12")]))
        | class | images |
        |---|---:|
        | cat | 12 |
    """
    rule = [*("---",) * left, *("---:",) * (len(header) - left)]
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(rule) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def folded(summary: str, body: str) -> str:
    """Return a part that a reader opens with a click.

    Args:
        summary: What is shown, as HTML.
        body: What is hidden.
    """
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def table_by_class(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with a row for each class, folded if it is long."""
    text = markdown_table(header, rows)
    return text if len(rows) <= MAX_ROWS else folded(f"All {len(rows)} classes", text)


def fenced(language: str, code: str) -> str:
    """Return a block of code, with a fence that the code does not contain."""
    longest = max((len(found) for found in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
