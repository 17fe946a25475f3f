"""What a network costs in milliseconds on this machine, for a search that is asked to match candidates on that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from triscale.errors import Interrupted
from triscale.jobs.watch import Watcher
from triscale.measure.latency import measure_latency, torch_threads
from triscale.network.cost import Tally
from triscale.network.custom import AnyNetwork
from triscale.nn.build import build
from triscale.scaling.apply import scale
from triscale.search.grid import Grid
from triscale.search.shape import Array, logs, realized, spread
from triscale.search.surface import quadratic_terms

FIRST = 24
"""Networks spread over the grid that are measured first; a quadratic in octaves has ten coefficients."""
NEAR = 0.25
"""Networks that are foretold to miss the target by more than this beyond the tolerance are not measured."""
WARMUP_SECONDS, SAMPLE_SECONDS = 0.1, 0.3


class Stopwatch:
    """Prices networks: those that may be candidates are measured, the others foretold from some that were.

    One image at a time, one thread by default, torch in eager mode. Each measurement is taken beside one of the
    baseline, and their ratio counts, so that a machine that grows slower meanwhile favors nobody.
    """

    def __init__(
        self,
        baseline: AnyNetwork,
        grid: Grid,
        *,
        threads: int,
        watcher: Watcher,
        should_stop: Callable[[], bool],
    ) -> None:
        self._baseline, self._grid, self._threads = baseline, grid, threads
        self._watcher, self._should_stop = watcher, should_stop
        self._call = self._callable(baseline)
        self._known: dict[str, float] = {}
        self._base = self._measure(self._call, baseline)
        self._known[baseline.structure] = self._base
        self._foretell = self._fit()

    def __call__(self, network: AnyNetwork, tally: Tally) -> float:
        """Return the median latency of a network in milliseconds, measured where it matters."""
        del tally
        if network.structure in self._known:
            return self._known[network.structure]
        foretold = float(np.exp(quadratic_terms(self._place(network)[None]) @ self._foretell)[0])
        wanted = self._grid.ratio * self._base
        if abs(foretold / wanted - 1) > self._grid.tolerance + NEAR:
            return foretold
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
            beside = self._measure(self._call, self._baseline)
            ratio = self._measure(self._callable(network), network) / beside
            self._known[network.structure] = ratio * self._base
            self._watcher.advance(len(self._known), f"{len(self._known)} networks measured")
        return self._known[network.structure]

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

    def _callable(self, network: AnyNetwork) -> Callable[[], object]:
        model = build(network).eval().to(memory_format=torch.channels_last)
        images = torch.zeros(1, 3, network.resolution, network.resolution)
        return lambda: model(images)

    def _place(self, network: AnyNetwork) -> Array:
        return logs(realized(self._baseline, network))
