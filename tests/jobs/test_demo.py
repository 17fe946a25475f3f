"""The demo reaches at least 97% accuracy on real digits."""

import json
import subprocess
import sys

import pytest

from cli.command import run


@pytest.mark.process
@pytest.mark.slow
def test_demo_reaches_97_percent(tmp_path):
    command = [sys.executable, "-m", "triscale", "demo", "--out", str(tmp_path / "demo"), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    metrics = json.loads(result.stdout)
    assert metrics["count"] == 359
    assert metrics["top1"] >= 0.97
    assert (tmp_path / "demo" / "run" / "report.html").is_file()


@pytest.mark.stress
def test_short_demo_suggests_next_steps(capsys, tmp_path):
    out = run(capsys, "demo", "--out", tmp_path / "demo", "--epochs", 1).out
    assert "report.html" in out
    assert out.count("  triscale ") == 3
