"""How much of a budget do fits use, and what does a budget of parameters buy besides?

Random budgets from half to 30 times a baseline's cost, for each currency and several laws. The table shows the share of
the limit that is used, and the fit's MACs and resolution relative to the network of the law at the same phi: a budget
of parameters or bytes must not buy pixels beyond the law. The last rows are small: few classes, few steps.
"""

from __future__ import annotations

import argparse
import random
import statistics

from triscale import Budget, fit_budget, get
from triscale.errors import BudgetError
from triscale.network.cost import count_network
from triscale.network.spec import Network
from triscale.scaling.apply import scale_by_law
from triscale.scaling.budget import cost_value
from triscale.scaling.fit import counting
from triscale.scaling.named_laws import NAMED_LAWS

COMMAND = "python benchmarks/budget_use.py > benchmarks/results/budget_use.txt"
CURRENCIES = ("macs", "params", "size", "activations", "memory", "training_memory", "ram", "flash")
BASELINES = ("efficientnet_b0", "mobilenet_v2", "resnet50")
LAWS = ("paper", "dwr", "lacs-gpu", "resnet-rs")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=25, help="budgets per row")
    number = parser.parse_args().number
    print(f"# {COMMAND}\n")
    print(f"{number} random budgets of each currency from 0.5 to 30 times the baseline's cost; share of the limit used")
    print(f"{'':44}{'median':>8}{'1 in 10':>9}{'lowest':>8}{'MACs / law':>12}{'px / law':>10}")
    for currency in CURRENCIES:
        for law in LAWS if currency == "macs" else LAWS[:1]:
            row(f"{currency}, {law}", [get(name) for name in BASELINES], currency, law, number, (0.5, 30))
    print("\nSmall networks: EfficientNet-B0 with 10 classes from 0.02 to 0.2 times its cost")
    small = [get("efficientnet_b0").replace(classes=10)]
    for currency in ("macs", "params"):
        row(f"{currency}, paper", small, currency, "paper", 3 * number, (0.02, 0.2))


def row(title: str, baselines: list[Network], currency: str, law: str, number: int, span: tuple[float, float]) -> None:
    """Print one row: fits of several baselines to random budgets of a currency."""
    used, macs, pixels = [], [], []
    for baseline in baselines:
        numbers = random.Random(f"{baseline.name} {currency}")
        cost = cost_value(counting(Budget(**{currency: 1e18}), None)(baseline), currency)
        for _ in range(number):
            share = span[0] * (span[1] / span[0]) ** numbers.random()
            try:
                fit = fit_budget(baseline, NAMED_LAWS[law], Budget(**{currency: share * cost}))
            except BudgetError:
                continue
            along = scale_by_law(baseline, NAMED_LAWS[law], fit.phi)
            assert isinstance(fit.network, Network)
            used.append(fit.limits[0].used)
            macs.append(count_network(fit.network).macs / count_network(along).macs)
            pixels.append(fit.network.resolution / along.resolution)
    tenth = statistics.quantiles(used, n=10)[0]
    print(
        f"{title:44}{statistics.median(used):>8.1%}{tenth:>9.1%}{min(used):>8.1%}"
        f"{statistics.median(macs):>12.2f}{max(pixels):>10.2f}"
    )


if __name__ == "__main__":
    main()
