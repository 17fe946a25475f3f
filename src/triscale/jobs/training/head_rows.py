"""The rows of a classifier for the classes of the images."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from triscale.errors import WeightsError
from triscale.jobs.core.run import Request
from triscale.weights.class_match import match_classes


def rows_of(request: Request, classes: tuple[str, ...], known: tuple[str, ...] | None) -> tuple[int, ...]:
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
