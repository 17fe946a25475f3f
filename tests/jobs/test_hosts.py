"""Processes on several hosts are refused if they have different images or versions."""

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from conftest import write_classes
from training.processes import run_together
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.errors import JobError
from triscale.jobs.core import hosts
from triscale.jobs.core.hosts import check_same_images, check_same_versions
from triscale.measurement.device import machine
from triscale.results.machine import Machine
from triscale.training.distributed.group import join

pytestmark = pytest.mark.process
CPU = torch.device("cpu")


@pytest.fixture
def split(tmp_path):
    return make_split(scan(str(write_classes(tmp_path / "images", 12))))


def results_of(split, change) -> list[object]:
    """Return what the check gives in two processes, of which the second reads a changed copy of the folder."""
    copy = split.replace(root=f"{split.root}-copy")
    shutil.copytree(split.root, copy.root)
    change(copy)

    def work() -> object:
        with join(CPU) as group:
            check_same_images(split if group.is_writer else copy, group)
        return "same"

    return run_together(2, work)


def test_equal_copies_pass(split):
    assert results_of(split, lambda copy: None) == ["same", "same"]


@pytest.mark.parametrize("is_missing", [False, True])
def test_different_image_is_named_by_every_process(split, is_missing):
    path = split.train[3].path

    def change(copy) -> None:
        file = Path(copy.root, path)
        if is_missing:
            file.unlink()
        else:
            file.write_bytes(Path(copy.root, split.train[4].path).read_bytes())

    for error in results_of(split, change):
        assert isinstance(error, JobError)
        assert "process 1 of 2 has other images than process 0, for example" in str(error)
        assert path in str(error)


def compared_versions(monkeypatch, other: Machine) -> list[object]:
    """What two processes find, of which the second has the packages of another machine."""

    def work() -> object:
        with join(CPU) as group:
            if not group.is_writer:
                monkeypatch.setattr(hosts, "machine", lambda: other)
            check_same_versions("torch", group)
        return "same"

    return run_together(2, work)


def test_different_versions_are_named_by_every_process(monkeypatch):
    here = machine()
    other = here.replace(packages=tuple({**dict(here.packages), "pillow": "1.0"}.items()))
    for error in compared_versions(monkeypatch, other):
        assert isinstance(error, JobError)
        expected = f"different versions of pillow: {version('pillow')}, 1.0; install the same on all hosts"
        assert expected in str(error)


def test_packages_that_compute_nothing_may_differ(monkeypatch):
    other = machine().replace(packages=tuple((n, v) for n, v in machine().packages if n not in ("onnx", "jax")))
    assert compared_versions(monkeypatch, other) == ["same", "same"]
