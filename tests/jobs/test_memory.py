"""Estimated training memory against measured memory."""

import json
import subprocess
import sys

import pytest
import torch

from cli.command import refused, run
from conftest import write_classes
from triscale.families import get
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.memory import memory_of
from triscale.measurement.memory import inference_memory, training_memory
from triscale.measurement.peak import memory_now
from triscale.nn.build import build

MEASURE = """
import gc, sys, torch
from triscale.families import get
from triscale.nn.build import build
from triscale.measurement.memory import training_memory
from triscale.measurement.peak import memory_now, peak_since
from triscale.training.recipe import get_recipe
from triscale.training.state.state import new_state
torch.set_num_threads(1)
network = get("mobilenet_v2").replace(resolution=128, classes=10)
forecast = training_memory(build(network), 32, (3, 128, 128), 2).total_bytes
images, labels = torch.randn(32, 3, 128, 128).contiguous(memory_format=torch.channels_last), torch.arange(32) % 10
build(get("mobilenet_v2@32")).train()(images[:2, :, :32, :32]).sum().backward()
gc.collect()
before = memory_now()
state = new_state(build(network), get_recipe("small"), torch.device("cpu"))
def step():
    state.model.train()
    torch.nn.functional.cross_entropy(state.model(images), labels).backward()
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
step()
print(forecast / peak_since(before, step))
"""


@pytest.mark.process
@pytest.mark.skipif(memory_now() is None, reason="the system does not tell how much memory a process takes")
@pytest.mark.stress
def test_resident_memory_is_close_to_estimate():
    """With a loose tolerance, since malloc keeps freed memory; tests/measure compares with torch's allocator."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert 0.7 < float(done.stdout) < 1.3


def test_maximum_batch_is_reported_before_training(capsys, tmp_path, tiny_file):
    images = write_classes(tmp_path / "images", 12)
    result = run(
        capsys, "train", images, "--network", tiny_file, "--epochs", 1, "--set", "batch=8", "--out", tmp_path / "run"
    )
    assert result.code == 0
    assert "for a micro-batch of 8 images; up to" in result.err
    spec = RunFolder.open(tmp_path / "run").spec
    memory = memory_of(spec, torch.device("cpu"))
    half = spec.model_copy(
        update={
            "request": spec.request.model_copy(
                update={"recipe": spec.request.recipe.model_copy(update={"micro_batches": 2})}
            )
        }
    )
    of_half = memory_of(half, torch.device("cpu"))
    assert (memory.micro_batch, of_half.micro_batch) == (8, 4)
    assert of_half.needed < memory.needed
    # What backward passes keep grows with the images: the largest batch is the same however it is counted.
    assert of_half.max_micro_batch == pytest.approx(memory.max_micro_batch, rel=0.1)


def test_show_reports_memory(capsys):
    network = get("mobilenet_v2@64")
    shown = json.loads(run(capsys, "show", network.name, "--memory", 4, "--json").out)["memory"]
    assert shown["inference"] == json.loads(inference_memory(build(network), 4, (3, 64, 64)).model_dump_json())
    assert shown["training"] == json.loads(training_memory(build(network), 4, (3, 64, 64)).model_dump_json())
    assert "memory with batch size 4" in run(capsys, "show", network.name, "--memory", 4).out
    assert "memory" not in run(capsys, "show", network.name).out
    assert "1 or more" in refused(capsys, "show", network.name, "--memory", 0)
