"""Predict the throughput of accelerators from the operations of a network, on measurements that others published.

The data are those of Accel-NASBench (https://github.com/afzalxo/Accel-NASBench, Apache-2.0): networks of
EfficientNet-B0's skeleton with other expansions, kernels, repeats and squeeze-and-excitation, and their throughput on
four accelerators, as a table ``accel_nasbench.csv.gz``. The predictor is that of device profiles: nonnegative
coefficients for the figures of :mod:`triscale.network.latency`. It is fitted to 4,000 networks, and compared on the
others with a linear fit to MACs, activations and depth. ``--write`` saves the predictors as the built-in profiles.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import kendalltau

from triscale import get
from triscale.network.cost import count_network
from triscale.network.latency import NAMES, PROFILES_FOLDER, PUBLISHED_THROUGHPUT, Predictor, figures_of
from triscale.network.spec import Network

COMMAND = "python benchmarks/accelerator_throughput.py DATA > benchmarks/results/accelerator_throughput.txt"
TRAINED = 4000
DEVICES = {
    "a100": ("throughput_a100", "NVIDIA A100"),
    "rtx3090": ("throughput_3090", "NVIDIA RTX 3090"),
    "tpuv2": ("throughput_tpuv2", "Google TPUv2"),
    "tpuv3": ("throughput_tpuv3", "Google TPUv3"),
}
Array = NDArray[np.float64]


def main() -> None:
    """Print the errors, and write the profiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="accel_nasbench.csv.gz")
    parser.add_argument("--write", action="store_true", help="write the built-in profiles")
    arguments = parser.parse_args()
    with gzip.open(arguments.data, "rt") as file:
        rows = list(csv.DictReader(file))
    networks = [network_of(row) for row in rows]
    figures = np.zeros((len(networks), len(NAMES)))
    simple = np.ones((len(networks), 4))
    for number, network in enumerate(networks):
        found, counts = figures_of(network), count_network(network)
        figures[number] = [found.get(name, 0.0) for name in NAMES]
        simple[number, :3] = counts.macs, counts.activations, network.num_blocks
    print(f"# {COMMAND}\n\n{len(rows)} networks, {TRAINED} to fit, the others held out; error of the throughput")
    print(f"{'':24}{'images/s':>16}{'held out':>10}{'tau':>8}{'median':>9}{'9 of 10':>9}   MACs, activations, depth")
    order = np.random.default_rng(0).permutation(len(rows))
    for name, (column, processor) in DEVICES.items():
        speed = np.array([float(row[column]) for row in rows])
        known = order[np.isfinite(speed[order])]
        fitted, held = known[:TRAINED], known[TRAINED:]
        seconds = 1 / speed
        coefficients = fit(figures[fitted], seconds[fitted])
        tau, errors = judge(figures[held] @ coefficients, seconds[held])
        other_tau, other = judge(simple[held] @ fit(simple[fitted], seconds[fitted]), seconds[held])
        median, most = float(np.median(errors)), float(np.quantile(errors, 0.9))
        print(
            f"{processor:24}{f'{speed[known].min():.0f}-{speed[known].max():.0f}':>16}{len(held):>10}{tau:>8.3f}"
            f"{median:>9.1%}{most:>9.1%}   tau {other_tau:.3f}, median {np.median(other):.1%}"
        )
        if arguments.write:
            named = zip(NAMES, coefficients, strict=True)
            milliseconds = {key: float(f"{1e3 * value:.6g}") for key, value in named if value}
            Predictor(
                engine=PUBLISHED_THROUGHPUT,
                threads=1,
                processor=f"{processor} (Accel-NASBench, EfficientNet-B0-like networks at 224 px)",
                milliseconds=milliseconds,
                error=round(median, 4),
                error_90=round(most, 4),
                held_out=len(held),
            ).save(PROFILES_FOLDER / f"{name}.json")


def network_of(row: dict[str, str]) -> Network:
    """Return the network of a row: EfficientNet-B0 with other blocks."""
    base = get("efficientnet_b0")
    stages = []
    for number, stage in enumerate(base.stages):
        expansion, kernel, repeats, has_se = (int(row[f"block{number}_{key}"]) for key in ("e", "k", "l", "se"))
        block = stage.block.replace(expansion=expansion, kernel=kernel, se_ratio=0.25 * has_se)
        stages.append(stage.replace(block=block, repeats=repeats))
    return base.replace(stages=tuple(stages))


def fit(figures: Array, seconds: Array) -> Array:
    """Return nonnegative coefficients with the least squared relative error."""
    scale = figures.max(axis=0)
    used = scale > 0
    coefficients = np.zeros(figures.shape[1])
    relative = figures[:, used] / scale[used] / seconds[:, None]
    coefficients[used] = nnls(relative, np.ones(len(seconds)), maxiter=5000)[0] / scale[used]
    return coefficients


def judge(predicted: Array, seconds: Array) -> tuple[float, Array]:
    """Return Kendall's tau, and the relative errors of the predicted throughput."""
    return float(kendalltau(predicted, seconds).statistic), np.abs(seconds / predicted - 1)


if __name__ == "__main__":
    main()
