"""Times the graphs of a folder in ONNX Runtime: all that a phone or a board needs beside onnxruntime and numpy.

``triscale profile --export DIR`` puts a copy of this file beside the graphs and their ``plan.json``. On the device::

    python DIR/runner.py

writes ``times.json`` there, and continues with it when begun again; ``triscale profile --import DIR`` makes a profile
of it. This file imports nothing of Triscale, which takes its protocol from here.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

PLAN, TIMES = "plan.json", "times.json"
TOGETHER = 24
"""Graphs that are ready at a time, and timed in turns."""
ROUNDS = 8
MIN_CALLS = 3
PART_SECONDS, WHOLE_SECONDS = 0.01, 0.05
"""Of one part, and of one network, in one round."""

Call = Callable[[], object]


def clock_of(threads: int) -> Callable[[], float]:
    """Return the clock that a device is timed by, in seconds.

    On one thread it is that of the thread itself, which does not advance while another process has the core: a long
    call is interrupted more often than a short one, so that on a busy machine networks would seem slower than their
    parts.
    """
    return time.thread_time if threads == 1 else time.perf_counter


def time_with_reference(
    calls: Sequence[tuple[Call, float]], beside: Call, clock: Callable[[], float], *, rounds: int = ROUNDS
) -> list[tuple[float, float]]:
    """Time calls in turns, each next to one and the same call.

    Args:
        calls: Each with the seconds of its turn.
        beside: The call that all are compared with.
        clock: See :func:`clock_of`.
        rounds: How often each has its turn, after one that does not count.

    Returns:
        Milliseconds of each, and of ``beside``, such that their ratio is the median over rounds of the ratio of the
        median calls in each.
    """
    found, compared = [], []
    for number in range(rounds + 1):
        order = range(len(calls)) if number % 2 else reversed(range(len(calls)))
        medians = [0.0] * len(calls)
        before = _median_call(beside, WHOLE_SECONDS, clock)
        for place in order:
            call, seconds = calls[place]
            medians[place] = _median_call(call, seconds, clock)
        after = _median_call(beside, WHOLE_SECONDS, clock)
        if number:  # The first round warms up.
            found.append(medians)
            compared.append((before + after) / 2)
    reference = float(np.median(compared))
    ratios = np.median(np.array(found) / np.array(compared)[:, None], axis=0)
    return [(float(ratio) * reference, reference) for ratio in ratios]


def call_of(graph: str | bytes, threads: int) -> Call:
    """Return what runs a graph, a file or its content, once with noise; batches count one image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    images = np.random.default_rng(0).standard_normal((1, *given.shape[1:]), dtype=np.float32)
    return lambda: session.run(None, {given.name: images})


def seconds_of(role: str) -> float:
    """Return how long a turn is in one round."""
    return PART_SECONDS if role == "part" else WHOLE_SECONDS


def processor() -> str:
    """Return what the processor calls itself: :mod:`triscale.measure.processor` is not there on the device."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def main(folder: Path) -> None:
    """Time what a folder's times lack, and keep them as they come."""
    plan = json.loads((folder / PLAN).read_text())
    file = folder / TIMES
    found: dict[str, Any] = {
        "key": plan["key"],
        "processor": processor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "onnxruntime": onnxruntime.__version__,
        "times": {},
    }
    if file.is_file():
        before = json.loads(file.read_text())
        if (before["key"], before["processor"]) != (found["key"], found["processor"]):
            sys.exit(f"{file} belongs to another plan or device; move it away")
        found["times"] = before["times"]
    threads = plan["threads"]
    beside = call_of(str(folder / plan["beside"]), threads)
    missing = [probe for probe in plan["probes"] if probe["file"] not in found["times"]]
    for start in range(0, len(missing), TOGETHER):
        group = missing[start : start + TOGETHER]
        calls = [(call_of(str(folder / probe["file"]), threads), seconds_of(probe["role"])) for probe in group]
        for probe, pair in zip(group, time_with_reference(calls, beside, clock_of(threads)), strict=True):
            found["times"][probe["file"]] = pair
        aside = file.with_suffix(".part")
        aside.write_text(json.dumps(found))
        aside.replace(file)
        sys.stderr.write(f"{len(found['times'])} of {len(plan['probes'])} timed\n")


def _median_call(call: Call, seconds: float, clock: Callable[[], float]) -> float:
    """Return the median milliseconds of at least three calls."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MIN_CALLS or time.perf_counter() - started < seconds:
        before = clock()
        call()
        times.append((clock() - before) * 1e3)
    return float(np.median(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
