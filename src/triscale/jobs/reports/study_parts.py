"""What the pages of all studies say alike: what was asked, on which machine, and how a command names the baseline."""

from __future__ import annotations

import re
from pathlib import Path

from triscale.families import get, names
from triscale.jobs.core.run import Run
from triscale.jobs.reports.run_report import machine_rows
from triscale.jobs.studies.requests import StudyRequest
from triscale.network.custom import AnyNetwork
from triscale.report.content import NamedValue
from triscale.report.draw.format import share

BASELINE = "baseline.json"


def name_of_images(asked: StudyRequest | None) -> str:
    """Return what the title of a page begins with."""
    return "" if asked is None else f"{Path(asked.images).name}: "


def spaced(sentence: str) -> str:
    """Return a sentence with its percentages as pages write them, with a space that does not break."""
    return re.sub(r"(?<=\d)%", "\N{NO-BREAK SPACE}%", sentence)


def request_rows(asked: StudyRequest | None) -> tuple[NamedValue, ...]:
    """Return what was asked of a study, apart from what its result holds."""
    if asked is None:
        return ()
    return (
        NamedValue(name="images", value=f"{asked.images}, {share(asked.share)} of the training images"),
        NamedValue(name="recipe", value=f"{asked.recipe.name}, digest {asked.recipe.digest[:16]}"),
        NamedValue(name="request digest", value=asked.digest[:16]),
    )


def trained_on(folder: Path) -> tuple[NamedValue, ...]:
    """Return the machine of the first training in a study's folder that left a Run."""
    runs = (Run(path.parent) for path in sorted((folder / "trials").glob("*/run.json")))
    return next((machine_rows(run.spec.machine) for run in runs), ())


def name_for_commands(baseline: AnyNetwork, folder: Path) -> str:
    """Return how a command names a baseline, which is written beside the study where no name stands for it."""
    family, _, side = baseline.name.partition("@")
    if family in names() and (side.isdigit() or not side) and get(baseline.name) == baseline:
        return baseline.name
    baseline.save(folder / BASELINE)
    return str(folder / BASELINE)


def existing(folder: Path, files: tuple[tuple[str, str], ...]) -> tuple[NamedValue, ...]:
    """Return those of a study's files that are there."""
    return tuple(NamedValue(name=name, value=what) for name, what in files if (folder / name).exists())
