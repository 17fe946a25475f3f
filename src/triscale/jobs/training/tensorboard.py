"""Write the history of a run for TensorBoard (extra ``tensorboard``)."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

from triscale.errors import RecipeError
from triscale.results.history import Epoch


class TensorBoardWriter:
    """Writes each epoch once to event files; event files of an earlier process are deleted.

    Raises:
        RecipeError: The package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            events: Any = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise RecipeError(
                "--tensorboard requires the package tensorboard; install it with: pip install 'triscale[tensorboard]'"
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = events.SummaryWriter(str(folder))
        self._written = 0

    def write(self, history: tuple[Epoch, ...]) -> None:
        """Write the epochs that were not written before; the x-axis counts steps."""
        for epoch in history[self._written :]:
            for name, value in (
                ("loss/train", epoch.train_loss),
                ("loss/val", epoch.val_loss),
                ("accuracy/val_top1", epoch.val_top1),
                ("learning_rate", epoch.learning_rate),
                ("images_per_second", epoch.images_per_second),
            ):
                self._writer.add_scalar(name, value, epoch.step)
        self._written = len(history)
        self._writer.flush()
