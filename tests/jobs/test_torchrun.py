"""``torch.distributed.run -m triscale train``: a lost worker costs one restart, and two hosts train together."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from conftest import write_classes
from training.processes import folder_digest, free_port

pytestmark = pytest.mark.process

TIMEOUT = 150
OPTIONS = ("--epochs", "4", "--batch", "16", "--set", "micro_batches=2", "--threads", "1")


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_file):
    """The training command without the output folder."""
    folder = write_classes(tmp_path_factory.mktemp("together") / "images", 24)
    return ["-m", "triscale", "train", str(folder), "--network", str(tiny_file), *OPTIONS, "--out"]


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    subprocess.run([sys.executable, *job, str(out)], check=True, capture_output=True, timeout=TIMEOUT)
    return digests(out)


def digests(run: Path) -> tuple[str, str]:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(), folder_digest(run / "checkpoints")


def launch(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--monitor-interval", "0.2", *options]


def test_two_processes_match_one(job, alone, tmp_path):
    out = tmp_path / "run"
    command = launch("--nproc-per-node", "2", "--master-port", str(free_port()))
    done = subprocess.run([*command, *job, str(out)], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert digests(out) == alone
    assert json.loads((out / "metrics.json").read_text())["count"] == 15
    assert done.stdout.count("test accuracy") == 1


def workers_of(launcher: int) -> dict[int, int]:
    """Return the ranks and process IDs of a launcher's workers."""
    result = {}
    for task in Path(f"/proc/{launcher}/task").iterdir():
        for child in (task / "children").read_text().split():
            settings = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            rank = [setting for setting in settings if setting.startswith(b"RANK=")]
            if rank:
                result[int(rank[0][5:])] = int(child)
    return result


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.stress
def test_lost_worker_costs_one_restart(job, alone, tmp_path, lost):
    out = tmp_path / "run"
    command = launch("--nproc-per-node", "2", "--max-restarts", "1", "--master-port", str(free_port()))
    with subprocess.Popen(
        [*command, *job, str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        until = time.monotonic() + TIMEOUT
        while not list(out.glob("checkpoints/step-*.json")):
            assert run.poll() is None, run.communicate()[0][-3000:]
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(workers_of(run.pid)[lost], signal.SIGKILL)
        output, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == 0, output[-3000:]
    assert digests(out) == alone


@pytest.mark.stress
def test_invalid_request_ends_all_processes_with_message(job, tmp_path):
    command = launch("--nproc-per-node", "2", "--master-port", str(free_port()))
    arguments = [*job, str(tmp_path / "run"), "--set", "micro_batches=1"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode != 0
    assert "1 micro-batches cannot be distributed to 2 processes" in done.stderr


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Two network namespaces with one address each, connected by a virtual cable; removed afterwards."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip")
    names = [f"triscale-{uuid.uuid4().hex[:6]}" for _ in range(2)]
    cable = [f"ts{name[-6:]}" for name in names]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", "name", cable[1], "netns", names[1])
        for number, (name, end) in enumerate(zip(names, cable, strict=True), start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    yield list(zip(names, cable, strict=True))
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.stress
def test_two_hosts_match_one_process(job, alone, tmp_path, hosts):
    out = tmp_path / "run"
    running = []
    for number, (name, end) in enumerate(hosts):
        command = launch(
            "--nnodes", "2", "--node-rank", str(number), "--nproc-per-node", "1",
            "--master-addr", "10.77.0.1", "--master-port", "29500",
        )  # fmt: skip
        running.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, *command, *job, str(out)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"GLOO_SOCKET_IFNAME": end},
            )
        )
    outputs = [process.communicate(timeout=TIMEOUT)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert digests(out) == alone
