"""Process groups on the device: the collectives that a training uses, DDP with one process, trainings with two."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from gpu_parts.rows import Result, Rows, UnavailableError, child_environment, failed_checks
from gpu_parts.tasks import BATCH, CLASSES, RECIPES, SIDE, small_network, train_small
from gpu_parts.training import deterministic
from training.processes import folder_digest
from triscale.nn.build import build
from triscale.training.accelerator import device_count, distributed_backend
from triscale.training.context import choose_device
from triscale.training.distributed.group import join

PROCESSES = 2
SECONDS = 240
MAX_LOSS_DIFFERENCE = 0.05
KINDS = {
    "deterministic": RECIPES["sgd, 4 micro-batches"],
    "fast": RECIPES["sgd, 4 micro-batches"].replace(grad_reduction="fast"),
    "batch norm over processes": RECIPES["adamw"].replace(micro_batches=PROCESSES, norm_over="batch"),
}


def run(rows: Rows) -> None:
    """Check collectives, then DDP, then trainings."""
    device = rows.setting.device
    rows.once("collectives of one process", lambda: collectives(device))
    rows.once("DDP with one process", lambda: one_process(device))
    for kind in KINDS:
        rows.once(f"two processes: {kind}", lambda kind=kind: two_processes(kind, device), seconds=90)


def collectives(device: torch.device) -> Result:
    """Run every collective that a training uses, in a group of one process."""
    with one_member_group(device) as backend:
        values = torch.arange(4.0, device=device)
        gathered = [torch.empty_like(values)]
        dist.all_gather(gathered, values)
        total = values.clone()
        dist.all_reduce(total)
        flags = torch.tensor([True, False], dtype=torch.int32, device=device)
        dist.all_reduce(flags)
        dist.broadcast(values, 0)
        texts, objects = ["text"], [None]
        dist.broadcast_object_list(texts, 0)
        dist.all_gather_object(objects, {"a": 1})
        dist.barrier()
        checks = {
            "all_gather": torch.equal(gathered[0], values),
            "all_reduce": torch.equal(total, values) and flags.tolist() == [1, 0],
            "objects": texts == ["text"] and objects == [{"a": 1}],
        }
    return {"backend": backend} | failed_checks(checks)


def one_process(device: torch.device) -> Result:
    """Compare the gradients of a model with those of the same model in DistributedDataParallel."""
    torch.manual_seed(0)
    model = build(small_network()).to(device).to(memory_format=torch.channels_last)
    images, labels = torch.randn(BATCH, 3, SIDE, SIDE, device=device), torch.arange(BATCH, device=device) % CLASSES
    found = []
    with deterministic(True), one_member_group(device) as backend:
        own = None if device.type == "cpu" else [device.index or 0]
        for forward in (model, DistributedDataParallel(model, device_ids=own, broadcast_buffers=False)):
            torch.manual_seed(1)
            model.zero_grad(set_to_none=True)
            torch.autograd.backward(F.cross_entropy(forward(images), labels))
            found.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    largest = max(float((one - other).abs().max()) for one, other in zip(*found, strict=True))
    return {"backend": backend, "largest difference": largest} | failed_checks({"the same": largest == 0})


@contextmanager
def one_member_group(device: torch.device) -> Iterator[str]:
    """Initialize torch's process group with one process; yields the backend."""
    backend = distributed_backend(device)
    store = dist.TCPStore("127.0.0.1", free_port(), 1, is_master=True)
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index or 0)
    own = None if backend == "gloo" else device
    dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=own)
    try:
        yield backend
    finally:
        dist.destroy_process_group()


def two_processes(kind: str, device: torch.device) -> Result:
    """Train with two processes and with one; with one GPU both use it, over Gloo."""
    if device.type == "mps":
        raise UnavailableError("several processes cannot train on Apple's GPU")
    recipe, result = KINDS[kind], {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        outputs = start(kind, device, folder / "two", PROCESSES)
        losses = outputs[0]["losses"]
        result |= {"backend": outputs[0]["backend"], "devices": device_count(device.type), "losses": losses}
        checks = {"all processes agree": all(output["losses"] == losses for output in outputs)}
        if kind == "batch norm over processes":
            return result | failed_checks(checks | {"losses are finite": all(value < 1e3 for value in losses)})
        with deterministic(True):
            alone = train_small(folder / "one", recipe, device)
        result |= {"losses of one process": alone}
        same = folder_digest(folder / "one") == folder_digest(folder / "two")
        result["bitwise as one process"] = same
        if kind == "deterministic":
            checks["bitwise as one process"] = same
        else:
            close = all(abs(one - two) < MAX_LOSS_DIFFERENCE for one, two in zip(alone, losses, strict=True))
            checks[f"losses differ by less than {MAX_LOSS_DIFFERENCE}"] = close
    return result | failed_checks(checks)


def start(kind: str, device: torch.device, folder: Path, processes: int) -> list[Result]:
    """Run :func:`worker` in several processes, with the environment that torchrun sets; return what each prints."""
    port = str(free_port())
    started = []
    for rank in range(processes):
        environment = child_environment() | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        arguments = [sys.executable, "-m", "gpu_parts.processes", kind, device.type, str(folder)]
        started.append(
            subprocess.Popen(
                arguments,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    try:
        ended = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, ended, strict=True):
        if process.returncode:
            raise RuntimeError(f"a process ended with {process.returncode}: {errors[-3000:]}")
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


def worker(kind: str, device_type: str, folder: Path) -> None:
    """Train as one of several processes, and print the validation losses."""
    torch.set_num_threads(1)
    device = choose_device(device_type, int(os.environ["LOCAL_RANK"]))
    with join(device) as group, deterministic(True):
        losses = train_small(folder, KINDS[kind], device, group=group)
        print(json.dumps({"losses": losses, "backend": dist.get_backend()}))


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    worker(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
