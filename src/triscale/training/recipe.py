"""How to train: recipes as frozen records, each with its source."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from triscale.data.transforms import Augmentation
from triscale.errors import RecipeError, nearest
from triscale.record import Record

Precision = Literal["auto", "float32", "bfloat16"]


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


Optimizer = Annotated[Sgd | AdamW, Field(discriminator="kind")]


class Cosine(Record):
    """Half a cosine from the full learning rate to ``final`` of it (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1)


class Recipe(Record):
    """Everything that decides what a training computes, besides network, images and seed.

    ``batch`` images make one step; they are cut into ``shards`` equal parts, the unit of batch-norm statistics and of
    memory. ``learning_rate`` is the peak, reached after ``warmup_epochs`` of linear growth. ``weight_decay`` acts on
    weights of convolutions and classifier. ``ema_decay`` is reached through ``(1 + n) / (10 + n)``; the average covers
    batch-norm statistics and is what is evaluated and kept; 0 keeps the weights themselves. ``dropout``, ``drop_path``
    and ``norm_momentum`` are the network's where they are not given. ``crop`` is the side of the center square that is
    evaluated, as a share of the short side. ``precision``: ``auto`` is bfloat16 on CUDA, else float32.
    """

    kind_name: ClassVar[str] = "recipe"

    name: str = "custom"
    source: str = ""
    epochs: PositiveInt = 30
    batch: PositiveInt = 64
    shards: PositiveInt = 1
    optimizer: Optimizer = AdamW()
    learning_rate: PositiveFloat = 2e-3
    schedule: Cosine = Cosine()
    warmup_epochs: NonNegativeFloat = 2.0
    weight_decay: NonNegativeFloat = 0.05
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    norm_momentum: float | None = Field(default=None, gt=0, le=1)
    precision: Precision = "auto"
    augmentation: Augmentation = Augmentation()
    crop: float = Field(default=1.0, gt=0, le=1)


SMALL = Recipe(
    name="small",
    source="Triscale's default for sets of up to about 100 000 images, trained from nothing",
    # EfficientNet's own .01 follows the weights too slowly for a few hundred steps: validation stays at chance.
    norm_momentum=0.1,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (SMALL,)}


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
