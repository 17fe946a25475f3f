"""How much memory does the index of a very large set take, and does it grow while workers read it?

Names are made by code and no image is read: the loader's own index, order and worker processes do all that they do but
for decoding. After each epoch's first batches, the memory that processes do not share is added up (Linux: proportional
set size of this process and its workers). For comparison, the same names as the list of strings that a data set
usually holds, with the same workers, each of which ends up with its own copy of what it reads.
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
    parser.add_argument("--batches", type=int, default=400, help="batches that are read of an epoch")
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
        process = multiprocessing.get_context("spawn").Pool(1)  # so that one does not use what the other has freed
        with process:
            lines.append(process.apply(measured, (title, make, vars(given))))
    text = "\n".join(lines) + "\n"
    print(text, end="")
    RESULT.write_text(text, encoding="utf-8")


def name(number: int) -> str:
    """Return a path as data sets have them."""
    return f"n{number % 1000:08d}/n{number % 1000:08d}_{number}.JPEG"


def columns(names: Iterable[str]) -> Sequence[str]:
    return StringArray(names)  # type: ignore[return-value]


class Reader:
    """Stands in for the decoder: looks a name up and makes one byte of it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, epoch: int, index: int) -> Tensor:
        """Return ``[1]``, uint8."""
        del epoch
        return torch.tensor([zlib.crc32(self._names[index].encode()) & 255], dtype=torch.uint8)


def measured(title: str, make: Callable[[Iterable[str]], Sequence[str]], given: dict[str, int]) -> str:
    """Return a line of the table."""
    multiprocessing.current_process()._config["daemon"] = False  # may have workers of its own
    gc.collect()
    before = proportional([os.getpid()])
    names = make(map(name, range(given["names"])))
    made = proportional([os.getpid()]) - before
    workers = Workers(Reader(names), given["workers"], (1,), given["batch"])
    growth = []
    for epoch in range(given["epochs"]):
        order = epoch_order(given["names"], 0, epoch)
        steps = range(num_batches(given["names"], given["batch"]))
        tasks = _Tasks(order, given["batch"], epoch, steps[: given["batches"]], slice)
        for task, found in zip(tasks, workers.run(tasks), strict=True):
            expected = [zlib.crc32(name(index).encode()) & 255 for index in task.indices]
            assert np.array_equal(found.numpy()[:, 0], expected)
        processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        growth.append(proportional(processes) - before)
    workers.close()
    cells = itertools.chain(
        [f"{made / given['names']:.1f}", f"{made / 1e6:.0f}"], (f"{now / 1e6:.0f}" for now in growth)
    )
    return f"{title:26}" + "".join(f"{cell:>12}" for cell in cells)


def proportional(processes: list[int | None]) -> int:
    """Return the memory of some processes in bytes, what they share counted once."""
    total = 0
    for process in processes:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


if __name__ == "__main__":
    main()
