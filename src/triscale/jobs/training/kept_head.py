"""Check, before a training, whether it can begin with the classifier of its initial weights."""

from __future__ import annotations

from triscale.errors import UserError, WeightsError
from triscale.jobs.core.run import Request
from triscale.jobs.training.head_rows import rows_of
from triscale.jobs.training.initial_weights import read_initial_weights
from triscale.weights.class_match import match_classes


def check_kept_head(request: Request, classes: tuple[str, ...]) -> str | None:
    """Check that the classifier of the initial weights can be kept, if the request says so.

    Args:
        request: The request, with the initial weights decided.
        classes: The classes of the images.

    Returns:
        A note if it could be kept and the request does not say so; None otherwise.

    Raises:
        UserError: There are no initial weights.
        WeightsError: Their class names are unknown, or a class of the images is none of theirs.
    """
    start = request.start
    if start is None:
        if request.keeps_head:
            raise UserError("--keep-head keeps the classifier of weights, and there are none; give --weights")
        return None
    known = read_initial_weights(start)[2]
    if request.keeps_head:
        rows_of(request, classes, known)
        return None
    if known is None or known == classes or start.inherits:
        return None
    try:
        match_classes(classes, known, start.run)
    except WeightsError:
        return None
    return (
        f"all {len(classes)} classes are classes of {start.run}; --keep-head would begin with its classifier instead "
        "of a new one"
    )
