"""Reports of small studies, written from their folders, with working commands."""

from __future__ import annotations

import html
import re
import shlex

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


def test_search_report_is_written_and_its_commands_work(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "search"
    grid = ("--method", "grid", "--number", 2, "--tolerance", 0.2, "--step", 0.25)
    arguments = ("search", "coefficients", folder, "--baseline", tiny_file, "--out", out, *grid, *OPTIONS)
    assert run(capsys, *arguments).code == 0
    assert write_study_report(out) == out / "report.html"
    page = (out / "report.html").read_text()
    assert f"{folder.name}: coefficients of tiny" in page
    scale, fit = commands_of(page)
    assert run(capsys, *scale[1:]).code == 0
    assert fit[:3] == ["triscale", "fit", str(folder)]
    budget = run(capsys, "scale", fit[fit.index("--baseline") + 1], *fit[-4:])
    assert budget.code == 0, budget.err


@pytest.mark.stress
def test_comparison_report_shows_every_map(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "compared"
    done = run(capsys, "compare", folder, "--baseline", tiny_file, "--times", 2, "--out", out, *OPTIONS)
    assert done.code == 0, done.err
    page = write_study_report(out).read_text()
    maps = sorted((out / "maps").glob("*.png"))
    assert page.count("data:image/png;base64,") == len(maps) > 0
    assert "Dashed: the baseline" in page
    assert "processor" in page
    assert (out / "comparison.svg").read_text().startswith("<svg")


def test_unfinished_study_has_no_report(tmp_path):
    with pytest.raises(RunError, match="no finished search or comparison"):
        write_study_report(tmp_path)
