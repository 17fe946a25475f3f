"""Cost and budget fit of any network: an operation tree or a custom model."""

from __future__ import annotations

from triscale.errors import BudgetError
from triscale.network.cost import Cost, Counts, cost, count_network
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.latency import Predictor
from triscale.nn.custom import trace_cost, trace_counts
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, fit_budget, fit_budget_traced
from triscale.scaling.piecewise import AnyLaw


def cost_of(network: AnyNetwork) -> Cost:
    """Return the cost of a network: exact from its operation tree, or traced for a custom model."""
    return trace_cost(network) if isinstance(network, CustomNetwork) else cost(network)


def count_of(network: AnyNetwork) -> Counts:
    """Return the total cost of a network, without the cost of each stage."""
    return trace_counts(network) if isinstance(network, CustomNetwork) else count_network(network)


def fit_any(network: AnyNetwork, law: AnyLaw, budget: Budget, predictor: Predictor | None = None) -> Fit:
    """Fit any network to a budget.

    Raises:
        BudgetError: The budget cannot be met, or limits the latency of a custom model.
    """
    if isinstance(network, CustomNetwork):
        if budget.memory is not None or budget.training_memory is not None:
            raise BudgetError(
                f"memory is not limited for custom models such as {network.name}; limit MACs, parameters or "
                "activations, for example with --budget 400M"
            )
        if budget.latency is not None:
            raise BudgetError(
                f"latency prediction does not support custom models such as {network.name}; limit MACs or parameters, "
                "for example with --budget 400M"
            )
        return fit_budget_traced(network, law, budget, trace_counts)
    return fit_budget(network, law, budget, predictor)
