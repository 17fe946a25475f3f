"""Training speed with one thread and with all, without and with another process that keeps one core busy.

Every variant is a process that waits until it is asked for a window of training steps; the windows of all variants
alternate, without and with the neighbor, which this program starts and ends. A ratio is that of one round, relative to
one thread in the same condition. ``passive`` sets the variables that make waiting threads sleep; ``chosen`` is the
number of threads that a training with ``--threads auto`` chooses as it begins in that condition.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
VARIANTS = {
    "one thread": ("1", {}),
    "all threads": ("all", {}),
    "all threads, passive": ("all", PASSIVE),
    "chosen": ("chosen", {}),
}
BURN = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="efficientnet_b0@64")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a window")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        serve(given)
        return
    print(f"# python benchmarks/busy_neighbor.py {' '.join(sys.argv[1:])}\n")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start; median (quartiles)\n")
    print(f"{'':24}{'':10}{'images/s':>22}{'relative to one thread':>26}  threads")
    for busy in (False, True):
        measure(given, busy=busy)
    print(f"\nload average {os.getloadavg()[0]:.1f} at the end")


def measure(given: argparse.Namespace, *, busy: bool) -> None:
    """Measure all variants in one condition, and print a line for each."""
    neighbor = subprocess.Popen([sys.executable, "-c", BURN]) if busy else None
    children: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, (threads, variables) in VARIANTS.items():
            environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | variables
            command = [sys.executable, __file__, *sys.argv[1:], "--child", threads]
            pipe = subprocess.PIPE
            children[name] = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
            ask(children[name])  # one after the other: it warms up, and chooses
        found: dict[str, list[float]] = {name: [] for name in children}
        used = {}
        for _ in range(given.rounds):
            for name, child in children.items():
                speed, used[name] = ask(child)
                found[name].append(speed)
    finally:
        for process in (*children.values(), *([neighbor] if neighbor else [])):
            process.kill()
            process.wait()
    for name, speeds in found.items():
        ratios = [speed / one for speed, one in zip(speeds, found["one thread"], strict=True)]
        condition = "neighbor" if busy else "as it is"
        print(f"{name:24}{condition:10}{spread(speeds):>22}{spread(ratios):>26}  {used[name]}", flush=True)


def ask(child: subprocess.Popen[str]) -> tuple[float, int]:
    """Ask a variant for a window; return its images per second and its number of threads."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    speed, threads = child.stdout.readline().split()
    return float(speed), int(threads)


def serve(given: argparse.Namespace) -> None:
    """Take training steps for a window for every line on the standard input."""
    import torch  # noqa: PLC0415 - the parent only waits

    from gpu_parts.tasks import stepper_of  # noqa: PLC0415
    from triscale import get  # noqa: PLC0415
    from triscale.data.pipeline.loader import Batch  # noqa: PLC0415
    from triscale.jobs.training.thread_choice import choose_threads  # noqa: PLC0415
    from triscale.training.context import ExecutionContext  # noqa: PLC0415
    from triscale.training.recipe import Recipe  # noqa: PLC0415

    network, recipe = get(given.network), Recipe(batch=given.batch)
    if given.child == "chosen":
        choose_threads(network, recipe, ExecutionContext())
    elif given.child != "all":
        torch.set_num_threads(int(given.child))
    stepper = stepper_of(recipe, torch.device("cpu"), network)
    images = torch.randint(0, 255, (given.batch, *network.input_shape), dtype=torch.uint8)
    batch = Batch(images, torch.randint(0, network.classes, (given.batch,)), torch.arange(given.batch))
    stepper.take(batch, given.batch, 1e-9)
    for _ in sys.stdin:
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < given.seconds:
            stepper.take(batch, given.batch, 1e-9)
            steps += 1
        print(given.batch * steps / (time.perf_counter() - began), torch.get_num_threads(), flush=True)


def spread(values: list[float]) -> str:
    """Return the median with the quartiles, in three digits."""
    low, median, high = (f"{value:.3g}" for value in statistics.quantiles(values, n=4, method="inclusive"))
    return f"{median} ({low}-{high})"


if __name__ == "__main__":
    main()
