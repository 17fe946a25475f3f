"""Fit a custom model to a latency: measure a few sizes on this machine, and interpolate between them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from triscale.deploy.contract import Contract
from triscale.deploy.engines import DEFAULT_ENGINE
from triscale.deploy.exportable import Exportable
from triscale.errors import BudgetError, NetworkError
from triscale.measurement.latency import measure_latency, pinned_to_cores, torch_threads
from triscale.measurement.processor import processor
from triscale.network.contract import Preprocessing
from triscale.network.cost import Counts
from triscale.network.custom import CustomNetwork
from triscale.nn.build import build
from triscale.nn.trace import trace_counts
from triscale.scaling.apply import scale_by_law
from triscale.scaling.budget import MICROSECONDS, Budget, BudgetedCounts
from triscale.scaling.fit import Fit, make_fit, too_small_message
from triscale.scaling.fit_traced import MAX_TRACED_PHI, fit_budget_traced
from triscale.scaling.piecewise import AnyLaw
from triscale.training.context import DEFAULT_CONTEXT, ExecutionContext

MAX_OUTWARD = 6
"""Sizes measured at most until one is on the other side of the limit."""
MAX_PROPOSED = 6
"""Sizes measured at most that a prediction proposed."""
CLOSE = 0.95
"""Share of the limit from which a measured size is good enough."""
WITHIN = 0.02
"""Relative half-width of the 95% interval of the median at which a measurement stops."""
LOWERED = 0.98
"""Factor on the target of the prediction after a proposed size was too slow."""

Milliseconds = Callable[[CustomNetwork], float]


def fit_latency_traced(
    network: CustomNetwork,
    law: AnyLaw,
    budget: Budget,
    context: ExecutionContext = DEFAULT_CONTEXT,
    *,
    exports: bool = True,
    measure: Milliseconds | None = None,
) -> Fit:
    """Fit a custom model to a budget that limits its latency on this machine, with one image and one thread.

    A few sizes are measured, from the model's own to one on the other side of the limit. A linear model of time, with
    nonnegative coefficients for a call, a multiply-accumulate and an activation, predicts the sizes between them. What
    it proposes is measured too, and improves the next prediction. The result was measured and is within the limit.

    Args:
        network: The custom model.
        law: The scaling law.
        budget: The limits, latency among them.
        context: Progress.
        exports: Whether the model can be exported; the latency is then measured in ONNX Runtime, otherwise in torch.
        measure: Returns the latency of a size in milliseconds, instead of a measurement.

    Raises:
        NetworkError: The model cannot be built or run at its own size.
        BudgetError: The smallest size is too slow or exceeds another limit, or the law never reaches the budget.
    """
    context.progress.begin(f"measure sizes of {network.name}")
    sizes = _Sizes(measure or (_milliseconds_of_file if exports else _milliseconds_in_torch))
    measured = sizes.outwards(network, law, budget)
    fits = [fit for fit in measured if all(limit.used <= 1 for limit in fit.limits)]
    target = budget
    for _ in range(MAX_PROPOSED):
        try:
            proposed = fit_budget_traced(network, law, target, sizes.predicted)
        except BudgetError:
            if fits:
                break
            raise
        assert isinstance(proposed.network, CustomNetwork)
        new = not sizes.knows(proposed.network)
        fit = _recounted(proposed, budget, sizes.counts(proposed.network))
        used = max(limit.used for limit in fit.limits)
        if used <= 1:
            fits.append(fit)
            if not new or used >= CLOSE:
                break
        else:
            assert target.latency is not None
            target = target.replace(latency=target.latency * LOWERED)
    if not fits:
        smallest = scale_by_law(network, law, min(fit.phi for fit in measured))
        raise BudgetError(too_small_message(network, sizes.counts(smallest), budget))
    best = max(fits, key=lambda fit: max(limit.used for limit in fit.limits))
    engine = DEFAULT_ENGINE.title if exports else "torch"
    return best.replace(measured=f"measured in {engine} with 1 thread on {processor()}")


def _milliseconds_of_file(network: CustomNetwork) -> float:
    contract = Contract(network=network.name, preprocessing=Preprocessing.usual(network.input_shape), classes=())
    images = np.random.default_rng(0).standard_normal((1, *network.input_shape), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"model{DEFAULT_ENGINE.suffix}"
        DEFAULT_ENGINE.write(Exportable(build(network).eval(), contract, None), file)
        session = DEFAULT_ENGINE.open(file, 1)
        return _median(network, lambda: session(images))


def _milliseconds_in_torch(network: CustomNetwork) -> float:
    model = build(network).eval().to(memory_format=torch.channels_last)
    images = torch.zeros(1, *network.input_shape).contiguous(memory_format=torch.channels_last)
    return _median(network, lambda: model(images))


def _median(network: CustomNetwork, call: Callable[[], object]) -> float:
    with pinned_to_cores(1) as cores, torch_threads(1), torch.inference_mode():
        measured = measure_latency(
            call, engine="", batch=1, threads=1, input_shape=network.input_shape, within=WITHIN, cores=cores
        )
    return measured.median_ms


def _recounted(fit: Fit, budget: Budget, counts: BudgetedCounts) -> Fit:
    """Return a fit whose limits hold measured instead of predicted latency."""
    return make_fit(fit.network, fit.network, fit.law, fit.phi, fit.steps, budget, counts).replace(
        network=fit.network, baseline=fit.baseline
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Sizes of a custom model: their counts, and the latency of those that were measured."""

    measure: Milliseconds
    traced: dict[str, Counts] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)

    def knows(self, network: CustomNetwork) -> bool:
        """Return whether the latency of a size was measured."""
        return network.structure in self.milliseconds

    def trace(self, network: CustomNetwork) -> Counts:
        """Return the counts of a size, without its latency."""
        if network.structure not in self.traced:
            self.traced[network.structure] = trace_counts(network)
        return self.traced[network.structure]

    def counts(self, network: CustomNetwork) -> BudgetedCounts:
        """Return the counts of a size, with its measured latency."""
        counts = self.trace(network)
        if not self.knows(network):
            self.milliseconds[network.structure] = self.measure(network)
        return _counted(counts, self.milliseconds[network.structure])

    def predicted(self, network: CustomNetwork) -> BudgetedCounts:
        """Return the counts of a size, with the latency that the measured sizes predict."""
        counts = self.trace(network)
        known = [self.traced[structure] for structure in self.milliseconds]
        times = np.array(list(self.milliseconds.values()))
        figures = np.array([_figures(size) for size in known])
        coefficients, _ = nnls(figures / times[:, None], np.ones(len(times)))
        # What the linear model does not explain is taken from the measured size that is nearest in cost.
        distances = [abs(math.log(max(1, size.macs) / max(1, counts.macs))) for size in known]
        nearest = distances.index(min(distances))
        unexplained = times[nearest] / float(figures[nearest] @ coefficients)
        return _counted(counts, unexplained * float(np.array(_figures(counts)) @ coefficients))

    def outwards(self, network: CustomNetwork, law: AnyLaw, budget: Budget) -> list[Fit]:
        """Measure sizes from the model's own towards the limits, up to the first on the other side.

        A step is as long as the limits suggest if the latency grew like the law's nominal cost, and half a phi more.
        """
        fits: list[Fit] = []
        phi = 0.0
        while len(fits) < MAX_OUTWARD:
            size = scale_by_law(network, law, phi)
            try:
                counts = self.counts(size)
            except NetworkError:
                if not fits:
                    raise
                break
            fits.append(make_fit(network, size, law, phi, (), budget, counts))
            used = max(limit.used for limit in fits[-1].limits)
            inside = used <= 1
            if law.nominal_growth == 1 or inside != (max(limit.used for limit in fits[0].limits) <= 1):
                break
            direction = 1.0 if inside else -1.0
            nearest = phi - math.log(used) / math.log(law.nominal_growth) + direction / 2
            further = min(nearest, law.max_phi) if inside else nearest
            if abs(further) > MAX_TRACED_PHI or further == phi:
                break
            phi = further
        return fits


def _figures(counts: Counts) -> tuple[float, float, float]:
    return 1.0, counts.macs, counts.activations


def _counted(counts: Counts, milliseconds: float) -> BudgetedCounts:
    return BudgetedCounts(counts, microseconds=math.ceil(milliseconds * MICROSECONDS))
