"""Measure the memory of the index of a very large dataset, and whether it grows while workers read it.

Names are generated and no image is read: index, order and worker processes of the loader run as usual, but without
decoding. After the first batches of each epoch the memory of this process and its workers is summed (proportional set
size on Linux, which counts shared memory once). For comparison, the same names are stored as a list of strings, as
datasets usually do, with the same workers, each of which ends up with its own copy of what it reads.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import os
import platform
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from triscale.data.pipeline.loader import _Tasks
from triscale.data.pipeline.order import epoch_order, num_batches
from triscale.data.pipeline.shared_arrays import StringArray
from triscale.data.pipeline.workers import Workers

RESULT = Path(__file__).parent / "results" / "index_memory.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=400, help="batches read per epoch")
    given = parser.parse_args()
    lines = [
        f"# python benchmarks/index_memory.py {' '.join(sys.argv[1:])}".rstrip(),
        "",
        f"{given.names} names such as {name(12345)}; {given.workers} workers, {given.batches} batches of",
        f"{given.batch} in each epoch; Python {platform.python_version()}; MB: all processes together, what they share",
        "counted once",
        "",
        f"{'':26}{'bytes/name':>12}{'made, MB':>12}"
        + "".join(f"{f'epoch {epoch}':>12}" for epoch in range(given.epochs)),
    ]
    for title, make in (("triscale's index", columns), ("a list of strings", list)):
        process = multiprocessing.get_context("spawn").Pool(1)  # a new process, so that freed memory is not reused
        with process:
            lines.append(process.apply(measured, (title, make, vars(given))))
    text = "\n".join(lines) + "\n"
    print(text, end="")
    RESULT.write_text(text, encoding="utf-8")


def name(number: int) -> str:
    """Return a path as in ImageNet."""
    return f"n{number % 1000:08d}/n{number % 1000:08d}_{number}.JPEG"


def columns(names: Iterable[str]) -> Sequence[str]:
    return StringArray(names)  # type: ignore[return-value]


class Reader:
    """A fake decoder that looks up a name and returns a checksum byte."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, epoch: int, index: int) -> Tensor:
        """Return ``[1]``, uint8."""
        del epoch
        return torch.tensor([zlib.crc32(self._names[index].encode()) & 255], dtype=torch.uint8)


def measured(title: str, make: Callable[[Iterable[str]], Sequence[str]], given: dict[str, int]) -> str:
    """Return a line of the table."""
    multiprocessing.current_process()._config["daemon"] = False  # allows child processes
    gc.collect()
    before = proportional([os.getpid()])
    names = make(map(name, range(given["names"])))
    index_bytes = proportional([os.getpid()]) - before
    workers = Workers(Reader(names), given["workers"], (1,), given["batch"])
    growth = []
    for epoch in range(given["epochs"]):
        order = epoch_order(given["names"], 0, epoch)
        steps = range(num_batches(given["names"], given["batch"]))
        tasks = _Tasks(order, given["batch"], epoch, steps[: given["batches"]], slice)
        for task, images in zip(tasks, workers.run(tasks), strict=True):
            expected = [zlib.crc32(name(index).encode()) & 255 for index in task.indices]
            assert np.array_equal(images.numpy()[:, 0], expected)
        processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        growth.append(proportional(processes) - before)
    workers.close()
    cells = itertools.chain(
        [f"{index_bytes / given['names']:.1f}", f"{index_bytes / 1e6:.0f}"], (f"{now / 1e6:.0f}" for now in growth)
    )
    return f"{title:26}" + "".join(f"{cell:>12}" for cell in cells)


def proportional(processes: list[int | None]) -> int:
    """Return the memory of processes in bytes, with shared memory counted once."""
    total = 0
    for process in processes:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


if __name__ == "__main__":
    main()
