"""Export a run or weights as example projects, each with its own copy of the model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from triscale.deploy.apps import App, check_photos
from triscale.deploy.apps.write_app import check_replaceable, write_app
from triscale.deploy.engines import file_name, get_engine
from triscale.deploy.quantize.guard import BOUND
from triscale.errors import UserError
from triscale.jobs.deploy.export import Precision, contract_of, default_file
from triscale.jobs.deploy.quantize import CALIBRATION
from triscale.jobs.run_source import RunSource
from triscale.jobs.source_jobs import APPS_FOLDER, export_source
from triscale.results.exported_app import ExportedApp
from triscale.training.context import ExecutionContext


def export_apps(
    source: RunSource,
    context: ExecutionContext,
    apps: Sequence[App],
    precision: Precision = "float32",
    out: Path | None = None,
    *,
    bound: float = BOUND,
    calibration: int = CALIBRATION,
) -> list[tuple[ExportedApp, Path]]:
    """Export example projects, and the model for each of their engines.

    Args:
        source: A run, into which the exported models are written too, or weights.
        context: Progress and stop flag.
        apps: The kinds of projects.
        precision: The precision of the models.
        out: Folder of the projects; each is in a folder of its name. By default ``apps`` in the run, and for weights
            ``NAME-apps`` in the current folder.
        bound: Maximum loss of accuracy of files below float32 in percentage points.
        calibration: Number of images to calibrate int8 with.

    Returns:
        The record of each project, and its folder.

    Raises:
        ExportError: The model does not classify photos, or cannot be converted for an engine.
        RunError: A folder holds other files.
        UserError: An engine has no files of the precision, or is not installed.
    """
    contract = contract_of(source.run)
    check_photos(contract)
    folder = out or (source.run.folder / APPS_FOLDER if source.weights is None else Path(f"{source.weights}-apps"))
    for app in apps:
        check_replaceable(folder / app.name)
        engine = get_engine(app.engine)
        engine.check_makes(precision)
        if not engine.installed:
            raise UserError(
                f"--app {app.name} needs {engine.title}, which is not installed; install it with: {engine.install}"
            )
    with tempfile.TemporaryDirectory(prefix="triscale-") as temporary:
        files: dict[str, Path] = {}
        for app in apps:
            engine = get_engine(app.engine)
            if app.engine not in files:
                path = Path(temporary) / file_name(engine, precision) if source.weights is not None else None
                export_source(source, context, engine, precision, path, bound=bound, calibration=calibration)
                files[app.engine] = path or default_file(source.run, engine, precision)
        # Projects in a run belong to its manifest.
        inside = source.weights is None and folder.resolve().is_relative_to(source.run.folder.resolve())
        with source.run.update() if inside else nullcontext():
            return [
                (write_app(app, contract, files[app.engine], precision, folder / app.name), folder / app.name)
                for app in apps
            ]
