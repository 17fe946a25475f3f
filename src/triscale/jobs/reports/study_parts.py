"""Shared by the reports of all studies: request, machine, files, and the name of the baseline in commands."""

from __future__ import annotations

from pathlib import Path

from triscale.families import get, names
from triscale.jobs.core.run import RunFolder
from triscale.jobs.reports.run_report import machine_rows
from triscale.jobs.reports.shown_paths import shown_path
from triscale.jobs.studies.requests import StudyRequest
from triscale.network.custom import AnyNetwork
from triscale.report.content import NamedValue
from triscale.report.draw.format import share
from triscale.report.render import FIGURES_FOLDER

BASELINE = "baseline.json"


def name_of_images(request: StudyRequest | None) -> str:
    """Return the prefix of a report's title: the name of the data set, if it is known."""
    return "" if request is None or not request.images else f"{Path(request.images).name}: "


def request_rows(request: StudyRequest | None) -> tuple[NamedValue, ...]:
    """Return the settings of a study's request that its result does not contain."""
    if request is None:
        return ()
    images = f"{shown_path(request.images)}, {share(request.share)} of the training images"
    trained = (
        NamedValue(name="images", value=images),
        NamedValue(name="recipe", value=f"{request.recipe.name}, digest {request.recipe.digest[:16]}"),
    )
    return (*(trained if request.images else ()), NamedValue(name="request digest", value=request.digest[:16]))


def trained_on(folder: Path) -> tuple[NamedValue, ...]:
    """Return the machine of the first trial of a study that has a run in its folder."""
    runs = (RunFolder(path.parent) for path in sorted((folder / "trials").glob("*/run.json")))
    return next((machine_rows(run.spec.machine) for run in runs), ())


def name_for_commands(baseline: AnyNetwork, folder: Path) -> str:
    """Return the name of a baseline in commands: a published name, or a file written into the folder of the study."""
    family, _, side = baseline.name.partition("@")
    if family in names() and (side.isdigit() or not side) and get(baseline.name) == baseline:
        return baseline.name
    baseline.save(folder / BASELINE)
    return str(folder / BASELINE)


def existing(folder: Path, files: tuple[tuple[str, str], ...]) -> tuple[NamedValue, ...]:
    """Return those of a study's files that exist, and the figures, which are written with the report."""
    found = tuple(NamedValue(name=name, value=what) for name, what in files if (folder / name).exists())
    return (*found, NamedValue(name=FIGURES_FOLDER, value="each figure as SVG and PDF, and its data as CSV"))
