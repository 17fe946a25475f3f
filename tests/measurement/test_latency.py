"""Intervals, noise and interleaved timing, on synthetic times."""

import json
import os
import time

import numpy as np
import pytest

from cli.command import refused, run
from triscale.measurement import latency
from triscale.measurement.latency import measure_latency, median_interval, noise_in, pinned_to_cores
from triscale.measurement.peak import memory_now, peak_since
from triscale.measurement.versus import paired_timing, ratio_interval, time_alternately
from triscale.results.latency import PairedTiming


def test_median_interval_has_95_percent_coverage():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        low, high = median_interval(rng.lognormal(0, 0.3, 101))
        held += low <= 1.0 <= high
    assert 0.935 <= held / 2000 <= 0.985


def test_noisy_machine_is_reported():
    rng = np.random.default_rng(0)
    assert noise_in(rng.normal(10, 0.1, 200)) is None
    assert "interquartile range" in noise_in(rng.uniform(5, 15, 200))
    assert "the speed of the machine changed" in noise_in([10.0] * 100 + [12.0] * 100)


def test_sampling_continues_until_requested_precision():
    rng = np.random.default_rng(0)

    def call() -> None:
        time.sleep(0.001 * rng.uniform(0.5, 1.5))

    few = measure_latency(
        call, engine="x", batch=1, threads=1, input_shape=(3, 8, 8), warmup_seconds=0.0, sample_seconds=0.05
    )
    many = measure_latency(
        call,
        engine="x",
        batch=1,
        threads=1,
        input_shape=(3, 8, 8),
        warmup_seconds=0.0,
        sample_seconds=0.05,
        within=0.01,
    )
    assert many.samples > few.samples
    assert few.low_ms <= few.median_ms <= few.high_ms


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not hold processes to cores")
def test_cpu_affinity_is_restored():
    before = os.sched_getaffinity(0)
    with pinned_to_cores(1) as cores:
        assert os.sched_getaffinity(0) == set(cores)
        assert len(cores) == 1
    assert os.sched_getaffinity(0) == before


def test_interleaved_timing_gives_known_ratio():
    calls = [lambda: time.sleep(0.002), lambda: time.sleep(0.006)]
    times, counts = time_alternately(calls, rounds=5, round_seconds=0.02)
    assert times.shape == (5, 2)
    ratio, low, high = ratio_interval(times[:, 1], times[:, 0])
    assert low <= ratio <= high
    assert 2.0 < ratio < 3.5
    assert min(counts) >= 15
    named = [("a", "x", "float32", (3, 8, 8)), ("b", "x", "float32", (3, 8, 8))]
    versus = paired_timing(named, times, counts, batch=1, threads=1, cores=())
    assert versus.networks[0].ratio == 1
    assert PairedTiming.from_json(versus.to_json()) == versus


def test_slowdown_does_not_bias_ratio():
    slower = iter(range(10_000))

    def call(factor):
        def wait() -> None:
            time.sleep(0.0005 * factor * (1 + next(slower) / 100))

        return wait

    times, _ = time_alternately([call(1), call(2)], rounds=6, round_seconds=0.0)
    assert 1.5 < ratio_interval(times[:, 1], times[:, 0])[0] < 2.5


def test_peak_memory_is_measured():
    before = memory_now()
    if before is None:
        pytest.skip("the system does not tell")
    peak = peak_since(before, lambda: np.ones(30_000_000).sum())
    assert 200e6 < peak < 400e6


@pytest.fixture
def _impatient(monkeypatch):
    """Disable the repetitions that narrow the interval."""
    monkeypatch.setattr(latency, "MAX_EXTENSION", 1)


@pytest.mark.stress
def test_networks_are_timed_interleaved(capsys, tiny_file):
    result = run(capsys, "measure", tiny_file, "--compare", tiny_file, "--engines", "torch", "--json")
    assert result.code == 0, result.err
    versus = json.loads(result.out)
    assert versus["networks"][0]["ratio"] == 1
    assert 0.3 < versus["networks"][1]["ratio"] < 3


@pytest.mark.usefixtures("_impatient")
def test_file_of_a_network_is_measured_by_any_path(capsys, tiny_file, monkeypatch):
    monkeypatch.chdir(tiny_file.parent)
    for path in (tiny_file.name, f"./{tiny_file.name}", tiny_file.absolute()):
        result = run(capsys, "measure", path, "--engines", "torch", "--json")
        assert result.code == 0, result.err


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_network_is_timed_in_each_engine(capsys, tiny_file, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    result = run(capsys, "measure", tiny_file, "--engines", engine, "--json")
    assert result.code == 0, result.err
    (measured,) = json.loads(result.out)
    assert measured["median_ms"] > 0
    assert measured["low_ms"] <= measured["median_ms"] <= measured["high_ms"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to measure"),
        (("mobilenet_v2", "--engines", "onnxruntim"), 'there is no engine "onnxruntim"; did you mean'),
        (("mobilenet_v2", "--engines", "torch,torch"), "each engine once"),
        (("mobilenet_v2", "--threads", "0"), "give 1 or more"),
        (("mobilenet_v2", "--published"), "do not give other networks"),
        (("nothing.onnx",), "nothing.onnx"),
        (("mobilenet_v9",), "is not a network"),
    ],
)
def test_invalid_measurements_are_rejected(capsys, words, message):
    assert message in refused(capsys, "measure", *words)
