"""A trained run and its server, as a user starts it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest


class Server(NamedTuple):
    """Where a server listens, and its process."""

    address: str
    port: int
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def served_run(trained_run: Path) -> Path:
    return trained_run


@pytest.fixture(scope="module")
def server(served_run: Path):
    """A server of that Run on a free port, ended by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "triscale", "serve", str(served_run), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    line = ""
    while "http://" not in line:
        line = process.stdout.readline()
        assert line, f"the server ended with {process.wait(10)}"
    result = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert result, line
    yield Server(result[0], int(result[1]), process)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
