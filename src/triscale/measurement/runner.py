"""Time ONNX graphs in ONNX Runtime on a device without Triscale; requires only onnxruntime and numpy.

``triscale profile --export DIR`` copies this file next to the graphs and their ``plan.json``. On the device, run::

    python DIR/runner.py

It writes ``times.json`` there, and resumes if it was interrupted; ``triscale profile --import DIR`` creates a profile
from the times. This file must not import Triscale. Triscale uses its functions for local measurements too, so that
both follow the same protocol.
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
"""Number of graphs that are loaded at a time and timed alternately."""
ROUNDS = 8
MIN_CALLS = 3
PART_SECONDS, WHOLE_SECONDS = 0.01, 0.05
"""Duration of the measurement of a part, and of a whole network, in one round."""

Call = Callable[[], object]


def clock_of(threads: int) -> Callable[[], float]:
    """Return the clock for measurements, in seconds.

    With one thread it is the CPU time of the thread, which does not advance while another process uses the core. With
    wall time, long calls would be interrupted more often than short ones, so on a busy machine networks would seem
    slower than the sum of their parts.
    """
    return time.thread_time if threads == 1 else time.perf_counter


def time_with_reference(
    calls: Sequence[tuple[Call, float]], reference: Call, clock: Callable[[], float], *, rounds: int = ROUNDS
) -> list[tuple[float, float]]:
    """Time calls alternately, relative to a reference call in the same round.

    Args:
        calls: Each call with the duration of its measurement per round in seconds.
        reference: The call that all are compared with.
        clock: See :func:`clock_of`.
        rounds: Number of rounds, after one warm-up round.

    Returns:
        For each call, its latency and that of the reference in milliseconds. Their ratio is the median over all rounds
        of the ratio of the medians within a round.
    """
    medians_by_round, references = [], []
    for number in range(rounds + 1):
        order = range(len(calls)) if number % 2 else reversed(range(len(calls)))
        medians = [0.0] * len(calls)
        before = _median_call(reference, WHOLE_SECONDS, clock)
        for index in order:
            call, seconds = calls[index]
            medians[index] = _median_call(call, seconds, clock)
        after = _median_call(reference, WHOLE_SECONDS, clock)
        if number:  # The first round warms up.
            medians_by_round.append(medians)
            references.append((before + after) / 2)
    reference_ms = float(np.median(references))
    ratios = np.median(np.array(medians_by_round) / np.array(references)[:, None], axis=0)
    return [(float(ratio) * reference_ms, reference_ms) for ratio in ratios]


def call_of(graph: str | bytes, threads: int) -> Call:
    """Return a function that runs an ONNX graph (a path or its bytes) once on noise with batch size 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    model_input = session.get_inputs()[0]
    images = np.random.default_rng(0).standard_normal((1, *model_input.shape[1:]), dtype=np.float32)
    return lambda: session.run(None, {model_input.name: images})


def seconds_of(role: str) -> float:
    """Return the duration of a graph's measurement in one round."""
    return PART_SECONDS if role == "part" else WHOLE_SECONDS


def processor() -> str:
    """Return the name of the processor; :mod:`triscale.measurement.processor` is not installed on the device."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def main(folder: Path) -> None:
    """Time the graphs whose times are missing, and save the times after each group."""
    plan = json.loads((folder / PLAN).read_text())
    file = folder / TIMES
    result: dict[str, Any] = {
        "key": plan["key"],
        "processor": processor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "onnxruntime": onnxruntime.__version__,
        "times": {},
    }
    if file.is_file():
        saved = json.loads(file.read_text())
        if (saved["key"], saved["processor"]) != (result["key"], result["processor"]):
            sys.exit(f"{file} belongs to another plan or device; delete or move it")
        result["times"] = saved["times"]
    threads = plan["threads"]
    reference = call_of(str(folder / plan["reference"]), threads)
    missing = [probe for probe in plan["probes"] if probe["file"] not in result["times"]]
    for start in range(0, len(missing), TOGETHER):
        group = missing[start : start + TOGETHER]
        calls = [(call_of(str(folder / probe["file"]), threads), seconds_of(probe["role"])) for probe in group]
        for probe, pair in zip(group, time_with_reference(calls, reference, clock_of(threads)), strict=True):
            result["times"][probe["file"]] = pair
        temporary = file.with_suffix(".part")
        temporary.write_text(json.dumps(result))
        temporary.replace(file)
        sys.stderr.write(f"{len(result['times'])} of {len(plan['probes'])} graphs timed\n")


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
