"""Read-only and unreadable folders, as seen by a user without root permissions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pictures import write_classes

pytestmark = pytest.mark.process

NOBODY = 65534

PROGRAM = """
import json, os, pathlib, sys
from triscale.data.pipeline.loader import eval_batches
from triscale.data.sources.pack import pack
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.errors import DataError
from triscale.network.contract import Preprocessing

if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
root, out = sys.argv[1:]
result = {}
try:
    found = scan(root)
    result["bad"] = {file.path: file.reason for file in found.bad}
    result["images"] = found.num_images
    split = make_split(found)
    batches = eval_batches(split.test, split.root, Preprocessing(resolution=8), batch=4)
    result["tested"] = sum(len(batch.labels) for batch in batches)
    pack(found, pathlib.Path(out) / "shards")
except DataError as error:
    result["refused"] = str(error)
print(json.dumps(result))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a folder that every user can access."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        for path in Path(folder).rglob("*"):
            if path.is_dir():
                path.chmod(0o755)


def as_nobody(root: Path, out: Path, cache: str) -> dict[str, object]:
    environment = os.environ | {"TRISCALE_CACHE": cache}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root), str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_training_reads_read_only_folder_and_writes_nothing(place: Path) -> None:
    images = write_classes(place / "images", {"a": 8, "b": 8})
    for path in [*images.rglob("*"), images]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in [images, *images.rglob("*")]}
    result = as_nobody(images, images, "/proc/nothing")
    assert (result["images"], result["tested"], result["bad"]) == (16, 4, {})
    assert "where nothing is written" in str(result["refused"])
    assert "cannot write to" in str(as_nobody(images, place, "/proc/nothing")["refused"])
    assert {path: path.stat().st_mtime_ns for path in [images, *images.rglob("*")]} == before


@pytest.mark.stress
def test_unreadable_folder_is_rejected_by_name(place: Path) -> None:
    images = write_classes(place / "images", {"a": 8, "b": 8, "c": 2})
    (images / "b").chmod(0)
    result = as_nobody(images, place, "/proc/nothing")
    assert result == {"refused": f"cannot read the folder {images / 'b'} (Permission denied); make it readable"}


@pytest.mark.stress
def test_unreadable_file_is_a_bad_file(place: Path) -> None:
    images = write_classes(place / "images", {"a": 8, "b": 8})
    (images / "a" / "003.png").chmod(0)
    result = as_nobody(images, place, "/proc/nothing")
    assert result["bad"] == {"a/003.png": "cannot be read (Permission denied)"}
    assert result["images"] == 15
    for name in ("004.png", "005.png"):
        (images / "a" / name).chmod(0)
    assert "3 of 16 files" in str(as_nobody(images, place, "/proc/nothing")["refused"])
