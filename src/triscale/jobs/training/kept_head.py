"""Begin a training with the rows of a classifier for the classes of its images."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from triscale.errors import WeightsError
from triscale.jobs.core.run import Request
from triscale.weights.class_match import match_classes


def classifier_rows(request: Request, classes: tuple[str, ...], known: tuple[str, ...] | None) -> tuple[int, ...]:
    """Return the rows of the classifier for the classes of the images.

    Args:
        request: The request.
        classes: The classes of the images.
        known: The classes of the weights; None if unknown.

    Raises:
        WeightsError: They are unknown, or a class of the images is none of them.
    """
    assert request.start is not None
    if known is None:
        raise WeightsError(
            f"{request.start.run} has no classifier, or none whose class names are known, so --keep-head cannot keep "
            "it; leave it out, or import the weights with --classes FILE"
        )
    return match_classes(
        classes, known, request.start.run, request.class_names,
        or_else="say which class each is with --class-names FILE",
    )  # fmt: skip


def with_rows(tensors: Mapping[str, Tensor], classifier: set[str], rows: tuple[int, ...]) -> dict[str, Tensor]:
    """Return tensors with some rows of the classifier.

    Args:
        tensors: The tensors of a network.
        classifier: The names of those of its classifier.
        rows: The rows.
    """
    return {name: value[list(rows)] if name in classifier else value for name, value in tensors.items()}


def suggest_kept_head(request: Request, classes: tuple[str, ...], known: tuple[str, ...] | None) -> str:
    """Return the end of a sentence if the classifier could be kept, though the request does not say so; else nothing.

    The arguments are those of :func:`classifier_rows`.
    """
    start = request.start
    if start is None or start.inherits or known is None:
        return ""
    try:
        match_classes(classes, known, start.run)
    except WeightsError:
        return ""
    return (
        f"; all {len(classes)} classes are classes of {start.run}, so --keep-head would begin with its classifier "
        "instead"
    )
