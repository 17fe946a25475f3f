"""Latencies of one network, of several networks timed alternately, and of a run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from triscale.notebook import html_table
from triscale.record import Record
from triscale.results.image_size import ImageSized
from triscale.results.machine import Machine


class Measurement(ImageSized):
    """Latency of one call in milliseconds: quartiles over ``samples`` calls after ``warmup_calls`` warm-up calls.

    Attributes:
        engine: The inference engine.
        precision: Precision of the computation.
        batch: Batch size.
        threads: Number of threads.
        warmup_calls: Number of calls that were not measured.
        samples: Number of measured calls.
        lower_quartile_ms: Lower quartile.
        median_ms: Median.
        upper_quartile_ms: Upper quartile.
        low_ms: Lower end of the 95% interval of the median.
        high_ms: Upper end of the 95% interval of the median.
        cores: CPU cores that the process was pinned to.
        peak_bytes: Peak memory of the process minus its memory before the model was loaded.
        noise: Why the measurement is noisy; None if it is not.
        machine: The machine.
    """

    kind_name: ClassVar[str] = "measurement"

    engine: str
    precision: str = "float32"
    batch: int
    threads: int
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

    def __repr__(self) -> str:
        """Return the median with its interval and its conditions."""
        interval = "" if self.low_ms is None else f" (95% interval {self.low_ms:.3g} to {self.high_ms:.3g})"
        noisy = "" if self.noise is None else ", noisy"
        return (
            f"Measurement({self.engine}, {self.precision}, {self.median_ms:.3g} ms{interval}, batch {self.batch}, "
            f"{self.threads} threads{noisy})"
        )

    def _repr_html_(self) -> str:
        """Return the figures as a table, for notebooks."""
        rows = [
            (self.engine, self.precision, f"{self.median_ms:.3g} ms",
             "" if self.low_ms is None else f"{self.low_ms:.3g} to {self.high_ms:.3g} ms",
             f"{self.lower_quartile_ms:.3g} to {self.upper_quartile_ms:.3g} ms", self.samples)
        ]  # fmt: skip
        caption = f"batch {self.batch}, {self.threads} threads, {self.size} px, {self.machine.processor}"
        noisy = "" if self.noise is None else f"; noisy: {self.noise}"
        columns = ("engine", "precision", "median", "95% interval", "quartiles", "calls")
        return html_table(columns, rows, caption + noisy)


class TimedNetwork(ImageSized):
    """The latency of a candidate, in milliseconds and relative to the first candidate.

    ``median_ms`` is the median over rounds of the median latency in a round. ``ratio`` is the median over rounds of the
    ratio to the first candidate's latency in the same round; ``low`` and ``high`` are its 95% bootstrap interval.
    """

    name: str
    engine: str
    precision: str = "float32"
    median_ms: float
    ratio: float
    low: float
    high: float
    calls: int


class PairedTiming(Record):
    """Candidates that were timed alternately; the first is the reference."""

    kind_name: ClassVar[str] = "paired_timing"
    schema_number: ClassVar[int] = 2

    networks: tuple[TimedNetwork, ...] = Field(min_length=1)
    rounds: int
    batch: int
    threads: int
    cores: tuple[int, ...] = ()
    machine: Machine


class RunLatencies(Record):
    """The latencies of a run, measured with the same protocol."""

    kind_name: ClassVar[str] = "latencies"

    measurements: tuple[Measurement, ...]
