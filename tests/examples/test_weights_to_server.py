"""From weights to a quantized file that is served, as in the example script; here with the weights of a small run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.stress]

SCRIPT = Path(__file__).parent.parent.parent / "examples" / "weights_to_server.sh"


def test_served_file_answers_as_predict_does(trained_run, tmp_path):
    weights = shutil.copytree(trained_run, tmp_path / "run")
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path / "way"), str(trained_run.parent / "images"), str(weights)],
        env=os.environ | {"PATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the server and triscale predict agree" in done.stdout
    assert (tmp_path / "way" / "model.int8.onnx").is_file()
    for step in ("quantize", "start the server", "ask the server", "predict"):
        assert f"== {step}: " in done.stderr
