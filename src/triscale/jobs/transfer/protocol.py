"""Protocol, request and records of a transfer table.

The paper uses the protocol of Kornblith et al. 2019 (https://arxiv.org/abs/1805.08974). Details are taken from Chen et
al. 2020 (https://arxiv.org/abs/2002.05709, appendix B.8), who follow it with slightly different preprocessing:

- 20 000 steps of 256 images, stochastic gradient descent with Nesterov momentum 0.9, random crops and flips;
- batch-norm momentum max(1 - 10 / s, 0.9) in TensorFlow's convention, with s steps per epoch;
- a grid of 7 learning rates from 1e-4 to 1e-1 and of 7 weight decays from 1e-6 to 1e-3, both logarithmically spaced,
  plus no weight decay; the weight decays are divided by the learning rate;
- the best combination on validation images is trained again on all training images and tested once.

Triscale follows this with a smaller grid and fewer steps by default (:data:`LEARNING_RATES`, :data:`WEIGHT_DECAYS`,
:data:`TRANSFER`), since the full grid takes 56 trainings per data set. The papers do not state the following, which are
Triscale's choices: a cosine schedule with one epoch of warm-up, no label smoothing, and 10% of each class for
validation for all data sets (the official validation splits of Aircraft and Flowers are not used). A training is
evaluated with its last weights, since the final trainings have no validation images.
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
        "the fine-tuning of Kornblith et al. 2019 as described by Chen et al. 2020, B.8: Nesterov momentum 0.9, "
        "batches of 256 images, crops and flips; schedule and epochs are Triscale's"
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
    """The request of a transfer table; data sets can be added later, everything else is fixed.

    Attributes:
        start: The initial weights.
        network: The network to train; its number of classes is set for each data set.
        recipe: The recipe; the grid replaces its learning rate and weight decay. If it has no batch-norm momentum, that
            of the protocol is used.
        learning_rates: Peak learning rates of the grid.
        weight_decays: Weight decays of the grid; each is divided by the learning rate, so it is the decay per step.
        steps: Number of steps of a training, rounded up to whole epochs; None for the recipe's epochs.
        seeds: Seeds of the trainings on all images; the grid uses the first.
        share: Share of the training images of every class to use.
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
    """A combination of the grid: its score on the validation images, or the error of its training."""

    learning_rate: float
    weight_decay: float
    score: float | None
    error: str = ""


class TransferRow(Record):
    """A data set: its sizes, the grid, and the test scores of the best combination.

    ``score`` is the mean of ``scores`` over the seeds, ``spread`` their sample standard deviation; all are shares from
    0 to 1 of ``metric``. ``paper`` is the best result in Table 5 of the paper. It is comparable only if ``official`` is
    true: the numbers of images and classes are the official ones.
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
    """Test scores of one network after fine-tuning on several data sets."""

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
    missing: tuple[MissingDataset, ...]
    machine: Machine
