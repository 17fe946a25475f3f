"""From weights to a quantized file that is served, as in the example script; here with the weights of a small run."""

import shutil

import pytest

from example_script import run_script

pytestmark = [pytest.mark.process, pytest.mark.stress]


def test_served_file_answers_as_predict_does(trained_run, tmp_path):
    weights = shutil.copytree(trained_run, tmp_path / "run")
    done = run_script("weights_to_server.sh", tmp_path / "way", trained_run.parent / "images", weights, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "the server and triscale predict agree" in done.stdout
    assert (tmp_path / "way" / "model.int8.onnx").is_file()
    for step in ("quantize", "start the server", "ask the server", "predict"):
        assert f"== {step}: " in done.stderr
