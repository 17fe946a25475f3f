"""Weights without a run, a run whose images have moved, a machine with one engine, and a stopped training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import triscale as ts
from triscale.deploy.engines import ENGINES
from triscale.jobs import fit as jobs_fit
from triscale.jobs.core.execution import execution
from triscale.jobs.core.run import RunFolder
from triscale.jobs.data.moved_images import reattach_images
from triscale.jobs.deploy import candidates
from weights_file import write_weights


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "mine.safetensors", tiny)


@pytest.fixture
def one_engine(monkeypatch):
    """A deployment tries ONNX Runtime alone, as where nothing else is installed."""
    monkeypatch.setattr(candidates, "ENGINES", {"onnxruntime": ENGINES["onnxruntime"]})


@pytest.fixture
def moved(trained_run, tmp_path):
    """A copy of a run whose images have been moved, and their new place."""
    before = shutil.copytree(trained_run.parent / "images", tmp_path / "before")
    run_folder = shutil.copytree(trained_run, tmp_path / "run")
    with execution(progress=False) as context:
        reattach_images(RunFolder(run_folder), str(before), context)
    after = tmp_path / "after"
    before.rename(after)
    return run_folder, after


@pytest.fixture
def stop_after(monkeypatch):
    """Stop a training after its first epoch, as Ctrl-C does."""
    report = jobs_fit._LiveReport.update

    def arm() -> None:
        def stop(self) -> None:
            monkeypatch.setattr(jobs_fit._LiveReport, "update", report)
            raise ts.Interrupted("stopped")

        monkeypatch.setattr(jobs_fit._LiveReport, "update", stop)

    return arm
