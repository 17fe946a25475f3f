"""Networks, their cost and their scaling; nothing here imports torch until a custom model has to be traced."""

from __future__ import annotations

from pathlib import Path
from typing import overload

from triscale.api.arguments import AnyNetworkLike, BudgetLike, LawLike, as_budget, as_law
from triscale.errors import BudgetError
from triscale.families.find import as_network
from triscale.network import cost as counting
from triscale.network.cost import Cost
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.latency import Predictor, load_predictor
from triscale.network.spec import Network
from triscale.scaling import apply
from triscale.scaling.budget import FORMS
from triscale.scaling.fit import Fit
from triscale.scaling.fit import fit_budget as fit_network
from triscale.scaling.law import EFFICIENTNET, Scale


@overload
def scale(network: CustomNetwork, scale: Scale) -> CustomNetwork: ...
@overload
def scale(network: Network, scale: Scale) -> Network: ...
@overload
def scale(network: str | Path, scale: Scale) -> AnyNetwork: ...
def scale(network: AnyNetworkLike, scale: Scale) -> AnyNetwork:
    """Scale depth, width and resolution together, rounded as in the released EfficientNet code.

    Args:
        network: The baseline: a network, its name, its .json file, or ``package.module:function``.
        scale: Multipliers of depth, width and resolution, such as ``Law(1.2, 1.1, 1.15).at(2)``.

    Returns:
        The scaled network, with the baseline's name.

    Raises:
        NetworkError: The network is unknown.
        RecordError: The file is not a network.

    Example:
        >>> scaled = scale("efficientnet_b0", Scale(1.2, 1.1, 1.15))
        >>> scaled.num_blocks, scaled.head.width, scaled.resolution
        (23, 1408, 256)
    """
    return apply.scale(as_network(network), scale)


def cost(network: AnyNetworkLike) -> Cost:
    """Count parameters, multiply-accumulates and activations of a network exactly.

    Args:
        network: A network, its name, its .json file, or ``package.module:function``; a custom model is traced.

    Returns:
        The cost for one image, in total and for each part; :mod:`triscale.network.cost` defines the figures.

    Raises:
        NetworkError: The network is unknown, or a custom model cannot be traced.
        RecordError: The file is not a network.

    Example:
        >>> str(cost("resnet50"))
        '25.6M params, 4.09G MACs, 11.1M activations'
    """
    found = as_network(network)
    if isinstance(found, CustomNetwork):
        from triscale.jobs.core.networks import cost_of

        return cost_of(found)
    return counting.cost(found)


def fit_budget(
    network: AnyNetworkLike,
    law: LawLike = EFFICIENTNET,
    budget: BudgetLike | None = None,
    predictor: Predictor | str | Path | None = None,
) -> Fit:
    """Return the largest network of a scaling law that meets every limit of a budget.

    Args:
        network: The baseline: a network, its name, its .json file, or ``package.module:function``.
        law: Scaling coefficients; by default those of the EfficientNet paper.
        budget: The limits, such as ``"400M"`` (MACs), ``"5M params"``, ``"20MB"`` or, with a predictor, ``"20ms"``.
        predictor: Predicts the latency on a device: a :class:`Predictor`, or the file of a device profile.

    Returns:
        The network, its phi and scale, and what each limit requested and achieved.

    Raises:
        BudgetError: There is no budget, the smallest network of the law is too large, the law never reaches the budget,
            or latency is limited without a predictor.
        NetworkError: The network is unknown.
        RecordError: A file is not the record that it should be.

    Example:
        >>> fit = fit_budget("efficientnet_b0", budget="1G")
        >>> fit.network.resolution, fit.binding, str(fit.limits[0])
        (256, 'macs', '999M MACs of 1.00G MACs (99.9% used)')
    """
    if budget is None:
        raise BudgetError(f"no budget given; add budget=, written as {FORMS}")
    baseline = as_network(network)
    if isinstance(predictor, str | Path):
        predictor = load_predictor(Path(predictor))
    if isinstance(baseline, CustomNetwork):
        from triscale.jobs.core.networks import fit_any

        return fit_any(baseline, as_law(law), as_budget(budget), predictor)
    return fit_network(baseline, as_law(law), as_budget(budget), predictor)
