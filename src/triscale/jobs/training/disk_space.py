"""Disk space that a run needs, and a check that it is available."""

from __future__ import annotations

import shutil
from pathlib import Path

from triscale.errors import RunError
from triscale.network.cost import Cost, si
from triscale.training.recipe import AdamW, Recipe, RmsProp, Sgd

_STATES = 3
"""While a checkpoint is written, the two previous ones are still on disk."""

_REST_BYTES = 32 << 20
"""Space for the report, class activation maps, predictions and records."""


def optimizer_values(recipe: Recipe) -> int:
    """Return the number of state values that an optimizer keeps per parameter."""
    match recipe.optimizer:
        case AdamW() | RmsProp():
            return 2
        case Sgd(momentum=momentum):
            return 1 if momentum else 0


def needed_bytes(cost: Cost, recipe: Recipe) -> int:
    """Return the peak disk usage of a run in bytes: checkpoints, best weights, final weights and export."""
    weights = cost.size_bytes
    state = (2 + optimizer_values(recipe)) * weights
    return _STATES * state + 4 * weights + _REST_BYTES


def check_disk_space(folder: Path, cost: Cost, recipe: Recipe) -> None:
    """Check, before a run starts, that the disk has enough free space for it.

    Raises:
        RunError: There is not enough free space.
    """
    needed = needed_bytes(cost, recipe)
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunError(
            f"the disk of {folder} has {si(free)}B free, but this run needs up to {si(needed)}B for checkpoints and "
            "other files; free some space, or choose another folder with --out"
        )
