"""The XLA engine on a CPU, compared with the torch engine: steps, compile time and its cache, memory, several devices.

Run with: python benchmarks/xla_speed.py [--images FOLDER] [--network efficientnet_b0@64] [--batch 16] [--rounds 5]

A step is forward pass, loss, backward pass, optimizer and moving average on random images in memory; for XLA it
includes their copy to the devices. The rows of a table take turns, once per round; it has the median and the quartiles
of the ratio to its first row within a round.

- Engines: the same batch, one micro-batch.
- Devices: eight micro-batches on 1, 2, 4 and 8 simulated devices, which share the cores of this machine: the shape of
  the curve says what the division over devices costs, not what more hardware gives.
- Input, with --images: the training images of a folder are read, augmented and copied to 1, 2, 4 and 8 simulated
  devices, without a step. Again the shape of the curve matters: a host feeds as many devices as it has.
- Compilation: seconds until the first step has ended, in a new process with an empty cache, and again with its cache.
- Memory: growth of the resident memory of a new process over three steps, with compilation and without.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from steps import interleaved_seconds
from triscale.data.checks.duplicates import Duplicates
from triscale.data.images.transforms import Augmentation
from triscale.data.pipeline.loader import Batch, TrainLoader
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.families import get
from triscale.measurement.processor import processor
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.training.context import EngineName, ExecutionContext
from triscale.training.distributed.group import ALONE
from triscale.training.engine import TrainingEngine, make_engine, start_engine
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe
from triscale.training.task import TrainingTask

if TYPE_CHECKING:
    from triscale.training.xla.xla_stepper import XlaStepper

CLASSES = 10
MICRO_BATCHES = 8
DEVICES = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="efficientnet_b0@64")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=Path, help="a folder of class folders, for the table of the input")
    parser.add_argument("--part", choices=("engines", "devices", "input", "torch", "xla"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.part in ("torch", "xla"):
        first_step(given, given.part)
    elif given.part:
        {"engines": compare_engines, "devices": compare_devices, "input": compare_input}[given.part](given)
    else:
        print_all(given)


def print_all(given: argparse.Namespace) -> None:
    print(f"$ python benchmarks/xla_speed.py {' '.join(sys.argv[1:])}".rstrip())
    print(f"{processor()}, {platform.system()}, torch {torch.__version__}, {given.threads} threads, float32")
    print(f"{given.network}, {CLASSES} classes, batch {given.batch}\n", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        for engine, what in (("torch", ""), ("xla", ", empty cache"), ("xla", ", its cache")):
            print(f"{engine + what:<24} {part(given, engine, cache)}", flush=True)
        parts = {"engines": 1, "devices": max(DEVICES)} | ({"input": max(DEVICES)} if given.images else {})
        for name, devices in parts.items():
            print(f"\n{part(given, name, cache, devices)}", flush=True)


def part(given: argparse.Namespace, name: str, cache: str, devices: int = 1) -> str:
    """Return what a part prints in a process of its own, since XLA reads its flags when it starts."""
    keys = ("network", "batch", "rounds", "threads", *(("images",) if given.images else ()))
    options = [f"--{key}={getattr(given, key)}" for key in keys]
    threads = "" if given.threads > 1 else " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    flags = {"TRISCALE_CACHE": cache, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}{threads}"}
    command = [sys.executable, __file__, *options, "--part", name]
    return subprocess.run(command, env=os.environ | flags, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def first_step(given: argparse.Namespace, engine: EngineName) -> None:
    step = step_of(given, engine, 1)
    before, began = resident_bytes(), time.perf_counter()
    step()
    seconds = time.perf_counter() - began
    step()
    step()
    print(f"first step {seconds:5.1f} s, memory of three steps {(resident_bytes() - before) / 1e6:5.0f} MB")


def compare_engines(given: argparse.Namespace) -> None:
    print_ratios(given, {engine: step_of(given, engine, 1) for engine in ("torch", "xla")})


def compare_devices(given: argparse.Namespace) -> None:
    print_ratios(given, {f"xla, {number} devices": step_of(given, "xla", MICRO_BATCHES, number) for number in DEVICES})


def compare_input(given: argparse.Namespace) -> None:
    split = make_split(scan(given.images), duplicates=Duplicates())
    loader = TrainLoader(
        split,
        Preprocessing(resolution=get(given.network).resolution),
        Augmentation(policy="autoaugment"),
        batch=given.batch,
        seed=0,
        cache_bytes=0,
    )
    epochs = {f"input, {number} devices": input_of(given, loader, len(split.classes), number) for number in DEVICES}
    print(f"{len(split.train)} training images with AutoAugment")
    print_ratios(given, epochs, images=len(split.train))


def input_of(given: argparse.Namespace, loader: TrainLoader, classes: int, devices: int) -> Callable[[], object]:
    engine = xla_engine(task_of(given, MICRO_BATCHES, classes), devices)

    def epoch() -> None:
        for step, batch in enumerate(loader.epoch(0)):
            parts, _ = engine.to_devices(batch, loader.count(step))
            for part in parts:
                part.images.block_until_ready()

    return epoch


def print_ratios(given: argparse.Namespace, steps: dict[str, Callable[[], object]], images: int = 0) -> None:
    for step in steps.values():
        step()
        step()
    seconds = interleaved_seconds(steps, rounds=given.rounds, repeats=2, wait=lambda: None)
    first = next(iter(seconds.values()))
    for name, values in seconds.items():
        low, middle, high = statistics.quantiles([own / other for own, other in zip(values, first, strict=True)], n=4)
        speed = (images or given.batch) / statistics.median(values)
        print(f"{name:<24} {speed:7.1f} images/s, {middle:.2f} ({low:.2f}-{high:.2f}) times the first row's time")


def step_of(given: argparse.Namespace, name: EngineName, micro_batches: int, devices: int | None = None):
    engine = engine_of(given, name, micro_batches, devices)
    network = get(given.network)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (given.batch, *network.input_shape), dtype=np.uint8)
    labels = torch.from_numpy(generator.integers(0, CLASSES, given.batch))
    batch = Batch(torch.from_numpy(images), labels, torch.arange(given.batch))

    def step() -> None:
        engine.take(batch, given.batch, 1e-3)
        engine.read_losses()  # waits until the step has ended

    return step


def engine_of(given: argparse.Namespace, name: EngineName, micro_batches: int, devices: int | None) -> TrainingEngine:
    start_engine(name, "cpu", ALONE)
    task = task_of(given, micro_batches, CLASSES)
    return make_engine(task, ExecutionContext(engine=name)) if devices is None else xla_engine(task, devices)


def task_of(given: argparse.Namespace, micro_batches: int, classes: int) -> TrainingTask:
    network = get(given.network).replace(classes=classes)
    torch.manual_seed(0)
    return TrainingTask(
        model=build(network),
        recipe=Recipe(batch=given.batch, micro_batches=micro_batches),
        preprocessing=Preprocessing(resolution=network.resolution),
        classes=classes,
        objective=Objective(label_smoothing=0.1),
        network_digest="",
        seed=0,
    )


def xla_engine(task: TrainingTask, devices: int) -> XlaStepper:
    import jax  # noqa: PLC0415 - reads XLA_FLAGS

    from triscale.training.xla.xla_stepper import XlaStepper  # noqa: PLC0415

    start_engine("xla", "cpu", ALONE)
    return XlaStepper(task, ExecutionContext(engine="xla"), jax.devices()[:devices])


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
