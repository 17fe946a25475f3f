"""Where the weights of a run come from, with their license."""

from __future__ import annotations

from pathlib import Path

from triscale.errors import WeightsError
from triscale.jobs.core.run import InitialWeights, Request
from triscale.network.contract import WeightsOrigin
from triscale.weights.catalog import published
from triscale.weights.references import SUFFIXES, looks_like_file


def origin_of(start: InitialWeights | None) -> WeightsOrigin | None:
    """Return the published or imported weights that initial weights are, or were trained from; None for none.

    Runs of earlier versions do not record them; then they are known by a published name.

    Args:
        start: The initial weights of a run; None for random weights.
    """
    if start is None or start.origin is not None:
        return None if start is None else start.origin
    if looks_like_file(start.run):
        is_file = Path(start.run).suffix in SUFFIXES
        return WeightsOrigin(weights=Path(start.run).name) if is_file else None
    try:
        return published(start.run).origin
    except WeightsError:
        return WeightsOrigin(weights=start.run)


def origins_of(request: Request) -> tuple[WeightsOrigin, ...]:
    """Return the weights that a run learned from: those it started from, and those of its teacher.

    Args:
        request: The request of the run.
    """
    found = [origin_of(request.start), origin_of(request.teacher)]
    return tuple(dict.fromkeys(origin for origin in found if origin is not None))
