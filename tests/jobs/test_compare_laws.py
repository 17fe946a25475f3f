"""A trained comparison whose rows are laws."""

from __future__ import annotations

import json

import pytest

from cli.command import run
from conftest import write_classes
from triscale.search.compare.results import ComparisonResult, verdict

pytestmark = pytest.mark.process

SMALL = ("--times", 2, "--seeds", "0,1", "--epochs", 1, "--set", "batch=16", "--set", "val_share=0.25")


def test_laws_are_trained_and_reported(capsys, tiny_file, tmp_path):
    images = write_classes(tmp_path / "images", 40)
    command = ("compare", images, "--baseline", tiny_file, "--laws", "paper,dwr", "--out", tmp_path / "out", *SMALL)
    result = run(capsys, *command)
    assert result.code == 0, result.err
    compared = ComparisonResult.load(tmp_path / "out" / "compared.json")
    assert [outcome.way for outcome in compared.outcomes] == ["baseline", "paper", "dwr"]
    assert not compared.has_compound
    assert verdict(compared).startswith(f"the law {compared.best.way} reaches")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "was scaled by each law to at most 2 times its MACs" in report
    assert "two methods" not in result.out
    assert "the cheapest of the two scaled networks" in result.out
    # The same command resumes; other laws are another study.
    before = json.loads((tmp_path / "out" / "compared.json").read_text())
    assert run(capsys, *command).code == 0
    assert json.loads((tmp_path / "out" / "compared.json").read_text()) == before
    other = [str(word).replace("paper,dwr", "paper,width") for word in command]
    assert run(capsys, *other).code == 2
