"""What commands print in a terminal of 80 columns and in a narrower one: no cut cell, no broken number."""

from __future__ import annotations

import re
import shutil

import pytest

from cli.command import run
from triscale.cli.support import terminal

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COMMANDS = (
    ("list",),
    ("show", "efficientnet_b0"),
    ("scale", "efficientnet_b0", "--budget", "400M"),
    ("compare", "--published"),
    ("compare", "--baseline", "efficientnet_b0"),
    ("family", "--baseline", "efficientnet_b0", "--phis", "0..3"),
    ("weights", "list"),
)
RUN_COMMANDS = (
    ("evaluate", "run"),
    ("data", "check", "images"),
    ("report", "run"),
    ("explain", "run"),
)


@pytest.fixture(params=[60, 80])
def columns(request, monkeypatch):
    """A terminal of a width."""
    monkeypatch.setattr(terminal.console, "_width", request.param)
    monkeypatch.setattr(terminal.console, "_force_terminal", True)
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


def lines_of(capsys, *arguments):
    result = run(capsys, *arguments)
    assert result.code == 0, result.err
    return CONTROL.sub("", result.out).splitlines()


def assert_fits(lines, columns):
    assert len(lines) > 0
    assert [line for line in lines if len(line) > columns] == []
    assert not [line for line in lines if "\N{HORIZONTAL ELLIPSIS}" in line]
    # A number, or a number and its suffix, is never continued on the next line.
    assert not [line for line in lines if re.fullmatch(r"[\d.,]+[kMGT%]?", line)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_tables_of_networks_fit(capsys, columns, command):
    assert_fits(lines_of(capsys, *command), columns)


@pytest.mark.parametrize("command", RUN_COMMANDS, ids=lambda command: command[0])
def test_tables_of_runs_fit(capsys, columns, command, trained_run, tmp_path, monkeypatch):
    shutil.copytree(trained_run, tmp_path / "run")
    shutil.copytree(trained_run.parent / "images", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    assert_fits(lines_of(capsys, *command), columns)


def test_predictions_are_one_line_each_and_never_cut(capsys, columns, trained_run, monkeypatch):
    monkeypatch.chdir(trained_run.parent)
    lines = lines_of(capsys, "predict", "run", "images/red/000.png", "images/blue/000.png")
    assert len(lines) == 2
    assert_fits(lines, 80)


def test_title_is_wrapped_at_the_width_of_the_terminal(capsys, columns):
    title = "a title of more than forty-five characters here"
    terminal.table(("a",), [("1",)], title=title)
    assert CONTROL.sub("", capsys.readouterr().out).splitlines()[0] == title
