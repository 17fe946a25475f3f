"""A trained run and its server, started as on the command line."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest


class Server(NamedTuple):
    """The port and the process of a server."""

    address: str
    port: int
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def served_run(trained_run: Path) -> Path:
    return trained_run


@pytest.fixture(scope="module")
def server(served_run: Path):
    """A server of that run on a free port, stopped by SIGTERM."""
    with serving(served_run) as started:
        yield started


@contextmanager
def serving(run: Path) -> Iterator[Server]:
    """Serve a run on a free port until the end of the block, then stop the server by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "triscale", "serve", str(run), "--port", "0"],
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
