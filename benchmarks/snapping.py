"""Compare multiples for rounding resolutions: exact MACs against resolution, and the use of budgets.

A side that is not divisible by a stride is rounded up there, and the additional border is computed in full, so fine
multiples spend MACs on borders. Coarse multiples waste nothing, but move the resolution away from the law, at the
expense of depth and width or in their favor. Half the total stride is a compromise: at most 8% waste, and half the
deviation of the whole stride.
Columns, for resolutions from 128 to 512 px and random budgets of a quarter to eight times the baseline's MACs:

- wasted: MACs per pixel of the input, above those at the nearest multiple of the network's total stride.
- step: growth in MACs from 224 px to the next multiple.
- used: share of the budget that ``fit_budget`` uses.
- useful: share of the budget that is used and not wasted on borders by the fitted network.
- off the law: relative difference between the pixels of the fitted network and those of the law at its phi.

The figures are exact; nothing is timed.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from triscale import EFFICIENTNET, Budget, Network, fit_budget, get
from triscale.network.cost import count_network
from triscale.scaling import apply
from triscale.scaling.rounding import round_resolution

COMMAND = "python benchmarks/snapping.py > benchmarks/results/snapping.txt"
BASELINES = ("efficientnet_b0", "mobilenet_v2", "resnet50")
MULTIPLES = (1, 2, 4, 8, 16, 32)
SMALLEST, LARGEST, NEAR = 128, 512, 224
NUM_BUDGETS = 150
SEED = 0


def main() -> None:
    print(f"# {COMMAND}\n")
    print(f"{NUM_BUDGETS} random budgets a row, seed {SEED}; * marks the multiple in use: half the total stride")
    for name in BASELINES:
        baseline = get(name)
        print(f"\n{name}, total stride {baseline.total_stride}")
        print("multiple  wasted: mean  worst   step  used: median  10th pct", end="")
        print("  useful: median  10th pct  off the law: mean  worst")
        for multiple in MULTIPLES:
            print(row(baseline, multiple))


def row(baseline: Network, multiple: int) -> str:
    """Return one line of the table."""
    wasted = [waste(baseline, resolution) for resolution in multiples(SMALLEST, LARGEST, multiple)]
    following = round_resolution(NEAR + multiple, multiple)
    step = macs(baseline, following) / macs(baseline, NEAR) - 1
    used, useful, off = zip(*shares(baseline, multiple), strict=True)
    mark = "*" if multiple == apply.resolution_multiple(baseline) else " "
    return (
        f"{multiple:>7}{mark}"
        f"  {statistics.mean(wasted):>12.1%}  {max(wasted):>5.1%}  {step:>5.1%}"
        f"  {statistics.median(used):>12.1%}  {tenth(used):>8.1%}"
        f"  {statistics.median(useful):>14.1%}  {tenth(useful):>8.1%}"
        f"  {statistics.mean(off):>17.1%}  {max(off):>5.1%}"
    )


def shares(baseline: Network, multiple: int) -> Iterator[tuple[float, float, float]]:
    """Yield for random budgets the used share, the used share without waste, and the distance from the law."""
    numbers = random.Random(SEED)
    needed = count_network(baseline).macs
    with snapped_to(multiple):
        for _ in range(NUM_BUDGETS):
            fit = fit_budget(baseline, EFFICIENTNET, Budget(macs=needed * 2 ** numbers.uniform(-2, 3)))
            assert isinstance(fit.network, Network)
            used = fit.limits[0].used
            off = abs((fit.network.resolution / (baseline.resolution * fit.scale.resolution)) ** 2 - 1)
            yield used, used / (1 + waste(fit.network, fit.network.resolution)), off


@contextmanager
def snapped_to(multiple: int) -> Iterator[None]:
    """Make scaling and fitting round resolutions to a multiple."""
    original = apply.resolution_multiple
    apply.resolution_multiple = lambda *_: multiple
    try:
        yield
    finally:
        apply.resolution_multiple = original


def waste(network: Network, resolution: int) -> float:
    """Return the MACs per pixel above those at the nearest multiple of the total stride."""
    even = round_resolution(resolution, network.total_stride)
    return macs(network, resolution) / resolution**2 / (macs(network, even) / even**2) - 1


def macs(network: Network, resolution: int) -> int:
    """Return the MACs at a resolution in pixels."""
    return count_network(network.replace(resolution=resolution)).macs


def multiples(smallest: int, largest: int, multiple: int) -> range:
    """Return the multiples in a closed range."""
    return range(-(-smallest // multiple) * multiple, largest + 1, multiple)


def tenth(shares: tuple[float, ...]) -> float:
    """Return the tenth percentile."""
    return statistics.quantiles(shares, n=10)[0]


if __name__ == "__main__":
    main()
