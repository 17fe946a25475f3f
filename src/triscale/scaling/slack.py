"""Why a fit leaves a part of its budget unused."""

from __future__ import annotations

from triscale.network.latency import Predictor
from triscale.network.spec import Network
from triscale.scaling.budget import LABELS, Budget, cost_value, format_cost
from triscale.scaling.chain import Chain
from triscale.scaling.fit import Fit, counting, describe_dimension

FULL = 0.99
"""Share of the limit from which a budget counts as used up."""


def why_slack(baseline: Network, fit: Fit, budget: Budget, predictor: Predictor | None = None) -> str | None:
    """Return why a fit uses less than 99% of the limit that is used most; None if it uses more.

    Args:
        baseline: The network that was scaled.
        fit: The fit, of a network of blocks.
        budget: Its budget.
        predictor: Predicts the latency, if that is limited.

    Example:
        >>> from triscale.families import get
        >>> from triscale.scaling.fit import fit_budget
        >>> from triscale.scaling.named_laws import NAMED_LAWS
        >>> b0, budget = get("efficientnet_b0"), Budget.of("200M")
        >>> why_slack(b0, fit_budget(b0, NAMED_LAWS["resolution"], budget), budget)
        'the next step of the law, resolution 176 px, needs 254M MACs'
    """
    binding = next(limit for limit in fit.limits if limit.name == fit.binding)
    assert isinstance(fit.network, Network)
    if binding.used >= FULL:
        return None
    count = counting(budget, predictor)
    chain, before = Chain(baseline, fit.law, fit.law.min_phi), count(fit.network)
    possible = []
    for step in Chain.next_steps(baseline, fit.law, fit.network):
        counted = count(chain.after(fit.network, step))
        if all(cost_value(counted, name) > cost_value(before, name) for name in budget.limits):
            possible.append((cost_value(counted, binding.name), step, counted))
    if not possible:
        return f"the law has no further step that adds {LABELS[binding.name]}"
    costs, step, counted = min(possible, key=lambda option: option[0])
    what = describe_dimension(step.dimension, step.value, baseline)
    if not budget.admits(counted):
        missed = next(name for name, limit in budget.limits.items() if cost_value(counted, name) > limit)
        return f"the next step of the law, {what}, needs {format_cost(missed, cost_value(counted, missed))}"
    return (
        f"{what} would fit with {format_cost(binding.name, costs)}, but comes after steps of the law that do not; "
        "taking it could make the network of a larger budget smaller"
    )
