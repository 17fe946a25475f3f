"""A cross-validation as an object."""

from __future__ import annotations

from pathlib import Path

from triscale.api.run import Run
from triscale.errors import RunError
from triscale.jobs.cross_validation import RECORD
from triscale.results.folds import FoldsSummary


class CrossValidation:
    """A directory with one run for each fold, and what they show together.

    :func:`triscale.fit` and :func:`triscale.train` return one if they are given ``folds``; :meth:`open` opens an
    existing one.

    Attributes:
        path: The directory.
        summary: The accuracy of each fold, their mean, standard deviation and intervals.

    Example:
        >>> CrossValidation.open("runs")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        triscale.errors.RunError: runs holds no finished cross-validation (no folds.json); give the --out ...
    """

    def __init__(self, path: Path, summary: FoldsSummary) -> None:
        self.path, self.summary = path, summary

    @classmethod
    def open(cls, path: str | Path) -> CrossValidation:
        """Open a finished cross-validation.

        Args:
            path: Its directory.

        Raises:
            RunError: The directory holds none, or it has not finished.
        """
        folder = Path(path)
        if not (folder / RECORD).is_file():
            raise RunError(
                f"{folder} holds no finished cross-validation (no {RECORD}); give the --out of one, or run the command "
                "again to finish it"
            )
        return cls(folder, FoldsSummary.load(folder / RECORD))

    @property
    def runs(self) -> tuple[Run, ...]:
        """The run of each fold."""
        return tuple(Run.open(self.path / fold.folder) for fold in self.summary.folds)

    def __repr__(self) -> str:
        found = self.summary
        return (
            f"CrossValidation({str(self.path)!r}: {found.num_folds} folds, mean accuracy {found.mean:.1%}, standard "
            f"deviation {found.deviation:.1%})"
        )
