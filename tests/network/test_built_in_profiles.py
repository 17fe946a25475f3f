"""Profiles of accelerators that come with the package."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import math
import statistics
from pathlib import Path

import pytest

from cli.command import refused, run
from triscale.errors import RecordError
from triscale.families import get
from triscale.network.latency import NAMES, built_in_profiles, load_predictor, predict

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "accel_nasbench.csv.gz"
MEASURED = {"a100": (4280, 30275), "rtx3090": (2985, 21733), "tpuv2": (314, 1803), "tpuv3": (634, 1803)}
"""Images per second of the networks that were measured, from the slowest to the fastest."""


@pytest.mark.parametrize("name", MEASURED)
def test_built_in_profiles_name_device_source_and_error(name):
    predictor = load_predictor(Path(name))
    assert name in built_in_profiles()
    assert "Accel-NASBench" in str(predictor)
    assert 0 < predictor.error < predictor.error_90 < 0.2
    assert predictor.held_out > 1000
    assert set(predictor.milliseconds) <= set(NAMES)
    assert all(value > 0 for value in predictor.milliseconds.values())
    low, high = MEASURED[name]
    assert low * 0.9 < 1000 / predict(predictor, get("efficientnet_b0")) < high


@pytest.mark.skipif(not DATA.is_file(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", MEASURED)
def test_profiles_predict_the_published_throughput_within_their_error(monkeypatch, name):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench = importlib.import_module("accelerator_throughput")
    with gzip.open(DATA, "rt") as file:
        rows = [row for row in csv.DictReader(file) if math.isfinite(float(row[bench.DEVICES[name][0]]))][::25]
    predictor = load_predictor(Path(name))
    seconds = [float(row[bench.DEVICES[name][0]]) ** -1 for row in rows]
    errors = [
        abs(predict(predictor, bench.network_of(row)) / 1000 / measured - 1)
        for row, measured in zip(rows, seconds, strict=True)
    ]
    assert len(rows) > 190
    assert statistics.median(errors) < 1.2 * predictor.error
    assert statistics.quantiles(errors, n=10)[-1] < 1.2 * predictor.error_90


def test_networks_of_other_blocks_are_refused(capsys):
    for name in ("resnet50", "mobilenet_v1", "efficientnetv2_b0"):
        message = refused(capsys, "scale", name, "--budget", "2000 images/s", "--profile", "tpuv3")
        assert f"{name} has" in message
        assert "measure a profile with triscale profile" in message


def test_faster_accelerators_are_predicted_to_be_faster():
    times = [predict(load_predictor(Path(name)), get("efficientnet_b0")) for name in ("a100", "rtx3090", "tpuv2")]
    assert times == sorted(times)


def test_unknown_profile_names_the_built_in_ones():
    with pytest.raises(RecordError, match="built-in profiles a100, rtx3090, tpuv2, tpuv3"):
        load_predictor(Path("h100"))
    with pytest.raises(RecordError, match="cannot read"):
        load_predictor(Path("nothing.json"))


def test_throughput_is_a_budget(capsys):
    result = run(capsys, "scale", "efficientnet_b0", "--budget", "6000 images/s", "--profile", "a100", "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    assert 1000 / data["latency"]["predicted_ms"] >= 6000
    assert data["fit"]["limits"][0]["requested"] == 166
    shown = run(capsys, "scale", "efficientnet_b0", "--budget", "6000 images/s", "--profile", "a100").out
    assert "Accel-NASBench" in shown
    assert "profile" in refused(capsys, "scale", "efficientnet_b0", "--budget", "6000 images/s")
