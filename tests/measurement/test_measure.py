"""Measurements state their protocol."""

import time

import pytest
import torch

from triscale.measurement.device import machine
from triscale.measurement.latency import measure_latency, torch_threads
from triscale.results.latency import Measurement


def test_measurement_records_protocol():
    calls = []
    made = measure_latency(
        lambda: calls.append(time.sleep(0.002)),
        engine="sleep",
        batch=1,
        threads=1,
        input_shape=(3, 8, 8),
        warmup_seconds=0.01,
        sample_seconds=0.05,
    )
    assert made.samples >= 30
    assert made.warmup_calls >= 3
    assert len(calls) == made.samples + made.warmup_calls
    assert 2.0 <= made.lower_quartile_ms <= made.median_ms <= made.upper_quartile_ms
    assert Measurement.from_json(made.to_json()) == made


def test_threads_are_restored_after_error():
    before = torch.get_num_threads()
    result = []

    def fail() -> None:
        with torch_threads(before + 1):
            result.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert result == [before + 1]
    assert torch.get_num_threads() == before


def test_machine_describes_hardware_without_user_name():
    here = machine()
    assert here.cores >= 1
    assert dict(here.packages)["torch"] == torch.__version__
    assert here.memory_bytes > 2**28
