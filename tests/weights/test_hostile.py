"""Guarantee 10: no loaded file runs code, exhausts memory, or writes where it should not."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sizes import figure, size
from triscale.errors import UserError
from triscale.weights import foreign
from triscale.weights.load import load_file

from . import hostile

pytestmark = pytest.mark.process

SPARE = 200 << 20


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory growth reported by the sandbox processes."""
    result: list[int] = []
    run = subprocess.run

    def listen(*arguments, **options):
        child = run(*arguments, **options)
        result.extend(json.loads(line)["peak_bytes"] for line in child.stdout.splitlines() if line.startswith(b"{"))
        return child

    monkeypatch.setattr(foreign.subprocess, "run", listen)
    return result


def memory(field: str) -> int:
    result = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(result[1]) * 1024


def growth_of_refusal(path: Path) -> int:
    """Check that a file is rejected, and return the memory growth of this process."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again here
    before = memory("VmRSS")
    with pytest.raises(UserError) as caught:
        load_file(path, source="torchvision", name="resnet18")
    assert path.name in str(caught.value)
    return memory("VmHWM") - before


def test_payloads_run_with_plain_pickle(tmp_path: Path):
    calls = hostile.calls(tmp_path / "canary")
    assert len(calls) * len(hostile.CONTAINERS) == 60
    for name, call in calls.items():
        for canary in tmp_path.glob("canary"):
            canary.rmdir() if canary.is_dir() else canary.unlink()
        (tmp_path / "payload").write_bytes(hostile.as_pickle(call))
        code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "payload")], check=False, capture_output=True)
        for _ in range(100):  # some of them do not wait for the process that they start
            if (tmp_path / "canary").exists():
                break
            subprocess.run(["sleep", "0.05"], check=True)
        assert (tmp_path / "canary").exists(), name


def test_no_payload_is_run(tmp_path: Path, peaks: list[int]):
    corpus = list(hostile.payloads(tmp_path / "canary"))
    chosen = corpus[:: len(corpus) // size(3, 60)]
    executions = 0
    for name, make in chosen:
        path = tmp_path / name
        path.write_bytes(make())
        growth_of_refusal(path)
        executions += (tmp_path / "canary").exists()
        path.unlink()
    figure(10, "hostile pickles that ran nothing", len(chosen) - executions, len(chosen))
    assert executions == 0
    assert len(peaks) == len(chosen)
    assert max(peaks) <= SPARE
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".script"]


@pytest.mark.stress
def test_archive_memory_is_bounded_by_its_size(tmp_path: Path, peaks: list[int]):
    slow = list(hostile.slow_archives())
    assert len(list(hostile.quick_archives())) + len(slow) >= 30
    corpus = [*hostile.quick_archives(), *slow[: size(4, len(slow))]]
    worst = 0.0
    for name, make in corpus:
        path = tmp_path / name
        path.write_bytes(make())
        peaks.clear()
        grown = max([growth_of_refusal(path), *peaks])
        limit = 2 * path.stat().st_size + SPARE
        worst = max(worst, grown / limit)
        assert grown <= limit, f"{name}: {grown} bytes, {limit} allowed"
        path.unlink()
    figure(10, "hostile archives refused within twice the file and 200 MB", len(corpus), len(corpus), worst=worst)
    assert not list(tmp_path.iterdir())
    assert not list(Path("/tmp").glob("escaped*"))


def test_large_file_needs_at_most_twice_its_size(tmp_path: Path, peaks: list[int]):
    path = tmp_path / "large.pth"
    torch.save({"state_dict": {str(number): torch.randn(1 << 20) for number in range(size(40, 200))}}, path)
    opened = foreign.open_pickle(path, "zip")
    limit = 2 * path.stat().st_size + SPARE
    figure(10, "a large file of torch.save", int(opened.peak_bytes <= limit), 1, share=opened.peak_bytes / limit)
    assert opened.peak_bytes <= limit
    assert opened.notes == ('taken from "state_dict"',)


def test_sandbox_cannot_start_processes(tmp_path: Path):
    (tmp_path / "file").write_bytes(pickle.dumps(hostile.calls(tmp_path / "canary")["os.system"]))
    code = (
        "import pickle, sys; from triscale.weights import child; child._limit_resources(1000, 60)\n"
        "pickle.load(open(sys.argv[1], 'rb'))"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, check=False)
    assert b"PermissionError: the file tried to run os.system" in ended.stderr
    assert not (tmp_path / "canary").exists()
