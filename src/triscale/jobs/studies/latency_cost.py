"""Measured latency as the cost of a search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from triscale.errors import Interrupted
from triscale.measurement.latency import measure_latency, torch_threads
from triscale.network.cost import Counts
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.record import Record
from triscale.scaling.apply import scale
from triscale.search.coefficients.grid import Grid
from triscale.search.coefficients.surface import quadratic_terms
from triscale.search.shape import Array, logs, realized, spread
from triscale.training.context import ExecutionContext

FIT_NETWORKS = 24
"""Number of networks of the grid that the predictor is fitted to; a quadratic in 3 variables has 10 coefficients."""
PREDICTION_MARGIN = 0.25
"""A network whose predicted latency misses the target by more than the tolerance plus this share is not measured."""
WARMUP_SECONDS, SAMPLE_SECONDS = 0.1, 0.3


class LatencyTable(Record):
    """Measured latencies in milliseconds by network structure; saved so that a resumed search uses the same costs."""

    kind_name: ClassVar[str] = "latency_table"

    threads: int
    milliseconds: dict[str, float] = Field(default_factory=dict)


class ReferenceTimer:
    """Measures latency relative to a reference network.

    Measurements use batch size 1, ``threads`` threads and torch in eager mode. Before each network, the reference is
    measured again, and the ratio of both is used, so that a change of the machine's speed affects all networks equally.
    """

    def __init__(self, network: AnyNetwork, threads: int, milliseconds: float | None = None) -> None:
        self._network, self._threads = network, threads
        self._call = self._callable(network)
        self.milliseconds = self._measure(self._call, network) if milliseconds is None else milliseconds

    def time(self, network: AnyNetwork) -> float:
        """Return the median latency of a network in milliseconds."""
        reference = self._measure(self._call, self._network)
        return self._measure(self._callable(network), network) / reference * self.milliseconds

    def _measure(self, call: Callable[[], object], network: AnyNetwork) -> float:
        with torch_threads(self._threads), torch.inference_mode():
            return measure_latency(
                call,
                engine="torch",
                batch=1,
                threads=self._threads,
                input_shape=network.input_shape,
                warmup_seconds=WARMUP_SECONDS,
                sample_seconds=SAMPLE_SECONDS,
            ).median_ms

    @staticmethod
    def _callable(network: AnyNetwork) -> Callable[[], object]:
        model = build(network).eval().to(memory_format=torch.channels_last)
        images = torch.zeros(1, *network.input_shape)
        return lambda: model(images)


class LatencyMeter:
    """Measures the latency of each network once; latencies are saved to a file, from which a search resumes.

    Args:
        skeleton: The reference network.
        file: File of the latencies; None to save nothing.
        context: Threads to measure with, and the stop flag, polled before each measurement.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """

    def __init__(self, skeleton: Network, file: Path | None, context: ExecutionContext) -> None:
        self._file, self._should_stop = file, context.should_stop
        exists = file is not None and file.is_file()
        table = LatencyTable.load(file) if file and exists else LatencyTable(threads=context.threads)
        self._known = dict(table.milliseconds)
        self._threads = table.threads
        self._reference = ReferenceTimer(skeleton, table.threads, self._known.get(skeleton.structure))
        self._save(skeleton, self._reference.milliseconds)

    def __call__(self, network: Network) -> float:
        """Return the median latency of a network in milliseconds."""
        if network.structure not in self._known:
            if self._should_stop():
                raise Interrupted("the search was stopped; the same command resumes it")
            self._save(network, self._reference.time(network))
        return self._known[network.structure]

    def _save(self, network: Network, milliseconds: float) -> None:
        self._known[network.structure] = milliseconds
        if self._file is not None:
            LatencyTable(threads=self._threads, milliseconds=self._known).save(self._file)


class LatencyPricer:
    """Returns latencies for a coefficient search: measured near the target, predicted elsewhere.

    The predictor is a quadratic in the logarithms of depth, width and resolution, fitted to ``FIT_NETWORKS`` measured
    networks. Measurements are relative to the baseline, see :class:`ReferenceTimer`.
    """

    def __init__(
        self,
        baseline: AnyNetwork,
        grid: Grid,
        context: ExecutionContext,
    ) -> None:
        self._baseline, self._grid = baseline, grid
        self._progress, self._should_stop = context.progress, context.should_stop
        self._reference = ReferenceTimer(baseline, context.threads)
        self._known = {baseline.structure: self._reference.milliseconds}
        self._coefficients = self._fit()

    def __call__(self, network: AnyNetwork, counts: Counts) -> float:
        """Return the latency of a network in milliseconds: the measured median if it is near the target."""
        del counts
        if network.structure in self._known:
            return self._known[network.structure]
        predicted = float(np.exp(quadratic_terms(self._log_scale(network)[None]) @ self._coefficients)[0])
        target = self._grid.ratio * self._reference.milliseconds
        if abs(predicted / target - 1) > self._grid.tolerance + PREDICTION_MARGIN:
            return predicted
        return self._time(network)

    def _fit(self) -> Array:
        networks = list({law: scale(self._baseline, law.at(self._grid.phi)) for law in self._grid.laws()}.values())
        distinct = list({network.structure: network for network in networks}.values())
        points = np.array([self._log_scale(network) for network in distinct])
        chosen = spread(points, FIT_NETWORKS, int(np.argmin(np.linalg.norm(points, axis=1))))
        times = np.array([self._time(distinct[index]) for index in chosen])
        coefficients: Array = np.linalg.lstsq(quadratic_terms(points[chosen]), np.log(times), rcond=None)[0]
        return coefficients

    def _time(self, network: AnyNetwork) -> float:
        if self._should_stop():
            raise Interrupted("stopped while measuring candidates; run the same command again to measure them again")
        if network.structure not in self._known:
            self._known[network.structure] = self._reference.time(network)
            self._progress.advance(len(self._known), f"{len(self._known)} networks measured")
        return self._known[network.structure]

    def _log_scale(self, network: AnyNetwork) -> Array:
        return logs(realized(self._baseline, network))
