"""Latencies: of one network, of several timed in turns, and of a run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from triscale.record import Record
from triscale.results.machine import Machine


class Measurement(Record):
    """Time of one call in milliseconds: quartiles over ``samples`` calls after ``warmup_calls`` discarded ones.

    ``engine`` and ``precision`` say what ran, on ``threads`` threads, with ``batch`` images of ``resolution`` pixels.
    ``low_ms`` and ``high_ms`` are a 95% interval of the median; ``cores`` are those that the process was pinned to;
    ``peak_bytes`` the most memory that the process took beyond what it had before the model was loaded. ``noise`` is
    the reason why the measurement is noisy, as text; None if it is not.
    """

    kind_name: ClassVar[str] = "measurement"

    engine: str
    precision: str = "float32"
    batch: int
    threads: int
    resolution: int
    warmup_calls: int
    samples: int
    lower_quartile_ms: float
    median_ms: float
    upper_quartile_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    cores: tuple[int, ...] = ()
    peak_bytes: int | None = None
    noise: str | None = None
    machine: Machine


class TimedNetwork(Record):
    """One candidate: its time in milliseconds, and how many times as long as the first it takes.

    ``median_ms`` is the median over rounds of the median call in each. ``ratio`` is the median over rounds of the
    quotient with the first candidate's time in the same round, ``low`` and ``high`` a 95% bootstrap interval of it.
    """

    name: str
    engine: str
    precision: str = "float32"
    resolution: int
    median_ms: float
    ratio: float
    low: float
    high: float
    calls: int


class PairedTiming(Record):
    """Candidates that were timed in turns; the first is the reference."""

    kind_name: ClassVar[str] = "versus"
    schema_number: ClassVar[int] = 2

    networks: tuple[TimedNetwork, ...] = Field(min_length=1)
    rounds: int
    batch: int
    threads: int
    cores: tuple[int, ...] = ()
    machine: Machine


class RunLatencies(Record):
    """The latencies of a run, measured by the same protocol."""

    kind_name: ClassVar[str] = "latencies"

    measurements: tuple[Measurement, ...]
