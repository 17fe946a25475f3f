"""Reports of small studies, written from their folders, with working commands."""

from __future__ import annotations

import html
import re
import shlex
import tempfile
from pathlib import Path

import pytest

from cli.command import run
from conftest import write_classes
from triscale.errors import RunError
from triscale.jobs.reports.study_report import write_study_report

OPTIONS = ("--epochs", 1, "--seeds", 0, "--set", "batch=16", "--set", "val_share=0.45")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("study") / "images", 24)


def commands_of(page):
    return [shlex.split(html.unescape(command)) for command in re.findall(r'class="command">(.*?)</span>', page)]


def assert_no_absolute_paths(page, *folders):
    """No folder of this machine is named: neither those of the test nor the home directory."""
    shown = html.unescape(re.sub(r"base64,[^\"]*", "", page))
    for folder in (*folders, Path.home(), Path(tempfile.gettempdir())):
        assert f"{folder}/" not in shown
        assert str(folder) not in re.split(r"[\s<>\"']+", shown)


def test_search_report_is_written_and_its_commands_work(capsys, folder, tiny_file, tmp_path, monkeypatch):
    out = tmp_path / "search"
    grid = ("--method", "grid", "--number", 2, "--tolerance", 0.2, "--step", 0.25)
    arguments = ("search", "coefficients", folder, "--baseline", tiny_file, "--out", out, *grid, *OPTIONS)
    assert run(capsys, *arguments).code == 0
    assert write_study_report(out) == out / "report.html"
    page = (out / "report.html").read_text()
    assert f"{folder.name}: coefficients of tiny" in page
    assert_no_absolute_paths(page, folder, tmp_path)
    assert commands_of(page)[1][:3] == ["triscale", "fit", folder.name]
    figures = {path.name: path.read_bytes() for path in (out / "figures").iterdir()}
    assert set(figures) == {f"{name}.{kind}" for name in ("triangle", "standings") for kind in ("svg", "pdf", "csv")}
    # Where the folders are below the current directory, the commands work as they are shown.
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "report", "search").code == 0
    assert {path.name: path.read_bytes() for path in (out / "figures").iterdir()} == figures
    scale, fit = commands_of((out / "report.html").read_text())
    assert run(capsys, *scale[1:]).code == 0
    budget = run(capsys, "scale", fit[fit.index("--baseline") + 1], *fit[-4:])
    assert budget.code == 0, budget.err


@pytest.mark.stress
@pytest.mark.stress
def test_comparison_report_shows_every_map(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "compared"
    done = run(capsys, "compare", folder, "--baseline", tiny_file, "--times", 2, "--out", out, *OPTIONS)
    assert done.code == 0, done.err
    assert f"figures as SVG, PDF and CSV: {out / 'figures'}" in done.out
    page = write_study_report(out).read_text()
    maps = sorted((out / "maps").glob("*.png"))
    assert page.count("data:image/png;base64,") == len(maps) > 0
    assert "Dashed: the baseline" in page
    assert "processor" in page
    assert_no_absolute_paths(page, folder, tmp_path)
    assert (out / "figures" / "comparison.svg").read_text().startswith("<svg")


def test_unfinished_study_has_no_report(tmp_path):
    with pytest.raises(RunError, match="no finished search or comparison"):
        write_study_report(tmp_path)
