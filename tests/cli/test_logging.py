"""Messages of the logger ``triscale``, and the options ``-v`` and ``-q``."""

from __future__ import annotations

import logging

import pytest

from cli.command import run
from triscale.progress import LOGGED_PROGRESS
from triscale.training.context import ExecutionContext


class Collected(logging.Handler):
    """Collects log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelname, record.getMessage()))


def test_library_calls_log_messages():
    logger, collected = logging.getLogger("triscale"), Collected()
    before = logger.level
    logger.addHandler(collected)
    logger.setLevel(logging.DEBUG)
    try:
        ExecutionContext().progress.note("200 images are left out")
        ExecutionContext().progress.begin("train", 3)
    finally:
        logger.removeHandler(collected)
        logger.setLevel(before)
    assert ExecutionContext().progress is LOGGED_PROGRESS
    assert collected.records == [("INFO", "200 images are left out"), ("DEBUG", "train (3)")]


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_prints_only_results(capsys, images, flag):
    assert run(capsys, "data", "check", images, flag).err == ""
    assert "scan" in run(capsys, "data", "check", images).err


def test_verbose_shows_log_messages(capsys):
    run(capsys, "show", "efficientnet_b0", "-v")
    assert logging.getLogger("triscale").level == logging.DEBUG
    run(capsys, "show", "efficientnet_b0")
    assert logging.getLogger("triscale").level == logging.WARNING
