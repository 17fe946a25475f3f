"""Comparison of several runs: cost, accuracy, latency, and the settings in which they differ."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record
from triscale.results.accuracy_gap import AccuracyGap
from triscale.results.image_size import ImageSized
from triscale.results.latency import Measurement


class TestSet(Record):
    """A set of test images: its name, the folder or URL of the images, and their number."""

    __test__: ClassVar[bool] = False  # Otherwise pytest would collect this class.

    name: str
    root: str
    count: int


class ComparedRun(ImageSized):
    """A run with its network, cost, accuracy (a share with its 95% interval) and latency.

    ``test_set`` is the index of its test set; ``behind`` is None for the best run on that test set.
    """

    name: str
    folder: str
    network: str
    params: int
    macs: int
    test_set: int
    top1: float
    top1_low: float
    top1_high: float
    behind: AccuracyGap | None = None
    budget: str | None = None
    latency: Measurement | None = None


class Difference(Record):
    """A setting in which the runs differ, with the value of each run."""

    setting: str
    values: tuple[str, ...]


class ComparedRuns(Record):
    """Compared runs; ``notes`` warns about results that are not comparable."""

    kind_name: ClassVar[str] = "compared_runs"

    test_sets: tuple[TestSet, ...]
    runs: tuple[ComparedRun, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
