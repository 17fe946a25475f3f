"""Profiles of accelerators that come with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.command import refused, run
from triscale.errors import RecordError
from triscale.families import get
from triscale.network.latency import NAMES, built_in_profiles, load_predictor, predict

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
