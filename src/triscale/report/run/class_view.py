"""What a page shows of each class: its figures, what it is taken for, and the images that were wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triscale.report.run.image import Image, to_image
from triscale.report.run.run_content import ClassMetric, MetricFacts, WrongImage

SHOWN_CONFUSIONS, SHOWN_OF_MANY = 5, 2
MANY_CLASSES = 100


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many images of one class went to another, and which share of the first class this is."""

    name: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A wrong image, ready for the page; without one, its file could not be read any more."""

    file: str
    predicted: str
    confidence: float
    image: Image | None
    overlay: Image | None


@dataclass(frozen=True, slots=True)
class ClassCard:
    """A class of the page; ``number`` is its place among the classes.

    ``taken_for`` is where its images went, ``mistaken`` the classes whose images came to it, the most first; ``wrong``
    counts its images that went elsewhere, ``false`` those of others that came to it.
    """

    number: int
    metric: ClassMetric
    wrong: int | None
    false: int | None
    taken_for: tuple[Confusion, ...]
    mistaken: tuple[Confusion, ...]
    images: tuple[Thumbnail, ...]


def arrange_classes(metrics: MetricFacts, wrong: Sequence[WrongImage]) -> tuple[ClassCard, ...]:
    """Return the classes, the weakest first, each with its most frequent confusions and its wrong images."""
    names = [row.name for row in metrics.per_class]
    count_network = [sum(counts) for counts in metrics.confusion]
    columns = tuple(zip(*metrics.confusion, strict=True))
    shown = SHOWN_CONFUSIONS if len(names) <= MANY_CLASSES else SHOWN_OF_MANY
    images: dict[str, list[Thumbnail]] = {}
    for image in wrong:
        images.setdefault(image.truth, []).append(_thumbnail(image))
    cards = []
    for number in sorted(range(len(names)), key=lambda number: _weakness(metrics.per_class[number])):
        row, column = (metrics.confusion[number], columns[number]) if columns else ((), ())
        cards.append(
            ClassCard(
                number=number,
                metric=metrics.per_class[number],
                wrong=sum(row) - row[number] if row else None,
                false=sum(column) - column[number] if column else None,
                taken_for=_largest(names, row, [sum(row)] * len(row), number)[:shown],
                mistaken=_largest(names, column, count_network, number)[:shown],
                images=tuple(images.get(names[number], ())),
            )
        )
    return tuple(cards)


def _weakness(item: ClassMetric) -> tuple[float, float, str]:
    return (-1.0 if item.f1 is None else item.f1, -1.0 if item.recall is None else item.recall, item.name)


def _largest(
    names: Sequence[str], counts: Sequence[int], count_network: Sequence[int], own: int
) -> tuple[Confusion, ...]:
    found = [
        Confusion(name, count, count / total)
        for number, (name, count, total) in enumerate(zip(names, counts, count_network, strict=False))
        if count and number != own
    ]
    return tuple(sorted(found, key=lambda item: -item.count))


def _thumbnail(image: WrongImage) -> Thumbnail:
    return Thumbnail(
        file=image.file,
        predicted=image.predicted,
        confidence=image.confidence,
        image=None if image.image is None else to_image(image.image),
        overlay=None if image.overlay is None else to_image(image.overlay),
    )
