"""Requests, storage location and options of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from triscale.data.images.transforms import check_channels
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.sources.named import absolute_images
from triscale.errors import SearchError, UserError
from triscale.jobs.training.request import match_channels
from triscale.network.custom import AnyNetwork
from triscale.network.latency import Predictor
from triscale.record import Record, SparseRecord
from triscale.scaling.budget import Budget
from triscale.scaling.law import EFFICIENTNET
from triscale.scaling.piecewise import AnyLaw
from triscale.search.baseline.explore import EvaluatorName, SearchPlan, TableSource
from triscale.search.baseline.objective import EXPONENT, CostName, SearchObjective
from triscale.search.baseline.options import MENUS, Choices
from triscale.search.baseline.ranking import MIN_NETWORKS
from triscale.search.coefficients.grid import Count, Grid
from triscale.search.compare.contenders import Comparison, FitAny, equal_cost
from triscale.training.changes import changed
from triscale.training.recipe import Recipe

Method = Literal["grid", "halving", "response"]
PROXY_EPOCHS = 5
"""Epochs of a candidate's training in a search by default."""


class StudyRequest(Record):
    """The request of a study: the same request resumes the study, a different one is refused.

    ``share`` of the training images of each class is used. ``recipe`` contains the number of epochs.
    """

    images: str
    baseline: AnyNetwork
    recipe: Recipe
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    share: float = Field(default=1.0, gt=0, le=1)
    split_seed: int = 0
    data: DataOptions = DEFAULT_DATA


class StudyLocation(Record):
    """Where a study is stored: the URL of a server without its password, or None for a file in the study's folder."""

    kind_name: ClassVar[str] = "study_location"
    file_name: ClassVar[str] = "study.json"

    storage: str | None
    study: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """Storage of a study, and what it accepts.

    Attributes:
        storage: URL of a PostgreSQL database shared by several machines; None for a file in the study's directory.
        study: Name of the study in the storage; None for the default name.
        allow_leak: Whether networks may be evaluated on copies of training images.
    """

    storage: str | None = None
    study: str | None = None
    allow_leak: bool = False

    def at(self, location: StudyLocation) -> StudyOptions:
        """Return the same options with the storage and the name of a location."""
        return replace(self, storage=location.storage, study=location.study)


DEFAULT_STUDY = StudyOptions()


class CoefficientSearchRequest(StudyRequest):
    """The request of a coefficient search.

    Candidates are scored on the validation images, never on the test images.
    """

    kind_name: ClassVar[str] = "search"
    schema_number: ClassVar[int] = 3

    grid: Grid
    method: Method


class ComparisonRequest(StudyRequest, SparseRecord):
    """The request of a comparison; networks are evaluated on the test images.

    ``laws`` are compared instead of single dimensions and ``law``; they are left out of JSON if there are none.
    """

    kind_name: ClassVar[str] = "compare"
    schema_number: ClassVar[int] = 3
    sparse: ClassVar[tuple[str, ...]] = ("laws",)

    times: float = 4.0
    law: AnyLaw = EFFICIENTNET
    phi: float = 0.0
    laws: dict[str, AnyLaw] | None = None

    def networks(self, baseline: AnyNetwork, fit: FitAny, count: Count) -> Comparison:
        """Return the networks to compare, scaled from a baseline with the classes of the images."""
        return equal_cost(baseline, self.times, law=self.law, laws=self.laws, phi=self.phi, fit=fit, count=count)


class BaselineSearchRequest(StudyRequest, SparseRecord):
    """The request of a baseline search; ``baseline`` is the skeleton.

    ``recipe`` and ``seeds`` define the short trainings. The best ``finalists`` networks are trained for
    ``final_epochs``. A supernet is trained with the same recipe for ``supernet_epochs``; ``checked`` random networks of
    the space are then trained stand-alone, to check whether the supernet ranks them in the same order. If the cost is
    latency, it is predicted by ``predictor``, or measured on this machine if that is None. Networks are scored on the
    validation images, never on the test images. With the evaluator ``table``, ``images`` is empty and nothing is
    trained: accuracies are read from ``table``, and the recipe, seeds and finalists have no effect.
    """

    kind_name: ClassVar[str] = "baseline_search"
    schema_number: ClassVar[int] = 3
    sparse: ClassVar[tuple[str, ...]] = ("table",)

    space: str
    choices: Choices
    objective: SearchObjective
    predictor: Predictor | None = None
    strategy: str
    search_seed: int = 0
    plan: SearchPlan = SearchPlan()
    evaluator: EvaluatorName = "training"
    table: TableSource | None = None
    supernet_epochs: PositiveInt = 30
    checked: int = Field(default=8, ge=MIN_NETWORKS)
    finalists: int = Field(default=3, ge=0)
    final_epochs: PositiveInt = 30


def study_fields(
    images: str,
    baseline: AnyNetwork,
    recipe: Recipe,
    *,
    settings: Sequence[str] | Mapping[str, Any] = (),
    epochs: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    share: float = 1.0,
    data: DataOptions = DEFAULT_DATA,
) -> dict[str, object]:
    """Return the fields that all requests of studies have.

    Args:
        images: A folder, table, URL or named data set; empty for a search without trainings.
        baseline: The network that is scaled or searched from.
        recipe: How candidates are trained.
        settings: Changes of the recipe: ``field=value``, or a mapping from fields to values.
        epochs: Epochs of each training; None for the recipe's.
        seeds: Seeds of each network's trainings.
        share: Share of the training images of each class to train on.
        data: How the images are read, and what is tolerated.

    Raises:
        UserError: A seed is given twice.
        RecipeError: A setting has another form.
        RecordError: A field of the recipe is unknown, or a value does not fit.
    """
    if len(set(seeds)) < len(seeds):
        raise UserError(f"the list of seeds {', '.join(map(str, seeds))} contains a seed twice; give each seed once")
    chosen = changed(recipe, settings)
    baseline, data = match_channels(baseline, data)
    check_channels(chosen.augmentation, baseline.in_channels)
    return {
        "images": absolute_images(images) if images else "",
        "baseline": baseline,
        "recipe": chosen if epochs is None else chosen.replace(epochs=epochs),
        "seeds": tuple(seeds),
        "share": share,
        "data": data,
    }


def make_objective(
    target: str,
    *,
    cost: CostName | None = None,
    form: Literal["soft", "hard", "constraint"] = "soft",
    exponent: float = EXPONENT,
) -> SearchObjective:
    """Return the objective of a baseline search; the unit of the target determines the kind of cost.

    Args:
        target: A single limit such as ``400M`` (MACs), ``5M params`` or ``20ms``.
        cost: Kind of cost; by default that of the target.
        form: How the reward depends on the cost.
        exponent: Exponent of cost / target in the soft form.

    Raises:
        BudgetError: The target cannot be parsed.
        SearchError: The target is not a single limit on MACs, parameters or latency, or contradicts the kind of cost.

    Example:
        >>> make_objective("20ms").cost
        'latency'
    """
    budget = Budget.of(target)
    amounts = {"macs": budget.macs, "params": budget.params, "latency": budget.latency}
    named, amount = next(((name, value) for name, value in amounts.items() if value is not None), ("", 0.0))
    if len(budget.limits) > 1 or not named:
        raise SearchError(
            f'the target "{target}" must be a single limit on MACs, parameters or latency: 400M, 5M params or 20ms'
        )
    if cost is not None and cost != named:
        raise SearchError(f'the cost {cost} contradicts the target "{target}", which limits {named}; leave cost out')
    return SearchObjective.parse({"cost": named, "target": amount, "form": form, "exponent": exponent}, "the objective")


def find_choices(space: str, resolutions: tuple[int, ...] = ()) -> tuple[str, Choices]:
    """Return the name and the choices of a search space.

    Args:
        space: A name, or a JSON file of choices.
        resolutions: Resolutions in pixels to choose from; by default that of the skeleton.

    Raises:
        SearchError: There is no such space.
        RecordError: The file does not hold choices.

    Example:
        >>> find_choices("tiny", (32, 64))[1].resolutions
        (32, 64)
    """
    path = Path(space)
    if path.suffix == ".json" or path.is_file():
        choices, name = Choices.load(path), path.stem
    elif space in MENUS:
        choices, name = Choices(options=(MENUS[space],)), space
    else:
        raise SearchError(f'there is no space "{space}"; give {", ".join(MENUS)}, or a .json file of choices')
    return name, choices.replace(resolutions=resolutions) if resolutions else choices
