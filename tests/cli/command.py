"""Run the command line in this process and see what a user sees."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from triscale.cli import main


class CommandResult(NamedTuple):
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> CommandResult:
    """Run one command; its words are given as they are."""
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    result = capsys.readouterr()
    return CommandResult(code, result.out, result.err)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused: exit code 2 and one clear line; return that line."""
    result = run(capsys, *arguments)
    assert result.code == 2, result
    lines = [line for line in result.err.splitlines() if line.startswith("triscale: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    return lines[0]
