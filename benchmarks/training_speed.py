"""Training speed and memory of EfficientNet-B0, compared with the modules of timm and torchvision.

A step is forward pass, cross-entropy, backward pass and SGD on random images in memory, so that only the network is
timed. Rows are interleaved and run once per round, so that a slow period of the machine affects all of them, after a
warm-up. The table shows the median and the quartiles over rounds, and those of the ratio to the first row, Triscale's,
*within a round*: a ratio of 1.5 means that Triscale trains 1.5 times as many images in the same time. Memory kept for
the backward pass is the sum of the distinct storages that autograd saves, without parameters. The peak is the growth of
a new process's resident memory over a few steps (on a GPU, the maximum allocated memory).

Dropout and stochastic depth have the defaults of each project. With several precisions, there is a row for each, and
the first row is Triscale's in the last precision; bfloat16 is autocast.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from steps import interleaved_seconds, saved_bytes
from triscale import get
from triscale.nn.build import build
from triscale.training.transfer import freeze_norms

RESULT = Path(__file__).parent / "results" / "training_speed.txt"
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "triscale": lambda: build(get("efficientnet_b0")),
    "timm": lambda: timm.create_model("efficientnet_b0"),
    "torchvision": torchvision.models.efficientnet_b0,
}
Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=16, help="images timed per row and round")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compiled", action="store_true", help="torch.compile as well; minutes on a CPU")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), nargs="+", default=["float32"])
    parser.add_argument("--frozen-norms", action="store_true", help="batch norm with its running statistics")
    parser.add_argument("--peak-of", choices=tuple(NETWORKS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of:
        print(peak_of(given.peak_of, given))
        return
    started = time.perf_counter()
    lines = [f"# python benchmarks/training_speed.py {' '.join(sys.argv[1:])}".rstrip(), "", *described(given), ""]
    rows: dict[str, Step] = {}
    for precision in given.precision:
        for name, make in NETWORKS.items():
            for layout in FORMATS:
                rows[f"{name}, {layout}, {precision}"] = make_step(make(), layout, precision, given)
    best = f"triscale, channels_last, {given.precision[-1]}"
    if given.compiled:
        for precision in given.precision:
            for name, make in NETWORKS.items():
                step = make_step(make(), "channels_last", precision, given, compiled=True)
                rows[f"{name}, channels_last, {precision}, compiled"] = step
    lines += speeds({best: rows.pop(best), **rows}, given)
    lines += ["", *memory(given), ""]
    lines.append(f"load average {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    lines[-1] += f" at the end; took {time.perf_counter() - started:.0f} s"
    text = "\n".join(lines) + "\n"
    print(text, end="")
    result_file(given).write_text(text, encoding="utf-8")


def result_file(given: argparse.Namespace) -> Path:
    """Return the file of the results, named by what is not the default."""
    parts = {"bfloat16": "bfloat16" in given.precision, "frozen_norms": given.frozen_norms}
    parts[f"{given.threads}_threads"] = given.threads > 1
    return RESULT.with_stem("_".join([RESULT.stem, *(name for name, used in parts.items() if used)]))


def described(given: argparse.Namespace) -> list[str]:
    """Return lines about the machine and the settings."""
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    network = f"EfficientNet-B0{' with frozen batch norm' if given.frozen_norms else ''}"
    return [
        f"{network}, {given.resolution} px, batch {given.batch}, {given.threads} threads",
        f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, torch {torch.__version__},",
        f"torchvision {torchvision.__version__}, timm {timm.__version__}; {given.rounds} rounds, rows interleaved;",
        f"median (quartiles); load average {os.getloadavg()[0]:.1f} at the start",
    ]


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def make_step(
    model: nn.Module, layout: str, precision: str, given: argparse.Namespace, *, compiled: bool = False
) -> Step:
    """Return a function that takes one training step."""
    device = torch.device(given.device)
    model = prepared(model, layout, given)
    images, labels = batch(given)
    images = images.contiguous(memory_format=FORMATS[layout])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits = forward(images)
        loss = F.cross_entropy(logits.float(), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def prepared(model: nn.Module, layout: str, given: argparse.Namespace) -> nn.Module:
    """Return a model in training mode on the device."""
    model = model.to(given.device).to(memory_format=FORMATS[layout]).train()
    if given.frozen_norms:
        freeze_norms(model)
    return model


def batch(given: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return random normalized images and labels on the device."""
    torch.manual_seed(0)
    images = torch.randn(given.batch, 3, given.resolution, given.resolution)
    return images.to(given.device), torch.randint(0, 1000, (given.batch,)).to(given.device)


def speeds(rows: dict[str, Step], given: argparse.Namespace) -> list[str]:
    """Time all rows, interleaved, relative to the first."""
    steps = max(1, given.images // given.batch)
    for step in rows.values():
        step()
        step()
    timed = interleaved_seconds(rows, rounds=given.rounds, repeats=steps, wait=partial(wait, given))
    seconds = {name: [time_of_step / given.batch for time_of_step in times] for name, times in timed.items()}
    first = seconds[next(iter(rows))]
    lines = [f"{'':46}{'images/s':>22}{'time / that of the first':>26}"]
    for name, times in seconds.items():
        ratios = [time_of_row / time_of_first for time_of_row, time_of_first in zip(times, first, strict=True)]
        lines.append(f"{name:46}{spread([1 / t for t in times]):>22}{spread(ratios):>26}")
    others = [name for name in rows if not name.startswith("triscale")]
    fastest = min(others, key=lambda name: statistics.median(seconds[name]))
    ratios = [time_of_row / time_of_first for time_of_row, time_of_first in zip(seconds[fastest], first, strict=True)]
    return [*lines, "", f"Beside the best of the others ({fastest}): {spread(ratios)} times as fast"]


def wait(given: argparse.Namespace) -> None:
    if given.device != "cpu":
        torch.cuda.synchronize()


def memory(given: argparse.Namespace) -> list[str]:
    """Return a table of memory kept for backward and peak memory."""
    kept = {
        (name, precision): saved_per_image(make(), precision, given)
        for precision in given.precision
        for name, make in NETWORKS.items()
    }
    ours = kept["triscale", given.precision[-1]]
    lines = [f"{'':36}{'kept for backward, MB/image':>30}{'ratio':>8}{'peak, MB':>12}"]
    for (name, precision), value in kept.items():
        arguments = [f"--{key}={vars(given)[key]}" for key in ("batch", "resolution", "threads", "device")]
        arguments += [f"--precision={precision}", *["--frozen-norms"] * given.frozen_norms]
        command = [sys.executable, __file__, *arguments, f"--peak-of={name}"]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        lines.append(f"{f'{name}, {precision}':36}{value / 1e6:>30.1f}{value / ours:>8.2f}{peak / 1e6:>12.0f}")
    smallest = min(value for (name, _), value in kept.items() if name != "triscale")
    return [*lines, "", f"Ours keeps {ours / smallest:.2f} of the least of the others"]


def saved_per_image(model: nn.Module, precision: str, given: argparse.Namespace) -> float:
    """Return the bytes that autograd keeps for each image of a batch."""
    images, _ = batch(given)
    model = prepared(model, "channels_last", given)
    device = torch.device(given.device).type

    def forward() -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
        return logits

    return saved_bytes(model, forward) / given.batch


def peak_of(name: str, given: argparse.Namespace) -> int:
    """Return the growth of this process's peak memory, in bytes, over three steps with a network."""
    step = make_step(NETWORKS[name](), "channels_last", given.precision[-1], given)
    before = resident("VmRSS")
    if given.device == "cpu":
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # reset the peak after the imports
    for _ in range(3):
        step()
    return resident("VmHWM") - before if given.device == "cpu" else torch.cuda.max_memory_allocated()


def resident(field: str) -> int:
    """Return a resident memory statistic of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


def spread(values: list[float]) -> str:
    """Return the median with the quartiles, in three digits."""
    low, median, high = (f"{value:#.3g}".rstrip(".") for value in statistics.quantiles(values, n=4, method="inclusive"))
    return f"{median} ({low}-{high})"


if __name__ == "__main__":
    main()
