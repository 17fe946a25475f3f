"""Run the command line in this process and see what a user sees."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from triscale.cli import main


class CommandResult(NamedTuple):
    """The result of a command: exit code, stdout and stderr."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> CommandResult:
    """Run one command with arguments."""
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    result = capsys.readouterr()
    return CommandResult(code, result.out, result.err)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with exit code 2 and one line on stderr; return that line."""
    result = run(capsys, *arguments)
    assert result.code == 2, result
    lines = [line for line in result.err.splitlines() if line.startswith("triscale: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    return lines[0]
