"""A comparison shared by two machines with separate folders, on a PostgreSQL server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from cli.command import run
from conftest import write_classes
from search.postgres import find_server, run_server
from triscale.search.compare.results import ComparisonResult

PROGRAMS = find_server()
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL (initdb) is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg") is None, reason="psycopg is not installed"),
]


@pytest.mark.stress
def test_two_machines_agree(capsys, tiny_file, tmp_path):
    images = write_classes(tmp_path / "images", 40)
    with run_server(PROGRAMS) as server:

        def triscale(*arguments: object) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "triscale", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ,
            )

        common = ("--baseline", tiny_file, "--times", 4, "--epochs", 1, "--seeds", 0, "--set", "batch=16",
                  "--set", "val_share=0.25", "--storage", server.url)  # fmt: skip
        machines = [triscale("compare", images, "--out", tmp_path / name, *common) for name in ("one", "other")]
        printed = [machine.communicate(timeout=300)[0] for machine in machines]
        assert [machine.returncode for machine in machines] == [0, 0], printed
        status = run(capsys, "search", "status", tmp_path / "one").out
        assert "5 training runs done, 0 running, 0 waiting" in " ".join(status.split())
    results = [ComparisonResult.load(tmp_path / name / "compared.json") for name in ("one", "other")]
    assert results[0].outcomes == results[1].outcomes
    trained = [path.parent.name for name in ("one", "other") for path in tmp_path.glob(f"{name}/trials/*/metrics.json")]
    assert len(trained) == len(set(trained)) == 5
