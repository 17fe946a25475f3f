"""What a run needs on the disk, and whether it is there."""

from __future__ import annotations

import shutil
from pathlib import Path

from triscale.errors import RunError
from triscale.network.cost import Cost, si
from triscale.training.recipe import AdamW, Recipe, RmsProp, Sgd

_STATES = 3
"""Two checkpoints are kept while a third is written."""

_REST_BYTES = 32 << 20
"""Report, maps, predictions and records."""


def optimizer_values(recipe: Recipe) -> int:
    """Return how many values an optimizer keeps for each parameter."""
    match recipe.optimizer:
        case AdamW() | RmsProp():
            return 2
        case Sgd(momentum=momentum):
            return 1 if momentum else 0


def needed_bytes(figures: Cost, recipe: Recipe) -> int:
    """Return the most bytes that a run has on the disk at a time: checkpoints, best weights, weights, export."""
    weights = figures.size_bytes
    state = (2 + optimizer_values(recipe)) * weights
    return _STATES * state + 4 * weights + _REST_BYTES


def check_disk_space(folder: Path, figures: Cost, recipe: Recipe) -> None:
    """Make sure that the disk has room for a run before it begins.

    Raises:
        RunError: it has not.
    """
    needed = needed_bytes(figures, recipe)
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise RunError(
            f"{folder} has {si(free)}B free and this run needs up to {si(needed)}B for its checkpoints and files; make "
            "room, or give another folder with --out"
        )
