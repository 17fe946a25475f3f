"""Distributed training in processes forked from the test; each returns the digest of its state."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from triscale.training.state.checkpoint import Checkpoints

LIMIT_SECONDS = 120


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def run_together(processes: int, work: Callable[[], object]) -> list[object]:
    """Call a function in several processes, with the environment that ``torch.distributed.run`` sets."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    port = str(free_port())

    def one(rank: int) -> None:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        torch.set_num_threads(1)
        try:
            results.put((rank, work()))
        except BaseException as error:
            results.put((rank, error if isinstance(error, ValueError | RuntimeError) else traceback.format_exc()))
        results.close()
        results.join_thread()
        os._exit(0)

    started = [context.Process(target=one, args=(rank,), daemon=True) for rank in range(processes)]
    for process in started:
        process.start()
    try:
        result = dict(results.get(timeout=LIMIT_SECONDS) for _ in started)
    finally:
        for process in started:
            process.join(5)
            process.kill()
    return [result[rank] for rank in range(processes)]


def digest_of(checkpoints: Checkpoints) -> str:
    """Return a digest of the content of the newest checkpoint."""
    manifest = checkpoints.newest()
    assert manifest is not None
    total = hashlib.sha256()
    for file in (manifest.state_file, manifest.best_file):
        tensors = checkpoints.load(file) if file else {}
        for name in sorted(tensors):
            total.update(name.encode() + tensors[name].numpy().tobytes())
    history = [epoch.model_dump(exclude={"seconds", "images_per_second"}) for epoch in manifest.history]
    total.update(repr((manifest.step, manifest.skipped, history)).encode())
    return total.hexdigest()


def folder_digest(folder: Path) -> str:
    return digest_of(Checkpoints(folder))
