"""A device profile."""

from __future__ import annotations

import pytest

from triscale.network.latency import NAMES, DeviceProfile, Predictor


@pytest.fixture
def predictor_file(tmp_path):
    """The profile of a processor that no machine has."""
    predictor = Predictor(
        engine="onnxruntime",
        threads=1,
        processor="a processor of nowhere",
        milliseconds=dict.fromkeys(NAMES, 0.01),
        error=0.05,
        error_90=0.1,
        held_out=10,
    )
    profile = DeviceProfile(engine="onnxruntime", threads=1, processor=predictor.processor, predictor=predictor)
    profile.save(tmp_path / "nowhere.json")
    return tmp_path / "nowhere.json"
