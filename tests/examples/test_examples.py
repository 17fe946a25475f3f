"""The examples run and print the documented output."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def printed(capsys, name: str) -> str:
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return capsys.readouterr().out


def test_fit_example_runs(capsys):
    out = printed(capsys, "fit_a_network.py")
    assert "(binding)" in out
    assert "logits (2, 10)" in out


def test_documented_figures_match(capsys):
    out = printed(capsys, "method_figures.py")
    page = (ROOT / "docs" / "explanation" / "method.md").read_text()
    for line in filter(None, out.splitlines()):
        assert line in page, line
