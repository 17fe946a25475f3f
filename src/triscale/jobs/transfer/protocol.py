"""The protocol of a transfer table, what can be asked of it, and its records.

The paper borrows the protocol of Kornblith et al. 2019 (https://arxiv.org/abs/1805.08974). What is held to be known of
that is what Chen et al. 2020 (https://arxiv.org/abs/2002.05709, appendix B.8) write out, who say that they follow it
with slightly other preprocessing:

- 20 000 steps of 256 images, stochastic gradient descent with Nesterov momentum 0.9, random crops and flips;
- batch-norm momentum max(1 - 10 / s, 0.9), as TensorFlow counts it, with s steps in an epoch;
- a grid of 7 learning rates from 1e-4 to 1e-1 and of 7 weight decays from 1e-6 to 1e-3, both spaced by logarithms, and
  no weight decay; the weight decays are divided by the learning rate;
- the combination is chosen on images held out of the training images, then trained again on all of them, tested once.

This is done here, with a smaller grid and fewer steps by default (:data:`LEARNING_RATES`, :data:`WEIGHT_DECAYS`,
:data:`TRANSFER`), as the whole is 56 trainings a set. Not known from there and chosen here: a cosine schedule with an
epoch of warm-up, no label smoothing, the held-out share (a tenth of each class for all sets; the authors' own
validation part of Aircraft and Flowers is not used). A training is judged by its last weights, not by those of its
best epoch, so that nothing is chosen when there are no held-out images any more.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from triscale.data.images.transforms import Augmentation
from triscale.data.sources.named import Metric
from triscale.jobs.core.run import InitialWeights
from triscale.jobs.transfer.datasets import MissingDataset
from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.results.machine import Machine
from triscale.training.recipe import Recipe, Sgd

PROTOCOL_LEARNING_RATES = tuple(10 ** (-4 + exponent / 2) for exponent in range(7))
PROTOCOL_WEIGHT_DECAYS = (0.0, *(10 ** (-6 + exponent / 2) for exponent in range(7)))
PROTOCOL_STEPS = 20_000
LEARNING_RATES = (1e-3, 1e-2, 1e-1)
WEIGHT_DECAYS = (0.0, 1e-5)

TRANSFER = Recipe(
    name="transfer_table",
    source=(
        "the fine-tuning of Kornblith et al. 2019 as Chen et al. 2020, B.8, write it out: Nesterov momentum .9, 256 "
        "images, crops and flips; schedule and epochs are Triscale's"
    ),
    epochs=30,
    batch=256,
    optimizer=Sgd(momentum=0.9, nesterov=True),
    learning_rate=1e-2,
    warmup_epochs=1,
    weight_decay=0,
    weight_decay_params="all_but_norm",
    label_smoothing=0,
    ema_decay=0,
    augmentation=Augmentation(crop_area=(0.08, 1.0), flip=True),
    crop=224 / 256,
)


class TransferRequest(Record):
    """What was asked of a transfer table; more sets can be added later, all else is kept.

    Attributes:
        start: the first weights.
        network: what is trained, with the classes of each set.
        recipe: all but learning rate, weight decay and, where it names none, batch-norm momentum.
        learning_rates: of the grid, each the peak of its training.
        weight_decays: of the grid; each is divided by the learning rate, so that it is what a step takes off.
        steps: of a training, instead of the recipe's epochs; rounded up to whole epochs.
        seeds: of the trainings on all images; the grid has the first.
        share: of the training images of every class.
    """

    kind_name: ClassVar[str] = "transfer"
    schema_number: ClassVar[int] = 2

    start: InitialWeights
    network: AnyNetwork
    recipe: Recipe = TRANSFER
    learning_rates: tuple[PositiveFloat, ...] = Field(default=LEARNING_RATES, min_length=1)
    weight_decays: tuple[NonNegativeFloat, ...] = Field(default=WEIGHT_DECAYS, min_length=1)
    steps: PositiveInt | None = None
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    share: float = Field(default=1.0, gt=0, le=1)


class GridResult(Record):
    """A combination of the grid: its score on the held-out images, or why there is none."""

    learning_rate: float
    weight_decay: float
    score: float | None
    why: str = ""


class TransferRow(Record):
    """A set: its sizes, the grid, and what the chosen combination came to on the test images.

    ``score`` is the mean of ``scores`` over the seeds, ``spread`` their sample standard deviation; shares in 0..1 by
    ``metric``. ``paper`` is the best figure of Table 5; ``official`` says whether the sizes are those of the set, so
    that the two may be compared.
    """

    name: str
    title: str
    train: int
    test: int
    classes: int
    metric: Metric
    params: int
    macs: int
    epochs: int
    tried: tuple[GridResult, ...]
    chosen: GridResult
    scores: tuple[float, ...]
    score: float
    spread: float | None
    official: bool
    paper: float | None
    paper_network: str | None


class TransferTable(Record):
    """What a network comes to on many sets after fine-tuning."""

    kind_name: ClassVar[str] = "transfer_table"
    schema_number: ClassVar[int] = 2

    version: str
    network: str
    resolution: int | None
    weights: str
    sha256: str
    recipe: Recipe
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    steps: int | None
    seeds: tuple[int, ...]
    share: float
    rows: tuple[TransferRow, ...]
    absent: tuple[MissingDataset, ...]
    machine: Machine
