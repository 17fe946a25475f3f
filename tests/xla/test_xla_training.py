"""Trainings with the XLA engine: killed, resumed, in the other engine, on several hosts, and what is refused."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from cli.command import refused
from conftest import write_classes
from example_script import run_script
from seeded_training import feed, same, task
from sizes import figure
from training.processes import folder_digest, free_port
from triscale.api.run import Run
from triscale.data.pipeline.workers import DecodeTask, Workers
from triscale.errors import Interrupted
from triscale.jobs.core.run import RunFolder
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.loop import seed_weights, train
from triscale.training.recipe import Recipe, Sgd
from triscale.training.state.checkpoint import Checkpoints

BATCH = 2 * len(jax.devices())
RECIPE = Recipe(epochs=2, batch=BATCH, micro_batches=len(jax.devices()), warmup_epochs=1)


def trained(folder, network, recipe, stops=(), engines=("xla",)):
    """Train to the end; stop before each of ``stops`` polls, and continue with the next of ``engines``."""
    for number, stop in enumerate((*stops, None)):
        calls = iter(range(1000))
        seed_weights(1)
        context = ExecutionContext(
            engine=engines[number % len(engines)],
            should_stop=lambda stop=stop, calls=calls: stop is not None and next(calls) >= stop,
        )
        try:
            manifest = train(task(build(network), recipe), feed(batch=BATCH), Checkpoints(folder), context)
        except Interrupted:
            assert stop is not None
    return Checkpoints(folder).load(manifest.state_file), manifest


def test_stopped_training_resumes_bitwise_identical(tmp_path, small):
    whole, manifest = trained(tmp_path / "whole", small, RECIPE)
    stopped, other = trained(tmp_path / "stopped", small, RECIPE, stops=(1, 5))
    assert same(stopped, whole)
    assert [epoch.train_loss for epoch in other.history] == [epoch.train_loss for epoch in manifest.history]


def test_training_passes_between_engines(tmp_path, certain):
    """Without randomness, torch alone and torch, XLA, torch in turns give nearly the same."""
    recipe = RECIPE.replace(optimizer=Sgd(), learning_rate=0.02)
    alone, _ = trained(tmp_path / "torch", certain, recipe, engines=("torch",))
    turns, manifest = trained(tmp_path / "turns", certain, recipe, stops=(2, 3), engines=("torch", "xla", "torch"))
    assert manifest.step == 8
    assert alone.keys() == turns.keys()
    for name, value in alone.items():
        assert (value.double() - turns[name].double()).nan_to_num().abs().max() < 1e-4, name


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("xla") / "images", 30)


@pytest.fixture(scope="module")
def small_file(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "small.json"
    small.save(path)
    return path


def command(images, network, out, *options) -> list[str]:
    given = ("train", images, "--network", network, "--out", out, "--engine", "xla", "--from-scratch", "--epochs", 8)
    return [str(part) for part in (*given, "--set", "batch=16", "--set", "micro_batches=4", *options)]


def environment(devices: int) -> dict[str, str]:
    return os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def finish(arguments: list[str], devices: int, *launcher: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "triscale", *arguments],
        env=environment(devices), capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def digest(run: Path) -> tuple[str, str]:
    """Return digests of the weights, and of the last checkpoint with the history of validation."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(), folder_digest(run / "checkpoints")


@pytest.fixture(scope="module")
def whole(images, small_file, tmp_path_factory) -> Path:
    """A run that one process trained on four devices without interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    stderr = finish(command(images, small_file, out), 4)
    assert "training on 4 cpu devices with XLA" in stderr
    return out


@pytest.mark.process
@pytest.mark.stress  # test_xla_faults.py kills trainings too, and a preempted command resumes below
def test_killed_command_resumes_to_the_same_weights(images, small_file, tmp_path, whole):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "triscale", *command(images, small_file, out)],
        env=environment(4), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list((out / "checkpoints").glob("state-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finish(command(images, small_file, out), 4)
    assert digest(out) == digest(whole)


@pytest.mark.process
@pytest.mark.stress  # one that is preempted does below
def test_two_hosts_give_the_weights_of_one(images, small_file, tmp_path, whole):
    out = tmp_path / "run"
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "-m")
    stderr = finish(command(images, small_file, out), 2, *launcher)
    assert "training on 4 cpu devices on 2 hosts with XLA" in stderr
    assert digest(out) == digest(whole)
    figure(4, "XLA engine: two hosts, bitwise as one", 1, 1)


def on_two_hosts(arguments: list[str]) -> list[subprocess.Popen[str]]:
    """Start one process for each of two hosts, as their launchers do."""
    given = environment(2) | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "triscale", *arguments],
            env=given | {"RANK": str(rank)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "codes", "sentence"),
    [
        pytest.param(signal.SIGTERM, [143, 143], "everything is saved\nto continue: triscale train"),
        pytest.param(signal.SIGKILL, [1, -9], "for another process, which was lost", marks=pytest.mark.stress),
    ],
)  # fmt: skip
def test_preempted_host_loses_nothing(images, small_file, tmp_path, whole, number, codes, sentence):
    """One host is preempted, or is lost; the other ends with one sentence, and a second start continues."""
    out = tmp_path / "run"
    hosts = on_two_hosts(command(images, small_file, out))
    deadline = time.monotonic() + 300
    while not list((out / "checkpoints").glob("state-*")):
        assert time.monotonic() < deadline
        assert hosts[0].poll() is None
        time.sleep(0.02)
    hosts[1].send_signal(number)
    printed = [host.communicate(timeout=300)[1] for host in hosts]
    assert [host.returncode for host in hosts] == codes
    assert sentence in "\n".join(printed[0].splitlines()[-2:])
    for host in on_two_hosts(command(images, small_file, out)):
        host.communicate(timeout=300)
        assert host.returncode == 0
    assert digest(out) == digest(whole)


@pytest.mark.process
@pytest.mark.stress
def test_script_for_tpu_slices_trains_and_resumes(images, small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", environment(4)["XLA_FLAGS"])
    monkeypatch.setenv("DEVICES", "4")
    monkeypatch.setenv("DEVICE", "cpu")
    given = ("tpu.sh", images, tmp_path / "run", "--network", small_file, "--epochs", 1, "--set", "batch=16")
    for _ in range(2):
        done = run_script(*given, timeout=500)
        assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "run").spec.request.recipe.name == "efficientnet_imagenet"


def test_run_is_evaluated_in_torch_and_records_the_engine(whole):
    machine = RunFolder(whole).spec.machine
    assert machine.kernels == "xla"
    assert dict(machine.packages)["jax"] == jax.__version__
    run = Run.open(whole)
    assert run.evaluate().top1 == run.metrics.top1
    assert run.export("onnx").export.max_error < 1e-3


@pytest.mark.process
def test_run_is_verified_with_its_engine(whole):
    """On two devices instead of four: the first epoch and the last."""
    done = subprocess.run(
        [sys.executable, "-m", "triscale", "verify", str(whole), "--epochs", "2", "--json"],
        env=environment(2), capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    training = [check for name, check in checks.items() if name.startswith("training, steps")]
    assert [check["outcome"] for check in training] == ["passed", "passed"], training
    assert "bit by bit" in training[-1]["detail"]
    assert done.returncode == 0, done.stderr


def test_what_the_engine_does_not_support_is_refused_by_name(capsys, images, small_file, tmp_path, whole):
    out = tmp_path / "run"
    reasons = {
        ("--compile",): "the XLA engine does not support --compile, since it compiles anyway; leave that out",
        ("--set", "quantization=int8"): "the XLA engine does not support quantization int8",
        ("--set", "norm_sparsity=0.001"): "the XLA engine does not support norm_sparsity 0.001",
        ("--time-limit", "5m"): "the XLA engine does not support --time-limit",
        ("--lr", "auto"): "the XLA engine does not support --lr auto",
        ("--teacher", str(whole)): "the XLA engine does not support --teacher",
        ("--set", "micro_batches=3"): "3 micro-batches cannot be distributed to 8 devices; give 8 times a power of 2",
        ("--device", "tpu"): 'there is no device "tpu" here that JAX can use',
        ("--device", "mps"): 'the XLA engine has no device "mps"; the devices are auto, cpu, cuda, tpu',
    }
    for options, sentence in reasons.items():
        given = command(images, small_file, out, "--set", "micro_batches=8", *options)
        if "--time-limit" in options:
            given = [part for index, part in enumerate(given) if "--epochs" not in given[max(0, index - 1) : index + 1]]
        assert sentence in refused(capsys, *given), options
        assert not out.exists(), options


def test_custom_model_is_refused(capsys, images, tmp_path):
    given = command(images, "torchvision.models:resnet18", tmp_path / "run", "--set", "micro_batches=8")
    assert "which is a torch module; leave that out, or train with --engine torch" in refused(capsys, *given)


def test_missing_jax_is_named_with_its_installation(capsys, images, small_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    message = refused(capsys, *command(images, small_file, tmp_path / "run"))
    assert "JAX is not installed; install it with: pip install 'triscale[xla]'" in message


def test_data_workers_are_not_forked_once_the_engine_has_started():
    def unpicklable(epoch: int, index: int) -> None:
        """A function within a function cannot be sent to a new process, and need not be to a fork."""

    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        list(Workers(unpicklable, number=1, shape=(1,), max_batch=1).run([DecodeTask(0, [0])]))
