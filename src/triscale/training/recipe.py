"""Training recipes as frozen records, each with its source."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from triscale.data.images.transforms import Augmentation
from triscale.errors import RecipeError, nearest
from triscale.record import Record, SparseRecord
from triscale.results.history import KeptEpoch
from triscale.training.objective import ClassWeights, CrossEntropy, Distillation, Loss, Sampling
from triscale.training.progressive import Progressive

CROP_MARGIN = 32
"""Pixels by which the resized image is larger than the crop in the released EfficientNet code."""

MINIVAL_SHARE = 25022 / 1281167
"""20 of the 1024 shards of ImageNet's training images; the released code uses them to choose the checkpoint."""

Decoder = Literal["pillow", "torchcodec"]
Precision = Literal["auto", "float32", "bfloat16"]
GradReduction = Literal["deterministic", "fast"]
NormOver = Literal["micro_batch", "batch"]
NormStatistics = Literal["trained", "frozen", "frozen_first", "reestimated"]
Quantization = Literal["none", "int8"]
HeadInit = Literal["random", "probe"]
AutomaticField = Literal["epochs", "batch", "learning_rate"]
"""Fields of the default recipe that may be left open: epochs and batch size follow from the number of training images,
the learning rate from the initial weights alone."""


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
    """Step decay: times ``factor`` every ``epochs`` epochs, counted from the first step, warm-up included."""

    kind: Literal["staircase"] = "staircase"
    factor: float = Field(default=0.97, gt=0, lt=1)
    epochs: PositiveFloat = 2.4


class BySize(Record):
    """Dropout that grows linearly with phi: ``smallest`` at 0, ``largest`` from 7 on (Tan & Le 2019, section 5.2).

    Example:
        >>> round(BySize().at(3.5), 3)
        0.35
    """

    kind: Literal["by_size"] = "by_size"
    smallest: float = Field(default=0.2, ge=0, lt=1)
    largest: float = Field(default=0.5, ge=0, lt=1)

    def at(self, phi: float) -> float:
        """Return the rate at phi."""
        return self.smallest + (self.largest - self.smallest) * min(1.0, max(0.0, phi / 7))


Schedule = Annotated[Cosine | Staircase, Field(discriminator="kind")]
WeightDecayParams = Literal["weights", "all_but_norm"]


class Recipe(SparseRecord):
    """Everything that determines the result of a training, apart from network, images and seed.

    Attributes:
        name: Name of the recipe.
        source: Where its values come from.
        epochs: How often every training image is seen.
        batch: Batch size: images per step, over all processes.
        min_steps: Minimum number of steps. If a small data set gives fewer, each epoch repeats it several times.
        micro_batches: Number of equal parts of a batch. A micro-batch is the unit of batch-norm statistics, of memory
            use and of the work of a process.
        optimizer: The optimizer and its settings.
        learning_rate: The peak, reached after a linear warm-up of ``warmup_epochs``.
        reference_batch: Batch size that ``learning_rate`` is stated for; it is scaled linearly with ``batch``. None
            leaves it unscaled.
        schedule: How the learning rate decays.
        warmup_epochs: Epochs of linear warm-up.
        weight_decay: Coefficient of the weight decay.
        weight_decay_params: Which parameters decay: the ``weights`` of convolutions and linear layers, or
            ``all_but_norm``.
        label_smoothing: Share of the target that is spread over all classes.
        ema_decay: Decay of the exponential moving average, reached through ``(1 + n) / (10 + n)``. The average includes
            batch-norm statistics; it is what is evaluated and kept. 0 keeps the trained weights.
        dropout: Dropout before the classifier. None takes the network's, also for ``drop_path`` and ``norm_momentum``.
        drop_path: Stochastic depth rate of the last block; earlier blocks have proportionally less.
        norm_momentum: Momentum of batch norm's running statistics, in PyTorch's sense.
        precision: ``auto`` is bfloat16 on GPUs that compute it in hardware, else float32. A new run on a CPU that does
            so records bfloat16 in its place, except for custom models and with fake quantization.
        augmentation: Augmentation of the training images.
        decoder: Decodes and resizes the training images. ``torchcodec`` (extra ``fast``) is faster; some of its pixels
            differ by one level.
        mixup: Alpha of the Beta distribution of mixup (https://arxiv.org/abs/1710.09412); 0 turns it off.
        cutmix: The same for CutMix (https://arxiv.org/abs/1905.04899). With both, each micro-batch gets one at random.
        crop: Side of the evaluated center crop as a share of the short side. None is EfficientNet's rule,
            ``resolution / (resolution + 32)``.
        val_share: Share of the training images of every class that is used for validation, if the data set has no
            validation split.
        grad_reduction: ``deterministic`` adds the gradients of micro-batches in a fixed order, so that any number of
            processes gives bitwise the same result. ``fast`` overlaps the all-reduce with the backward pass of the last
            micro-batch and leaves the order to the backend.
        norm_over: ``batch`` computes batch-norm statistics over all micro-batches (one for each process) instead of
            each ``micro_batch``.
        norm_statistics: ``trained`` updates batch-norm statistics as usual. ``frozen`` keeps those of the pretrained
            weights, ``frozen_first`` during the first half of the steps. ``reestimated`` trains as usual and recomputes
            those of the averaged weights after each epoch.
        head_init: Initialization of a new classifier on pretrained weights: ``random``, or a linear ``probe`` of their
            features (:mod:`triscale.jobs.training.linear_probe`) for at most 20,000 training images.
        head_epochs: Epochs at the start in which only the classifier is trained, with frozen batch-norm statistics.
        layer_decay: Layer-wise learning rate decay: the learning rate of each stage as a share of the next one's. The
            classifier has the full learning rate.
        quantization: ``int8`` trains with fake quantization (:mod:`triscale.training.fake_quantize`). The weights that
            are kept and evaluated are float32.
        patience: Early stopping: epochs without an improvement on the validation images before training ends.
        kept_epoch: Which epoch's weights are kept: the last one within ``one_standard_error`` of the highest validation
            accuracy, the ``highest``, or the ``last`` (:func:`triscale.results.history.kept_epoch`).
        loss: ``cross_entropy``; ``focal`` gives well classified images less weight; ``asymmetric`` also tells present
            from absent labels, for images with any number of labels.
        class_weights: ``balanced`` weighs the loss of each class by the inverse of its frequency.
        sampling: ``balanced`` draws images of all classes equally often; an epoch keeps its number of images.
        logit_adjustment: Multiple of the logarithm of each class's frequency that is added to its logit in training, so
            that rare classes are predicted as readily as others (https://arxiv.org/abs/2007.07314); 1 is usual.
        distillation: How the teacher is followed, if there is one (``--teacher``).
        progressive: Progressive learning: stages with growing images and regularization.
        replay_every: Silent corruption: one of so many steps is taken twice, the second time from a copy of the state
            and with its images read again, and both results must be bitwise equal. It does not change the result. 0
            turns it off (:mod:`triscale.training.replay`).
        norm_sparsity: Weight of the sum of absolute batch norm scales that is added to the loss, 1e-5 to 1e-3, to train
            a network that is then pruned by them (``--weights prune:RUN``); reported losses are without it.

    Example:
        >>> Recipe(batch=512, reference_batch=256, learning_rate=0.016).peak_learning_rate
        0.032
    """

    kind_name: ClassVar[str] = "recipe"
    sparse: ClassVar[tuple[str, ...]] = ("loss", "class_weights", "sampling", "logit_adjustment", "distillation",
                                           "progressive", "replay_every", "norm_sparsity", "kept_epoch")  # fmt: skip
    schema_number: ClassVar[int] = 2

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
    kept_epoch: KeptEpoch = "highest"  # the rule of runs whose recipe states none
    loss: Loss = CrossEntropy()
    class_weights: ClassWeights = "none"
    sampling: Sampling = "uniform"
    logit_adjustment: NonNegativeFloat = 0.0
    distillation: Distillation = Distillation()
    progressive: Progressive = Progressive()
    replay_every: NonNegativeInt = 100
    norm_sparsity: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _check_micro_batches(self) -> Recipe:
        if self.batch < 2 * self.micro_batches and self.micro_batches > 1:
            raise ValueError(
                f"{self.micro_batches} micro-batches of a batch of {self.batch} leave fewer than two images for "
                f"batch-norm statistics; use at most {max(1, self.batch // 2)} micro-batches"
            )
        return self

    def crop_at(self, resolution: int) -> float:
        """Return the share of the short side that is evaluated at a resolution in pixels."""
        return resolution / (resolution + CROP_MARGIN) if self.crop is None else self.crop

    @property
    def peak_learning_rate(self) -> float:
        """The peak learning rate, scaled to the recipe's batch size."""
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
    augmentation=Augmentation(crop_area=(0.08, 1.0), crop_ratio=(3 / 4, 4 / 3), policy="autoaugment_v0"),
    crop=None,
    val_share=MINIVAL_SHARE,
)

EFFICIENTNETV2_IMAGENET = EFFICIENTNET_IMAGENET.replace(
    name="efficientnetv2_imagenet",
    source=(
        "Tan & Le 2021, section 5.1 and table 6, for V2-S at a training size of 300 pixels: as efficientnet_imagenet, "
        "with four stages that grow from 128 pixels, RandAugment 5 and dropout .1 to 300 pixels, 15 and .3, without "
        "mixup. V2-S on ImageNet: 83.9% (table 7)"
    ),
    dropout=0.3,
    augmentation=EFFICIENTNET_IMAGENET.augmentation.replace(policy="randaugment", magnitude=15),
    progressive=Progressive(stages=4, size=128 / 300),
)

SMALL = Recipe(
    name="small",
    source="Triscale's default for sets of up to about 100 000 images, trained from scratch",
    # EfficientNet's own 0.01 lags behind the weights within a few hundred steps: validation stays at chance level.
    norm_momentum=0.1,
    # Few validation images choose the highest at random (benchmarks/epoch_choice.py).
    kept_epoch="one_standard_error",
)

FINETUNE = Recipe(
    name="finetune",
    source="Triscale's for weights that were trained before: a quarter of small's learning rate, half of its epochs",
    epochs=15,
    learning_rate=1.25e-3,
    warmup_epochs=1,
    norm_momentum=0.1,
    # With statistics of small batches, published weights compute something else than what the classifier was fitted to
    # (benchmarks/finetune_policies.py).
    norm_statistics="frozen",
    # Without these, 20 images per class could end 15 points below a linear probe (tests/jobs/test_little_data.py).
    head_init="probe",
    min_steps=200,
    kept_epoch="one_standard_error",
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (SMALL, FINETUNE, EFFICIENTNET_IMAGENET, EFFICIENTNETV2_IMAGENET)
}


def get_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        RecipeError: There is no such name; the message suggests the nearest.

    Example:
        >>> get_recipe("efficientnet_imagenet").peak_learning_rate
        0.256
    """
    try:
        return RECIPES[name]
    except KeyError:
        hint = nearest(name, RECIPES) or f"; the recipes are {', '.join(RECIPES)}"
        raise RecipeError(f'there is no recipe "{name}"{hint}') from None
