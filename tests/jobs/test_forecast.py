"""The duration that a training states after its first steps."""

import pytest

from triscale.jobs.training import forecast
from triscale.progress import NullProgress


class Notes(NullProgress):
    """Keeps the notes."""

    def __init__(self):
        self.texts: list[str] = []

    def note(self, text):
        self.texts.append(text)


def follow(monkeypatch, steps, *, seconds_per_step, total=100):
    clock, notes = [0.0], Notes()
    monkeypatch.setattr(forecast.time, "monotonic", lambda: clock[0])
    reporter = forecast.ForecastingReporter(notes)
    reporter.begin("scan", 9)
    reporter.advance(3)
    reporter.begin("train", total)
    for done in steps:
        clock[0] = done * seconds_per_step
        reporter.advance(done)
    return notes.texts


def test_remaining_time_is_noted_once_after_the_first_steps(monkeypatch):
    notes = follow(monkeypatch, range(1, 30), seconds_per_step=1.0)
    assert notes == ["about 2 min for the remaining 96 of 100 steps, estimated from 3 steps"]


def test_a_resumed_training_counts_only_the_steps_of_this_process(monkeypatch):
    notes = follow(monkeypatch, range(60, 70), seconds_per_step=1.0)
    assert notes == ["about 37 s for the remaining 37 of 100 steps, estimated from 3 steps"]


@pytest.mark.parametrize(("steps", "seconds"), [(range(1, 100), 0.1), (range(1, 3), 60.0)])
def test_short_trainings_are_not_forecast(monkeypatch, steps, seconds):
    assert follow(monkeypatch, steps, seconds_per_step=seconds) == []
