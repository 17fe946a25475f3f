"""Find the largest network of a scaling law within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from triscale.errors import BudgetError
from triscale.network.arena import flash_of, ram_of
from triscale.network.cost import Counts, count_network
from triscale.network.custom import AnyNetwork
from triscale.network.int8_graph import int8_graph
from triscale.network.latency import Predictor, predict
from triscale.network.memory_estimate import inference_bytes, training_bytes
from triscale.network.spec import Network
from triscale.notebook import html_table
from triscale.record import Record, SparseRecord
from triscale.scaling.apply import scale_by_law
from triscale.scaling.budget import MICROSECONDS, NO_PROFILE, Budget, BudgetedCounts, cost_value, format_cost
from triscale.scaling.chain import RESOLUTION, STEM, Chain, Dimension, ScalingStep
from triscale.scaling.law import Scale, ScalingLaw
from triscale.scaling.piecewise import AnyLaw

GROWTH_PER_TRY = 4.0
"""Nominal growth of MACs between the networks that are tried to bracket the budget."""

LOOK_AHEAD = 32
"""Number of steps beyond the budget that are considered for the remaining budget."""

SAME_PHI = 1e-6
"""Steps closer than this have the same phi."""


Count = Callable[[Network], Counts | BudgetedCounts]


class Limit(Record):
    """One limit of a budget, requested and achieved, in whole units; latency is predicted, in microseconds.

    Example:
        >>> print(Limit(name="macs", requested=400_000_000, achieved=390_000_000))
        390M MACs of 400M MACs (97.5% used)
    """

    name: str
    requested: int
    achieved: int

    @property
    def used(self) -> float:
        """Fraction of the limit that is used, at most 1."""
        return self.achieved / self.requested

    def __str__(self) -> str:
        """Return the achieved and the requested value as text."""
        achieved, requested = format_cost(self.name, self.achieved), format_cost(self.name, self.requested)
        return f"{achieved} of {requested} ({self.used:.1%} used)"


class Fit(SparseRecord):
    """The network fitted to a budget.

    Attributes:
        network: The fitted network.
        baseline: Name of the baseline.
        law: The scaling law.
        phi: The compound coefficient; with :func:`triscale.scale` it gives the network without ``steps``.
        scale: The multipliers at phi.
        steps: Extra channels, layers or pixels that use up the remaining budget.
        limits: Each limit of the budget, requested and achieved.
        binding: Name of the limit that is used most.
        predictor: The latency predictor, if latency is limited.
        measured: How the latency of a custom model was measured, if limited; left out of JSON otherwise.
        pruned: What each part keeps of a trained network that was pruned instead of scaled (phi is 0); left out of JSON
            otherwise.

    Example:
        >>> from triscale.families import get
        >>> from triscale.scaling.law import EFFICIENTNET
        >>> fit = fit_budget(get("efficientnet_b0"), EFFICIENTNET, Budget.of("8M params"))
        >>> fit.binding, fit.network.resolution, str(fit.limits[0])
        ('params', 224, '8.00M params of 8.00M params (100.0% used)')
    """

    kind_name: ClassVar[str] = "fit"
    schema_number: ClassVar[int] = 2
    sparse: ClassVar[tuple[str, ...]] = ("measured", "pruned")

    network: AnyNetwork
    baseline: str
    law: AnyLaw
    phi: float
    scale: Scale
    steps: tuple[str, ...] = ()
    limits: tuple[Limit, ...]
    binding: str
    predictor: Predictor | None = None
    measured: str | None = None
    pruned: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return network, phi and limits in short form."""
        return f"Fit({self.network.name!r}, phi {self.phi:.3g}, {'; '.join(map(str, self.limits))})"

    def _repr_html_(self) -> str:
        """Return what each limit requested and achieved, for notebooks."""
        rows = [
            (limit.name, format_cost(limit.name, limit.requested), format_cost(limit.name, limit.achieved),
             f"{limit.used:.1%}", "binding" if limit.name == self.binding else "")
            for limit in self.limits
        ]  # fmt: skip
        caption = f"{self.network.name}: phi {self.phi:.3g}, {self.scale}"
        return html_table(("limit", "requested", "achieved", "used", ""), rows, caption)


def fit_budget(network: Network, law: AnyLaw, budget: Budget, predictor: Predictor | None = None) -> Fit:
    """Return the largest network of a law that meets every limit of a budget.

    The networks of the law form a chain (:mod:`triscale.scaling.chain`). The result is the last network of the chain
    within the budget, extended by later steps that still fit. Each of these costs no more than the first step that did
    not fit, so the limited cost never falls with a larger budget::

        chain:   baseline ... step 41 | step 42  step 43  step 44 ...
        cost:    within the budget    | too large  fits    too large
        result:  steps 1-41 and step 43

    Args:
        network: The baseline.
        law: The scaling law.
        budget: The limits.
        predictor: Predicts latency on a device; required if the budget limits latency.

    Returns:
        The network, its phi and scale, and what each limit requested and achieved.

    Raises:
        BudgetError: Even the smallest network of the law is too large, the law never reaches the budget, or latency is
            limited without a predictor.

    Example:
        >>> from triscale.families import get
        >>> from triscale.scaling.law import EFFICIENTNET
        >>> fit = fit_budget(get("efficientnet_b0"), EFFICIENTNET, Budget.of("1G"))
        >>> fit.network.name, fit.binding, fit.limits[0].achieved <= 10**9
        ('efficientnet_b0_phi+1.1', 'macs', True)
    """
    # 1. All steps of the law up to a phi whose network exceeds the budget. 2. The longest prefix within the budget.
    # 3. Later steps that use up the rest. 4. The phi of the prefix; steps that share a phi count as extra steps.
    count = counting(budget, predictor)
    chain = Chain(network, law, _phi_beyond(network, law, budget, count))
    length = _longest(chain, budget, count)
    if length < 0:
        raise BudgetError(too_small_message(network, count(chain.at(0)), budget))
    extra = _extra_steps(chain, length, budget, count)
    fitted = chain.at(length, extra)
    start, phi = _phi_of(chain, length)
    steps = _describe((*chain.steps[start:length], *extra), network)
    fit = make_fit(network, fitted, law, phi, steps, budget, count(fitted))
    return fit if budget.latency is None else fit.replace(predictor=predictor)


def counting(budget: Budget, predictor: Predictor | None) -> Count:
    """Return the function that counts networks: their counts, and of latency and memory what is limited."""
    if budget.latency is not None and predictor is None:
        raise BudgetError(NO_PROFILE)
    on_controller = budget.ram is not None or budget.flash is not None
    if budget.latency is budget.memory is budget.training_memory is None and not on_controller:
        return count_network

    def count(network: Network) -> BudgetedCounts:
        counts = count_network(network)
        milliseconds = None if budget.latency is None or predictor is None else predict(predictor, network)
        training = budget.training_memory is not None
        graph = int8_graph(network) if on_controller else None
        return BudgetedCounts(
            counts,
            microseconds=None if milliseconds is None else math.ceil(milliseconds * MICROSECONDS),
            memory=None if budget.memory is None else inference_bytes(network, counts=counts),
            training_memory=training_bytes(network, budget.training_batch, counts) if training else None,
            ram=None if graph is None else ram_of(graph),
            flash=None if graph is None else flash_of(graph),
        )

    return count


def make_fit(
    baseline: AnyNetwork,
    fitted: AnyNetwork,
    law: AnyLaw,
    phi: float,
    steps: tuple[str, ...],
    budget: Budget,
    counts: Counts | BudgetedCounts,
) -> Fit:
    """Return the record of a fit."""
    limits = tuple(
        Limit(name=name, requested=limit, achieved=cost_value(counts, name)) for name, limit in budget.limits.items()
    )
    return Fit(
        network=fitted.replace(name=f"{baseline.name}_phi{phi:+g}"),
        baseline=baseline.name,
        law=law,
        phi=phi,
        scale=law.at(phi),
        steps=steps,
        limits=limits,
        binding=max(limits, key=lambda limit: limit.used).name,
    )


def _longest(chain: Chain, budget: Budget, count: Count) -> int:
    """Return the number of steps of the longest chain whose network is admitted, -1 if there is none.

    The cost grows along a chain with one exception: a ResNet block loses its projection when its input and output get
    the same width. Such a dip ends after a few steps, so some steps beyond the first one not admitted are checked.
    """
    # Bisection: the first `low` steps are within the budget, the first `high` steps are not.
    low, high = -1, len(chain.steps) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if budget.admits(count(chain.at(middle))) else (low, middle)
    beyond = range(low + 2, min(low + LOOK_AHEAD, len(chain.steps)) + 1)
    return max((length for length in beyond if budget.admits(count(chain.at(length)))), default=low)


def _extra_steps(chain: Chain, length: int, budget: Budget, count: Count) -> tuple[ScalingStep, ...]:
    """Return steps beyond the first one that does not fit, which use up the remaining budget.

    A step is taken if it adds to every limited cost, and all stay at most those after any step that did not fit. So if
    a larger budget admits one of these steps instead, its cost outweighs all later steps, and the result never shrinks.
    A resolution adds no parameters: a budget of parameters never buys pixels beyond the law.
    """
    if length >= len(chain.steps):
        return ()
    # A step must cost at least `floor`, the network so far, and at most `ceiling`, the cheapest step that did not fit.
    floor, ceiling = count(chain.at(length)), count(chain.at(length + 1))
    taken: tuple[ScalingStep, ...] = ()
    skipped = {chain.steps[length].dimension}  # a dimension cannot skip one of its own steps
    for step in chain.steps[length + 1 : length + 1 + LOOK_AHEAD]:
        if step.dimension in skipped:
            continue
        counts = count(chain.at(length, (*taken, step)))
        if all(
            cost_value(floor, name) < cost_value(counts, name) <= cost_value(ceiling, name) for name in budget.limits
        ):
            if budget.admits(counts):
                taken, floor = (*taken, step), counts
                continue
            ceiling = counts
        skipped.add(step.dimension)
    return taken


def _phi_beyond(network: Network, law: ScalingLaw, budget: Budget, count: Count) -> float:
    """Return a phi well beyond the budget: the chain up to it contains the result and all extra steps."""
    growth = law.nominal_growth
    if growth == 1:
        return 0.0
    # growth^stride = GROWTH_PER_TRY: each try costs about four times the previous one.
    stride = math.log(GROWTH_PER_TRY) / math.log(growth)
    phi = min(-4 * stride, law.max_phi)
    while budget.admits(count(scale_by_law(network, law, phi))):
        if phi == law.max_phi:
            raise BudgetError(unreachable_message(network, law, budget, phi))
        phi = min(phi + stride, law.max_phi)
    return min(phi + stride, law.max_phi)


def _phi_of(chain: Chain, length: int) -> tuple[int, float]:
    """Return the number of steps that one phi gives, and the phi with the fewest decimals that gives them.

    If only some of several steps at the same phi are taken, these count as extra steps.
    """
    phis = [step.phi for step in chain.steps]
    if not phis:
        return 0, 0.0
    start = length
    while 0 < start < len(phis) and phis[start] - phis[start - 1] < SAME_PHI:
        start -= 1
    low = phis[start - 1] if start else phis[0] - 1
    high = phis[start] if start < len(phis) else low + 1
    if low < 0 < high and chain.at(start) == chain.network:
        return start, 0.0
    return start, _shortest_between(low, high)


def _shortest_between(low: float, high: float) -> float:
    """Return the lowest of the numbers with the fewest decimals strictly between two others."""
    for decimals in range(12):
        shift = 10.0**decimals
        candidate = (math.floor(low * shift) + 1) / shift
        if low + SAME_PHI / 4 < candidate < high - SAME_PHI / 4:
            return candidate
    return (low + high) / 2


def _describe(steps: tuple[ScalingStep, ...], network: Network) -> tuple[str, ...]:
    """Describe the final value of each dimension that the steps change."""
    values = {step.dimension: step.value for step in steps}
    return tuple(describe_dimension(dimension, value, network) for dimension, value in values.items())


def describe_dimension(dimension: Dimension, value: int, network: Network) -> str:
    """Describe one dimension of a network with a value."""
    kind, index = dimension
    if dimension == RESOLUTION:
        return f"resolution {value} px"
    if kind == "depth":
        return f"stage {index}: {value} blocks"
    if dimension == STEM:
        return f"stem: {value} channels"
    return f"{'head' if index == len(network.stages) else f'stage {index}'}: {value} channels"


def unreachable_message(network: AnyNetwork, law: ScalingLaw, budget: Budget, phi: float) -> str:
    """Return the reason to refuse a budget that a law does not reach up to ``phi``."""
    return (
        f"the law ({law}) does not reach {budget} from {network.name} (tried up to phi {phi:.3g}): "
        "give a smaller budget, or add a limit that grows with the law, such as MACs"
    )


def too_small_message(network: AnyNetwork, smallest: Counts | BudgetedCounts, budget: Budget) -> str:
    """Return the reason to refuse a budget that the smallest network exceeds."""
    missed = [
        f"at least {format_cost(name, _rounded_up(cost_value(smallest, name)))}"
        for name, limit in budget.limits.items()
        if cost_value(smallest, name) > limit
    ]
    smaller = "a smaller baseline"
    if budget.ram is not None or budget.flash is not None:
        smaller += ", such as mcunet_5fps with the law mcu,"
    return (
        f"no network scaled from {network.name} meets the budget of {budget}; the smallest needs "
        f"{' and '.join(missed)}: allow that, or start from {smaller} or one with fewer classes"
    )


def _rounded_up(value: int) -> int:
    """Round up to three digits, so that the displayed value is one that can be met."""
    digit = int(10.0 ** max(0, len(str(value)) - 3))
    return -(-value // digit) * digit
