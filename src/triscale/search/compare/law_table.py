"""What different scaling laws make of the same cost: networks of each law from 1/8 to 90 times a baseline."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from triscale.errors import BudgetError, SearchError
from triscale.network.cost import count_network
from triscale.network.latency import Predictor, predict
from triscale.network.memory_estimate import inference_bytes, training_bytes
from triscale.network.spec import Network
from triscale.record import Record
from triscale.scaling.budget import TRAINING_BATCH, Budget
from triscale.scaling.fit import Fit, fit_budget
from triscale.scaling.law import Scale
from triscale.scaling.piecewise import AnyLaw
from triscale.scaling.slack import why_slack
from triscale.search.compare.contenders import MAX_TIMES
from triscale.search.shape import realized

RATIOS = (1 / 8, 1 / 2, 2.0, 4.0, 12.0, 40.0, 90.0)
"""Costs relative to the baseline at which laws are compared by default."""
MIN_TIMES = 1 / 1000
EQUAL = 0.01
"""Costs that differ by at most this share count as equal."""
ROUNDS = 3
MAX_LOWERING = 0.05
"""The largest share by which all laws are lowered to the cost that a law with coarse steps reaches."""

Report = Callable[[str], None]


class CostRow(Record):
    """A network with the figures in which laws differ at equal cost.

    Attributes:
        law: Name of the law; empty for the baseline.
        phi: Its compound coefficient.
        network: The network.
        realized: Multipliers relative to the baseline, after rounding.
        macs: Multiply-accumulates.
        params: Trainable parameters.
        activations: Output values of convolutions, squeeze-and-excitation and classifier.
        inference_bytes: Peak memory of inference with one image.
        training_bytes: Estimated memory of a training step with 32 images.
        latency_ms: Predicted latency; None without a profile.
        note: Why the cost differs from the others' by more than 1%; empty if it does not.
    """

    law: str
    phi: float
    network: Network
    realized: Scale
    macs: int
    params: int
    activations: int
    inference_bytes: int
    training_bytes: int
    latency_ms: float | None
    note: str = ""


class CostLevel(Record):
    """The networks of all laws at one cost.

    Attributes:
        times: The requested cost, relative to the baseline's MACs.
        limit: The MACs that no network exceeds.
        rows: A network for each law that reaches the cost.
        unreachable: The other laws, and why.
    """

    times: float
    limit: int
    rows: tuple[CostRow, ...]
    unreachable: tuple[tuple[str, str], ...]


class LawComparison(Record):
    """Networks of several laws at equal cost.

    Attributes:
        baseline: The network that is scaled.
        laws: The laws by name.
        levels: Their networks, by cost.
        predictor: What predicted the latency; None if nothing did.
    """

    kind_name: ClassVar[str] = "law_comparison"

    baseline: CostRow
    laws: dict[str, AnyLaw]
    levels: tuple[CostLevel, ...] = Field(min_length=1)
    predictor: Predictor | None = None


def compare_laws(
    baseline: Network,
    laws: Mapping[str, AnyLaw],
    ratios: Sequence[float] = RATIOS,
    predictor: Predictor | None = None,
    report: Report = lambda _: None,
) -> LawComparison:
    """Scale a baseline by each law to the same costs.

    No network exceeds its level, and most lie within 1% below it. Where the steps of a law are coarser, all laws are
    lowered to its cost, if that is at most 5%; otherwise the row says what the law's next step needs.

    Args:
        baseline: The network to scale.
        laws: The laws by name.
        ratios: Costs relative to the baseline's MACs.
        predictor: Predicts the latency.
        report: Called with a sentence before each level.

    Raises:
        SearchError: There are no laws, or a ratio is out of range.

    Example:
        >>> from triscale.families import get
        >>> from triscale.scaling.named_laws import NAMED_LAWS
        >>> laws = {name: NAMED_LAWS[name] for name in ("paper", "dwr")}
        >>> (level,) = compare_laws(get("efficientnet_b0"), laws, ratios=(4,)).levels
        >>> [(row.law, row.network.resolution, round(row.activations / 1e6)) for row in level.rows]
        [('paper', 288, 21), ('dwr', 240, 15)]
    """
    if not laws or not ratios:
        raise SearchError("a comparison needs at least one law and one cost, such as --laws paper,dwr --times 1/2,4")
    for ratio in ratios:
        if not MIN_TIMES <= ratio <= MAX_TIMES:
            raise SearchError(f"laws are not compared at {ratio:g} times the cost; give from 1/1000 to {MAX_TIMES:,}")
    macs = count_network(baseline).macs
    levels = []
    for ratio in sorted(set(ratios)):
        report(f"{ratio:g} times the MACs of {baseline.name}")
        levels.append(_level(baseline, laws, ratio, int(ratio * macs), predictor))
    return LawComparison(
        baseline=_row("", 0.0, baseline, baseline, predictor),
        laws=dict(laws),
        levels=tuple(levels),
        predictor=predictor,
    )


def _level(
    baseline: Network, laws: Mapping[str, AnyLaw], times: float, requested: int, predictor: Predictor | None
) -> CostLevel:
    unreachable: dict[str, str] = {}
    best: tuple[int, int, dict[str, Fit], tuple[tuple[str, str], ...]] = (-1, 0, {}, ())
    limit = requested
    for _ in range(ROUNDS):
        fits: dict[str, Fit] = {}
        for name, law in laws.items():
            if name not in unreachable:
                try:
                    fits[name] = fit_budget(baseline, law, Budget(macs=limit))
                except BudgetError as error:
                    unreachable[name] = _short(str(error))
        equal = [fit.limits[0].achieved >= (1 - EQUAL) * limit for fit in fits.values()]
        if sum(equal) > best[0]:
            best = (sum(equal), limit, fits, tuple(unreachable.items()))
        # The most expensive of the networks that are too cheap: the least that lowering all laws has to give up.
        short = [fit.limits[0].achieved for fit, is_equal in zip(fits.values(), equal, strict=True) if not is_equal]
        if not short or max(short) < (1 - MAX_LOWERING) * requested:
            break
        limit = max(short)
    _, limit, fits, out_of_reach = best
    rows = []
    for name, fit in fits.items():
        note = why_slack(baseline, fit, Budget(macs=limit)) or ""
        assert isinstance(fit.network, Network)
        network = fit.network.replace(name=f"{baseline.name}_{name}_x{times:.4g}")
        rows.append(_row(name, fit.phi, baseline, network, predictor, note))
    return CostLevel(times=times, limit=limit, rows=tuple(rows), unreachable=out_of_reach)


def _row(
    law: str, phi: float, baseline: Network, network: Network, predictor: Predictor | None, note: str = ""
) -> CostRow:
    counts = count_network(network)
    return CostRow(
        law=law,
        phi=phi,
        network=network,
        realized=realized(baseline, network),
        macs=counts.macs,
        params=counts.params,
        activations=counts.activations,
        inference_bytes=inference_bytes(network, counts=counts),
        training_bytes=training_bytes(network, TRAINING_BATCH, counts),
        latency_ms=None if predictor is None else predict(predictor, network),
        note=note,
    )


def _short(message: str) -> str:
    """Return what a law cannot do, without the advice on budgets."""
    if least := re.search(r"the smallest needs (at least [^:]+)", message):
        return f"needs {least[1]}"
    return "ends below this cost"


def read_ratios(text: str) -> tuple[float, ...]:
    """Parse costs relative to the baseline: numbers or fractions, separated by commas.

    Raises:
        SearchError: The text cannot be parsed.

    Example:
        >>> read_ratios("1/8, 0.5,4")
        (0.125, 0.5, 4.0)
    """
    ratios = []
    for part in (word.strip() for word in text.split(",")):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(\d+(?:\.\d+)?))?", part)
        if match is None or (match[2] is not None and float(match[2]) == 0):
            raise SearchError(f'"{part}" is not a cost relative to the baseline; write numbers such as 1/8 or 4')
        ratios.append(float(match[1]) / float(match[2] or 1))
    return tuple(ratios)
