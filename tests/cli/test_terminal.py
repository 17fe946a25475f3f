"""Tables in terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from triscale.cli.support import terminal

COLUMNS = ("engine", "precision", "threads", "median ms", "interval ms", "quartiles ms", "peak MB", "before")
ROWS = [
    ("ONNX Runtime", "float32", "1", "1234.567", "1230.001-1240.002", "1200.01-1300.02", "12345.6", "1000.25"),
    ("torch [eager]", "bfloat16", "2", "98765.432", "98000.1-99999.9", "97000.1-99999.9", "23456.7", ""),
]


def printed(monkeypatch, width: int, *, is_terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=is_terminal, color_system=None, highlight=False)
    monkeypatch.setattr(terminal, "console", console)
    terminal.table(COLUMNS, ROWS, left=2)
    return out.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_tables_never_wrap_words_or_numbers(monkeypatch, width, is_terminal):
    text = printed(monkeypatch, width, is_terminal=is_terminal)
    for row in ROWS:
        for cell in row:
            for word in cell.split():
                assert word in text
    if is_terminal and width >= 40:
        assert max(map(len, text.splitlines())) <= width
    if not is_terminal:
        assert "ONNX Runtime" in text
        assert len(text.splitlines()) == 1 + len(ROWS)
