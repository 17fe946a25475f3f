"""Cost and budget fit of any network: an operation tree or a custom model."""

from __future__ import annotations

from collections.abc import Iterable

from triscale.deploy.engines.program import program_of
from triscale.errors import BudgetError, ExportError
from triscale.jobs.core.traced_latency import fit_latency_traced
from triscale.network.cost import Cost, Counts, cost, count_network
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.latency import Predictor
from triscale.nn.build import build
from triscale.nn.trace import trace_cost, trace_counts
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, fit_budget
from triscale.scaling.fit_traced import fit_budget_traced, ignored_multipliers, ignored_note
from triscale.scaling.piecewise import AnyLaw
from triscale.training.context import DEFAULT_CONTEXT, ExecutionContext


def cost_of(network: AnyNetwork) -> Cost:
    """Return the cost of a network: exact from its operation tree, or traced for a custom model."""
    return trace_cost(network) if isinstance(network, CustomNetwork) else cost(network)


def count_of(network: AnyNetwork) -> Counts:
    """Return the total cost of a network, without the cost of each stage."""
    return trace_counts(network) if isinstance(network, CustomNetwork) else count_network(network)


def note_on(network: AnyNetwork) -> str | None:
    """Return a sentence if a custom model ignores a multiplier that a law would change."""
    if not isinstance(network, CustomNetwork):
        return None
    ignored = ignored_multipliers(network, trace_counts)
    return ignored_note(network, ignored) if ignored else None


def export_note(network: AnyNetwork) -> str | None:
    """Return a sentence if a custom model cannot be exported, which is better known before it is trained."""
    if not isinstance(network, CustomNetwork):
        return None
    try:
        program_of(build(network).eval(), network.input_shape)
    except ExportError as error:
        return f"{network.function} can be trained, but not exported: {error}"
    return None


def check_sides(network: AnyNetwork, sides: Iterable[int]) -> None:
    """Check that a custom model runs on images of other sides than its own, as progressive learning shows it.

    Raises:
        NetworkError: It does not.
    """
    if isinstance(network, CustomNetwork):
        for side in set(sides) - {network.resolution}:
            trace_cost(network.replace(resolution=side))


def fit_any(
    network: AnyNetwork,
    law: AnyLaw,
    budget: Budget,
    predictor: Predictor | None = None,
    context: ExecutionContext = DEFAULT_CONTEXT,
) -> Fit:
    """Fit any network to a budget; the latency of a custom model is measured on this machine.

    Raises:
        BudgetError: The budget cannot be met, or limits the memory of a custom model.
    """
    if isinstance(network, CustomNetwork):
        if any(limit is not None for limit in (budget.memory, budget.training_memory, budget.ram, budget.flash)):
            raise BudgetError(
                f"memory is not limited for custom models such as {network.name}; limit MACs, parameters or "
                "activations, for example with --budget 400M"
            )
        if predictor is not None:
            raise BudgetError(
                f"a device profile does not predict the latency of custom models such as {network.name}; without it, "
                "the latency is measured on this machine"
            )
        if budget.latency is not None:
            return fit_latency_traced(network, law, budget, context, exports=export_note(network) is None)
        return fit_budget_traced(network, law, budget, trace_counts)
    return fit_budget(network, law, budget, predictor)
