"""The number of threads is chosen once as a run begins, recorded, and kept when it resumes."""

from __future__ import annotations

import pytest
import torch

from cli.command import run
from conftest import write_classes
from progress import RecordedNotes
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training import thread_choice
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(("ratios", "threads"), [([0.3, 0.5, 1.1], 1), ([0.9, 1.2, 1.3], 2)])
def test_faster_number_is_chosen(monkeypatch, two_threads, tiny, ratios, threads):
    monkeypatch.setattr(thread_choice, "speed_ratios", lambda *_: ratios)
    notes = RecordedNotes()
    thread_choice.choose_threads(tiny, Recipe(), ExecutionContext(progress=notes))
    assert torch.get_num_threads() == threads
    assert len(notes.notes) == (threads == 1)


def test_measurement_alternates_and_leaves_no_trace(two_threads, tiny):
    before = torch.random.get_rng_state()
    ratios = thread_choice.speed_ratios(tiny, Recipe(), ExecutionContext(), 2)
    assert len(ratios) == thread_choice.WINDOWS
    assert min(ratios) > 0
    assert torch.get_num_threads() == 2
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_is_chosen_for_others(monkeypatch, two_threads):
    assert thread_choice.is_open(ExecutionContext(chooses_threads=True))
    assert not thread_choice.is_open(ExecutionContext())
    assert not thread_choice.is_open(ExecutionContext(chooses_threads=True, device=torch.device("cuda")))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not thread_choice.is_open(ExecutionContext(chooses_threads=True))


def test_run_records_threads_and_resumes_with_them(capsys, monkeypatch, two_threads, tiny_file, tmp_path):
    images = write_classes(tmp_path / "images", 20)
    command = (
        "train",
        images,
        "--network",
        tiny_file,
        "--epochs",
        1,
        "--workers",
        0,
        "--threads",
        "auto",
        "--out",
        tmp_path / "run",
    )
    monkeypatch.setattr(thread_choice, "speed_ratios", lambda *_: [0.5])
    first = run(capsys, *command)
    assert first.code == 0, first.err
    assert "2 threads reach 0.50 of its speed" in " ".join(first.err.split())
    assert RunFolder(tmp_path / "run").spec.machine.threads == 1
    torch.set_num_threads(2)
    monkeypatch.setattr(thread_choice, "speed_ratios", lambda *_: pytest.fail("measured again"))
    again = run(capsys, *command)
    assert again.code == 0, again.err
    assert "rounding" not in again.err
    assert torch.get_num_threads() == 1
