"""How to train: recipes as frozen records, each with its source."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from triscale.data.images.transforms import Augmentation
from triscale.errors import RecipeError, nearest
from triscale.record import Record

CROP_MARGIN = 32
"""Pixels by which the released code resizes larger than it crops."""

MINIVAL_SHARE = 25022 / 1281167
"""20 of the 1024 shards of ImageNet's training images, on which the released code chooses the checkpoint."""

Decoder = Literal["pillow", "torchcodec"]
Precision = Literal["auto", "float32", "bfloat16"]
GradReduction = Literal["deterministic", "fast"]
NormOver = Literal["micro_batch", "batch"]
NormStatistics = Literal["trained", "frozen", "reestimated"]
Quantization = Literal["none", "int8"]
HeadInit = Literal["random", "probe"]


class Sgd(Record):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True


class AdamW(Record):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: PositiveFloat = 1e-8


class RmsProp(Record):
    """RMSProp in TensorFlow's form (:mod:`triscale.training.rmsprop`); weight decay is added to the gradient."""

    kind: Literal["rmsprop_tensorflow"] = "rmsprop_tensorflow"
    decay: float = Field(default=0.9, ge=0, lt=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    eps: PositiveFloat = 1e-3


Optimizer = Annotated[Sgd | AdamW | RmsProp, Field(discriminator="kind")]


class Cosine(Record):
    """Half a cosine from the full learning rate to ``final`` of it (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1)


class Staircase(Record):
    """Multiplied by ``factor`` every ``epochs`` epochs, counted from the first step, warm-up included."""

    kind: Literal["staircase"] = "staircase"
    factor: float = Field(default=0.97, gt=0, lt=1)
    epochs: PositiveFloat = 2.4


class BySize(Record):
    """Dropout that grows in proportion to phi: ``smallest`` at 0, ``largest`` at 7 and beyond (Tan & Le 2019, 5.2)."""

    kind: Literal["by_size"] = "by_size"
    smallest: float = Field(default=0.2, ge=0, lt=1)
    largest: float = Field(default=0.5, ge=0, lt=1)

    def at(self, phi: float) -> float:
        """Return the rate at phi."""
        return self.smallest + (self.largest - self.smallest) * min(1.0, max(0.0, phi / 7))


Schedule = Annotated[Cosine | Staircase, Field(discriminator="kind")]
WeightDecayParams = Literal["weights", "all_but_norm"]


class Recipe(Record):
    """Everything that decides what a training computes, besides network, images and seed.

    Attributes:
        epochs: how often every image is seen.
        batch: images of a step.
        min_steps: a set so small that all epochs together have fewer steps is gone through several times in each.
        micro_batches: equal parts of a batch; the unit of batch-norm statistics, of memory and of what one of several
            processes computes.
        learning_rate: the peak, reached after ``warmup_epochs`` of linear growth.
        reference_batch: the batch that the learning rate is meant for; it grows in proportion to ``batch``.
        weight_decay: acts on the weights of convolutions and classifier, or on all parameters but those of batch norm.
        ema_decay: of the moving average, reached through ``(1 + n) / (10 + n)``; the average covers batch-norm
            statistics and is what is evaluated and kept; 0 keeps the weights themselves.
        dropout: the network's where it is not given, as are ``drop_path`` and ``norm_momentum``.
        precision: ``auto`` is bfloat16 on CUDA, else float32.
        decoder: what decodes and resizes the training images; torchcodec (extra ``fast``) is faster, and its pixels
            differ by a level now and then.
        mixup: alpha of its Beta distribution (https://arxiv.org/abs/1710.09412), 0 for none.
        cutmix: likewise (https://arxiv.org/abs/1905.04899); with both, each micro-batch gets either.
        crop: the side of the center square that is evaluated, as a share of the short side; None is the rule of 2019,
            ``resolution / (resolution + 32)``.
        val_share: share of the training images of every class that is held out to choose the best epoch, where the set
            has no part for it.
        grad_reduction: ``deterministic`` adds the gradients of micro-batches in a fixed order, so that any number of
            processes gives bitwise the same; ``fast`` leaves the order to the machine and adds while the last
            micro-batch goes backward.
        norm_statistics: ``frozen`` leaves those of batch norm as the first weights have them, for weights that were
            trained before; ``reestimated`` trains as usual and takes those of the average again after each epoch.
        head_init: how a new classifier on weights that were trained before begins: ``random``, or as a linear
            ``probe`` of their features (:mod:`triscale.jobs.training.linear_probe`), where there are at most 20 000
            training images.
        head_epochs: for so many epochs only the classifier learns, and the statistics of batch norm are frozen.
        layer_decay: learning rate of each stage as a share of the next one's, the classifier's being the full one.
        quantization: ``int8`` rounds weights and activations to eight bits on the way forward, so that the weights suit
            int8 (:mod:`triscale.training.fake_quantize`); what is kept and evaluated is float32.
        patience: ends the training when the held-out images have not been judged better for so many epochs.
        norm_over: ``batch`` takes the statistics of batch norm over all micro-batches, if every process has one of
            them.
    """

    kind_name: ClassVar[str] = "recipe"

    name: str = "custom"
    source: str = ""
    epochs: PositiveInt = 30
    batch: PositiveInt = 64
    min_steps: NonNegativeInt = 0
    micro_batches: PositiveInt = 1
    optimizer: Optimizer = AdamW()
    learning_rate: PositiveFloat = 5e-3
    reference_batch: PositiveInt | None = None
    schedule: Schedule = Cosine()
    warmup_epochs: NonNegativeFloat = 2.0
    weight_decay: NonNegativeFloat = 0.05
    weight_decay_params: WeightDecayParams = "weights"
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    dropout: Annotated[float, Field(ge=0, lt=1)] | BySize | None = None
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    norm_momentum: float | None = Field(default=None, gt=0, le=1)
    precision: Precision = "auto"
    augmentation: Augmentation = Augmentation()
    decoder: Decoder = "pillow"
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    crop: float | None = Field(default=1.0, gt=0, le=1)
    val_share: float = Field(default=0.1, gt=0, lt=1)
    grad_reduction: GradReduction = "deterministic"
    norm_over: NormOver = "micro_batch"
    norm_statistics: NormStatistics = "trained"
    head_init: HeadInit = "random"
    head_epochs: NonNegativeFloat = 0.0
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    quantization: Quantization = "none"
    patience: PositiveInt | None = None

    @model_validator(mode="after")
    def _check_micro_batches(self) -> Recipe:
        if self.batch < 2 * self.micro_batches and self.micro_batches > 1:
            raise ValueError(
                f"{self.micro_batches} micro-batches of a batch of {self.batch} leave less than two images for the "
                f"statistics of "
                f"batch norm; use at most {max(1, self.batch // 2)} micro-batches"
            )
        return self

    def crop_at(self, resolution: int) -> float:
        """Return the evaluated share of the short side for a resolution in pixels."""
        return resolution / (resolution + CROP_MARGIN) if self.crop is None else self.crop

    @property
    def peak_learning_rate(self) -> float:
        """The peak for the recipe's own batch."""
        return self.learning_rate * (self.batch / self.reference_batch if self.reference_batch else 1.0)


EFFICIENTNET_IMAGENET = Recipe(
    name="efficientnet_imagenet",
    source=(
        "Tan & Le 2019, section 5.2, and the released TensorFlow code: RMSProp decay .9, momentum .9, epsilon .001; "
        "learning rate .016 for each 256 images; 5 epochs of warm-up; x .97 every 2.4 epochs; 350 epochs; weight decay "
        "1e-5 on all but batch norm; label smoothing .1; average .9999; dropout by size; AutoAugment; epoch chosen on "
        "25022 held-out training images. B0 on ImageNet: 77.1% (Table 2)"
    ),
    epochs=350,
    batch=4096,
    optimizer=RmsProp(decay=0.9, momentum=0.9, eps=1e-3),
    learning_rate=0.016,
    reference_batch=256,
    schedule=Staircase(factor=0.97, epochs=2.4),
    warmup_epochs=5,
    weight_decay=1e-5,
    weight_decay_params="all_but_norm",
    label_smoothing=0.1,
    ema_decay=0.9999,
    dropout=BySize(smallest=0.2, largest=0.5),
    drop_path=0.2,
    augmentation=Augmentation(crop_area=(0.08, 1.0), crop_ratio=(3 / 4, 4 / 3), flip=True, policy="autoaugment_v0"),
    crop=None,
    val_share=MINIVAL_SHARE,
)

SMALL = Recipe(
    name="small",
    source="Triscale's default for sets of up to about 100 000 images, trained from scratch",
    # EfficientNet's own 0.01 follows the weights too slowly for a few hundred steps: validation stays at chance.
    norm_momentum=0.1,
)

FINETUNE = Recipe(
    name="finetune",
    source="Triscale's for weights that were trained before: a quarter of small's learning rate, half of its epochs",
    epochs=15,
    learning_rate=1.25e-3,
    warmup_epochs=1,
    norm_momentum=0.1,
    # Chosen on 20 images a class, where it is worth some points (benchmarks/finetune_norms.py).
    norm_statistics="reestimated",
    # Without these, 20 images a class could end 15 points below a linear probe (tests/jobs/test_little_data.py).
    head_init="probe",
    min_steps=200,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (SMALL, FINETUNE, EFFICIENTNET_IMAGENET)}


def get_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        RecipeError: no such name; the message lists the nearest.
    """
    try:
        return RECIPES[name]
    except KeyError:
        hint = nearest(name, RECIPES) or f"; the recipes are {', '.join(RECIPES)}"
        raise RecipeError(f'there is no recipe "{name}"{hint}') from None
