"""Several runs compared: cost, accuracy, latency, and the settings in which they differ."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record
from triscale.results.latency import Measurement


class TestSet(Record):
    """The images that some of the Runs were judged by: what it is called, where they are, how many."""

    __test__: ClassVar[bool] = False  # pytest takes it for tests

    name: str
    root: str
    count: int


class AccuracyGap(Record):
    """How far a Run's accuracy is behind that of the best of its test set, with a 95 % interval over the images."""

    share: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether the images tell the two networks apart."""
        return self.low > 0


class ComparedRun(Record):
    """A Run: what it is called, its network and cost, its accuracy (a share) with the 95 % interval, its latency.

    ``test_set`` is the number of the images that judged it; ``behind`` is absent for the best of these.
    """

    name: str
    folder: str
    network: str
    resolution: int
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
    """A setting in which the Runs differ, with the value that each of them has."""

    setting: str
    values: tuple[str, ...]


class ComparedRuns(Record):
    """Runs side by side; ``notes`` says what of them is not to be compared, and why."""

    kind_name: ClassVar[str] = "compared_runs"

    test_sets: tuple[TestSet, ...]
    runs: tuple[ComparedRun, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
