"""What a network costs in milliseconds on this machine, for searches whose cost that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from triscale.errors import Interrupted
from triscale.measure.latency import measure_latency, torch_threads
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

FIRST = 24
"""Networks spread over the grid that are measured first; a quadratic in octaves has ten coefficients."""
NEAR = 0.25
"""Networks that are predicted to miss the target by more than this beyond the tolerance are not measured."""
WARMUP_SECONDS, SAMPLE_SECONDS = 0.1, 0.3


class LatencyTable(Record):
    """Median milliseconds by a network's structure, so that a search that continues has the same costs as before."""

    kind_name: ClassVar[str] = "times"

    threads: int
    milliseconds: dict[str, float] = Field(default_factory=dict)


class ReferenceTimer:
    """Times networks beside one of them.

    One image at a time, one thread by default, torch in eager mode. Each measurement is taken beside one of the
    reference, and their ratio counts, so that a machine that grows slower meanwhile favors nobody.
    """

    def __init__(self, network: AnyNetwork, threads: int, milliseconds: float | None = None) -> None:
        self._network, self._threads = network, threads
        self._call = self._callable(network)
        self.milliseconds = self._measure(self._call, network) if milliseconds is None else milliseconds

    def time(self, network: AnyNetwork) -> float:
        """Return the median latency of a network in milliseconds."""
        beside = self._measure(self._call, self._network)
        return self._measure(self._callable(network), network) / beside * self.milliseconds

    def _measure(self, call: Callable[[], object], network: AnyNetwork) -> float:
        with torch_threads(self._threads), torch.inference_mode():
            return measure_latency(
                call,
                engine="torch",
                batch=1,
                threads=self._threads,
                resolution=network.resolution,
                warmup_seconds=WARMUP_SECONDS,
                sample_seconds=SAMPLE_SECONDS,
            ).median_ms

    @staticmethod
    def _callable(network: AnyNetwork) -> Callable[[], object]:
        model = build(network).eval().to(memory_format=torch.channels_last)
        images = torch.zeros(1, 3, network.resolution, network.resolution)
        return lambda: model(images)


class LatencyMeter:
    """Prices networks by measuring each once; what was measured is kept in a file, for a search that continues.

    Args:
        skeleton: beside which the others are measured.
        file: of the times; None keeps nothing.
        context: Threads to measure with, and the stop flag, polled before each measurement.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """

    def __init__(self, skeleton: Network, file: Path | None, context: ExecutionContext) -> None:
        self._file, self._should_stop = file, context.should_stop
        is_known = file is not None and file.is_file()
        known = LatencyTable.load(file) if file and is_known else LatencyTable(threads=context.threads)
        self._known = dict(known.milliseconds)
        self._threads = known.threads
        self._reference = ReferenceTimer(skeleton, known.threads, self._known.get(skeleton.structure))
        self._keep(skeleton, self._reference.milliseconds)

    def __call__(self, network: Network) -> float:
        """Return the median latency of a network in milliseconds."""
        if network.structure not in self._known:
            if self._should_stop():
                raise Interrupted("the search was stopped; the same command resumes it")
            self._keep(network, self._reference.time(network))
        return self._known[network.structure]

    def _keep(self, network: Network, milliseconds: float) -> None:
        self._known[network.structure] = milliseconds
        if self._file is not None:
            LatencyTable(threads=self._threads, milliseconds=self._known).save(self._file)


class LatencyPricer:
    """Prices networks: those that may be candidates are measured, the others predicted from some that were.

    Each is measured beside the baseline, see :class:`ReferenceTimer`.
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
        self._predict = self._fit()

    def __call__(self, network: AnyNetwork, tally: Counts) -> float:
        """Return the median latency of a network in milliseconds, measured where it matters."""
        del tally
        if network.structure in self._known:
            return self._known[network.structure]
        predicted = float(np.exp(quadratic_terms(self._place(network)[None]) @ self._predict)[0])
        wanted = self._grid.ratio * self._reference.milliseconds
        if abs(predicted / wanted - 1) > self._grid.tolerance + NEAR:
            return predicted
        return self._time(network)

    def _fit(self) -> Array:
        networks = list({law: scale(self._baseline, law.at(self._grid.phi)) for law in self._grid.laws()}.values())
        distinct = list({network.structure: network for network in networks}.values())
        points = np.array([self._place(network) for network in distinct])
        chosen = spread(points, FIRST, int(np.argmin(np.linalg.norm(points, axis=1))))
        times = np.array([self._time(distinct[index]) for index in chosen])
        found: Array = np.linalg.lstsq(quadratic_terms(points[chosen]), np.log(times), rcond=None)[0]
        return found

    def _time(self, network: AnyNetwork) -> float:
        if self._should_stop():
            raise Interrupted("stopped while candidates were measured; the same command measures them again")
        if network.structure not in self._known:
            self._known[network.structure] = self._reference.time(network)
            self._progress.advance(len(self._known), f"{len(self._known)} networks measured")
        return self._known[network.structure]

    def _place(self, network: AnyNetwork) -> Array:
        return logs(realized(self._baseline, network))
