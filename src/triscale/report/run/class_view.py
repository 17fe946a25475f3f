"""Results by class: metrics, the most frequent confusions, and the misclassified images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triscale.report.run.run_content import ImageCard
from triscale.results.metrics import ClassMetrics, Metrics

SHOWN_CONFUSIONS, SHOWN_OF_MANY = 5, 2
SHOWN_MISTAKES = 6
MANY_CLASSES = 100


@dataclass(frozen=True, slots=True)
class Confusion:
    """The number of images of class ``truth``, out of ``total``, that were predicted as another class."""

    truth: str
    predicted: str
    count: int
    total: int

    @property
    def share(self) -> float:
        """Share of the images of class ``truth``."""
        return self.count / self.total


@dataclass(frozen=True, slots=True)
class ClassCard:
    """The content of the report for one class.

    Attributes:
        number: Index of the class.
        metric: Its precision, recall and F1.
        false_negatives: Images of the class that were predicted as another one; None without a confusion matrix.
        false_positives: Images of other classes that were predicted as this one; None without a confusion matrix.
        predicted_as: Classes that its images were predicted as, the most frequent first.
        mistaken_for_it: Classes whose images were predicted as this one, the most frequent first.
        images: Its misclassified images.
    """

    number: int
    metric: ClassMetrics
    false_negatives: int | None
    false_positives: int | None
    predicted_as: tuple[Confusion, ...]
    mistaken_for_it: tuple[Confusion, ...]
    images: tuple[ImageCard, ...]


def class_cards(metrics: Metrics, wrong: Sequence[ImageCard]) -> tuple[ClassCard, ...]:
    """Return the classes with the lowest F1 first, each with its confusions and misclassified images."""
    size = len(metrics.per_class)
    shown = SHOWN_CONFUSIONS if size <= MANY_CLASSES else SHOWN_OF_MANY
    images: dict[str, list[ImageCard]] = {}
    for card in wrong:
        images.setdefault(card.prediction.truth, []).append(card)
    totals = [sum(row) for row in metrics.confusion]
    cards = []
    for number in sorted(range(size), key=lambda number: _weakness(metrics.per_class[number])):
        row = [(number, other) for other in range(size)] if metrics.confusion else []
        column = [(other, number) for other in range(size)] if metrics.confusion else []
        predicted_as, mistaken_for_it = _confusions(metrics, row, totals), _confusions(metrics, column, totals)
        cards.append(
            ClassCard(
                number=number,
                metric=metrics.per_class[number],
                false_negatives=sum(item.count for item in predicted_as) if metrics.confusion else None,
                false_positives=sum(item.count for item in mistaken_for_it) if metrics.confusion else None,
                predicted_as=predicted_as[:shown],
                mistaken_for_it=mistaken_for_it[:shown],
                images=tuple(images.get(metrics.per_class[number].name, ())),
            )
        )
    return tuple(cards)


def most_frequent_confusions(metrics: Metrics) -> tuple[Confusion, ...]:
    """Return the confusions with the most images over all pairs of classes, at most six."""
    size = len(metrics.confusion)
    totals = [sum(row) for row in metrics.confusion]
    confusions = _confusions(metrics, [(row, column) for row in range(size) for column in range(size)], totals)
    return tuple(sorted(confusions, key=lambda item: (-item.count, -item.share))[:SHOWN_MISTAKES])


def _weakness(item: ClassMetrics) -> tuple[float, float, str]:
    """Return the order of a table with the weakest class first; classes without test images come last."""
    if item.f1 is None or item.recall is None:
        return 2.0, 2.0, item.name
    return item.f1, item.recall, item.name


def _confusions(metrics: Metrics, cells: Sequence[tuple[int, int]], totals: Sequence[int]) -> tuple[Confusion, ...]:
    """Return the confusions in some cells (truth, prediction) of the confusion matrix, the most frequent first."""
    names = [item.name for item in metrics.per_class]
    confusions = [
        Confusion(names[row], names[column], metrics.confusion[row][column], totals[row])
        for row, column in cells
        if row != column and metrics.confusion[row][column]
    ]
    return tuple(sorted(confusions, key=lambda item: -item.count))
