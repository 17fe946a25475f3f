"""Any network, by name, file or function: found, counted, fitted to a budget."""

from __future__ import annotations

from triscale.errors import BudgetError
from triscale.network.cost import Cost, Counts, cost, count_network
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.latency import Predictor
from triscale.nn.custom import trace_cost, trace_counts
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, fit_budget, fit_budget_traced
from triscale.scaling.law import Law


def cost_of(network: AnyNetwork) -> Cost:
    """Count any network: exactly from its operation tree, or by tracing a custom model."""
    return trace_cost(network) if isinstance(network, CustomNetwork) else cost(network)


def count_of(network: AnyNetwork) -> Counts:
    """Count any network without its parts."""
    return trace_counts(network) if isinstance(network, CustomNetwork) else count_network(network)


def fit_any(network: AnyNetwork, law: Law, budget: Budget, predictor: Predictor | None = None) -> Fit:
    """Fit any network to a budget.

    Raises:
        BudgetError: the budget cannot be met, or limits the latency of a custom model, which nobody predicts.
    """
    if isinstance(network, CustomNetwork):
        if budget.latency is not None:
            raise BudgetError(
                f"the latency of {network.name} cannot be predicted, since it is a function and not a network as data; "
                "give a limit that can be counted, such as 400M"
            )
        return fit_budget_traced(network, law, budget, trace_counts)
    return fit_budget(network, law, budget, predictor)
