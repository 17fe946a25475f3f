"""Time counting, fitting and process start, compared with other ways to obtain the same figures.

Rows are interleaved: each is timed once per round, so that a slow period of the machine affects all of them. An untimed
call before each timing evicts the previous row from the processor's caches. The table shows the median and the
quartiles over rounds, and those of the ratio to the first row *within a round*. Times hold for this machine only;
ratios are more portable. The references:

- torch's flop counter runs an already built module on the meta device, without arithmetic.
- fvcore traces an already built module. It does not support the meta device, so the image is computed.
- torchvision's module is built on the meta device and counted by torch: the cost of a search without a formula.
- bisection solves a budget that way: eight torchvision modules between two values of phi.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.efficientnet import EfficientNet, MBConvConfig

from triscale import EFFICIENTNET, Budget, cost, fit_budget, get, scale
from triscale.network import lower
from triscale.nn.build import build

COMMAND = "python benchmarks/core_speed.py > benchmarks/results/core_speed.txt"
RESOLUTION = 224
MACS = 1e9
Rows = dict[str, Callable[[], object]]

B0 = get("efficientnet_b0")
B0_LIKE = scale(B0, EFFICIENTNET.at(0.2))
B0_ROWS = (
    # expansion, kernel, stride, input width, width, repeats
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timings per row")
    rounds = parser.parse_args().rounds
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    print(f"# {COMMAND}\n")
    print(f"{platform.machine()}, {os.cpu_count()} cores, shared; Python {platform.python_version()}, torch")
    print(f"{torch.__version__}, one thread; {rounds} rounds, rows interleaved; median (quartiles)")
    with torch.device("meta"):
        module = torchvision.models.efficientnet_b0().eval()
        ours = build(B0_LIKE).eval()
    real = torchvision.models.efficientnet_b0().eval()
    print(f"MACs of EfficientNet-B0: {cost(B0).macs} here, {by_torch(module)} by torch, {by_fvcore(real)} by fvcore")
    table("Count a network like EfficientNet-B0 (target: under 1 ms)", counting(ours, module, real), rounds)
    table("Solve a budget of 1G MACs (target: under 50 ms)", solving(), rounds)
    table("Start a process (target: under 0.5 s)", starting(), rounds)
    print(f"\nimport triscale imports torch: {'yes' if imports_torch('import triscale') else 'no'}")


def counting(ours: nn.Module, module: nn.Module, real: nn.Module) -> Rows:
    """Return the ways to count a network; ``ours`` and ``module`` are on the meta device."""
    return {
        "triscale.cost": partial(cost, B0_LIKE),
        "triscale.cost, first time": cost_for_the_first_time,
        "torch flop counter, our module": partial(by_torch, ours),
        "torch flop counter, torchvision's": partial(by_torch, module),
        "fvcore, torchvision's module": partial(by_fvcore, real),
        "torchvision built and counted": build_and_count,
    }


def solving() -> Rows:
    """Return the ways to solve a budget."""
    return {
        "triscale.fit_budget": lambda: fit_budget(B0, EFFICIENTNET, Budget(macs=MACS)),
        "fit_budget, 1G MACs and 8M params": lambda: fit_budget(B0, EFFICIENTNET, Budget(macs=MACS, params=8e6)),
        "fit_budget of ResNet-50, 8G MACs": lambda: fit_budget(get("resnet50"), EFFICIENTNET, Budget(macs=8e9)),
        "bisection with torchvision": bisect_with_torchvision,
    }


def starting() -> Rows:
    """Return functions that each run one process."""
    return {
        "python -c 'import triscale'": partial(start, "-c", "import triscale"),
        "python -c pass": partial(start, "-c", "pass"),
        "triscale list": partial(start, "-m", "triscale", "list"),
        "triscale scale": partial(start, "-m", "triscale", "scale", "efficientnet_b0", "--budget", "1G"),
        "python -c 'import torch'": partial(start, "-c", "import torch"),
    }


def cost_for_the_first_time() -> object:
    """Count a network with an empty cache of lowered blocks."""
    lower._block.cache_clear()
    return cost(B0_LIKE)


def by_torch(module: nn.Module, resolution: int = RESOLUTION) -> int:
    """Return the MACs of one image by torch's counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(1, 3, resolution, resolution, device="meta"))
    return counter.get_total_flops() // 2


def by_fvcore(module: nn.Module) -> int:
    """Return the MACs of one image by fvcore's counter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's tracer, which fvcore uses
        analysis = FlopCountAnalysis(module, torch.zeros(1, 3, RESOLUTION, RESOLUTION))
        by_operator = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    return int(by_operator["conv"] + by_operator["linear"])


def build_and_count() -> int:
    """Build torchvision's EfficientNet-B0 on the meta device and count it."""
    with torch.device("meta"):
        module = torchvision.models.efficientnet_b0().eval()
    return by_torch(module)


def bisect_with_torchvision() -> float:
    """Find phi for the budget with eight torchvision modules."""
    low, high = 0.0, 4.0
    for _ in range(8):
        phi = (low + high) / 2
        at = EFFICIENTNET.at(phi)
        rows = [MBConvConfig(*row, width_mult=at.width, depth_mult=at.depth) for row in B0_ROWS]
        with torch.device("meta"):
            module = EfficientNet(rows, dropout=0.2).eval()
        fits = by_torch(module, round(B0.resolution * at.resolution)) <= MACS
        low, high = (phi, high) if fits else (low, phi)
    return low


def start(*arguments: str) -> None:
    """Run a Python process and wait for it."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def imports_torch(statement: str) -> bool:
    """Return whether a statement imports torch in a new process."""
    test = f"{statement}; import sys; sys.exit('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", test], check=False).returncode != 0


def table(title: str, rows: Rows, rounds: int) -> None:
    """Time all rows, interleaved, and print a table."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, call in rows.items():
            call()
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    first = seconds[next(iter(rows))]
    print(f"\n{title}\n{'':36}{'ms':>24}{'times the first row':>30}")
    for name, times in seconds.items():
        ratios = [time_of_row / time_of_first for time_of_row, time_of_first in zip(times, first, strict=True)]
        print(f"{name:36}{spread([1e3 * t for t in times]):>24}{spread(ratios):>30}")


def spread(values: list[float]) -> str:
    """Return the median with the quartiles, in three digits."""
    low, median, high = (
        f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".") for value in statistics.quantiles(values, n=4)
    )
    return f"{median} ({low}-{high})"


if __name__ == "__main__":
    main()
