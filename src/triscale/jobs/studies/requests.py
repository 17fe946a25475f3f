"""What is requested of a study, where it is kept, and what it accepts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from triscale.network.custom import AnyNetwork
from triscale.network.latency import Predictor
from triscale.record import Record
from triscale.scaling.law import EFFICIENTNET, Law
from triscale.search.baseline.explore import SearchPlan
from triscale.search.baseline.objective import Objective
from triscale.search.baseline.options import Choices
from triscale.search.baseline.ranking import MIN_NETWORKS
from triscale.search.coefficients.grid import Grid
from triscale.training.recipe import Recipe

Method = Literal["grid", "halving", "response"]


class StudyRequest(Record):
    """What was asked of a study: the same request continues with it, another one is refused.

    ``share`` of the training images of every class is trained on. ``recipe`` holds the epochs.
    """

    images: str
    baseline: AnyNetwork
    recipe: Recipe
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    share: float = Field(default=1.0, gt=0, le=1)
    split_seed: int = 0


class StudyLocation(Record):
    """Where the study of a folder lies: on a server, without its password, or in the folder's own file."""

    kind_name: ClassVar[str] = "study_place"
    file_name: ClassVar[str] = "study.json"

    storage: str | None
    study: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """Where a study is kept, and what it accepts.

    Attributes:
        storage: URL of a PostgreSQL database shared by several machines; None for a file in the study's directory.
        study: Name of the study there, instead of the one that the job gives it.
        allow_leak: Whether copies of training images may be scored on.
    """

    storage: str | None = None
    study: str | None = None
    allow_leak: bool = False

    def at(self, location: StudyLocation) -> StudyOptions:
        """Return the same options with the storage and the name of a location."""
        return replace(self, storage=location.storage, study=location.study)


DEFAULT_STUDY = StudyOptions()


class CoefficientSearchRequest(StudyRequest):
    """What was asked of a search for coefficients.

    Candidates are scored on the images that are held out of training, never on those for testing.
    """

    kind_name: ClassVar[str] = "search"
    schema_number: ClassVar[int] = 2

    grid: Grid
    method: Method


class ComparisonRequest(StudyRequest):
    """What was asked of a comparison; networks are tested on the test images."""

    kind_name: ClassVar[str] = "compare"
    schema_number: ClassVar[int] = 2

    times: float = 4.0
    law: Law = EFFICIENTNET
    phi: float = 0.0


class BaselineSearchRequest(StudyRequest):
    """What was asked of a search for a baseline; ``baseline`` is the skeleton.

    ``recipe`` and ``seeds`` are those of the brief trainings. The ``finalists`` best are trained for ``final_epochs``.
    A supernet is trained for ``supernet_epochs`` of the same recipe; ``checked`` networks of the space, drawn by
    chance, are then trained briefly by themselves, to see whether it orders them alike. Where the cost is latency, it
    is predicted by ``predictor``, or measured here if there is none.
    Networks are scored on the images that are held out of training, never on those for testing.
    """

    kind_name: ClassVar[str] = "baseline_search"
    schema_number: ClassVar[int] = 2

    space: str
    choices: Choices
    objective: Objective
    predictor: Predictor | None = None
    strategy: str
    search_seed: int = 0
    plan: SearchPlan = SearchPlan()
    evaluator: Literal["training", "supernet"] = "training"
    supernet_epochs: PositiveInt = 30
    checked: int = Field(default=8, ge=MIN_NETWORKS)
    finalists: int = Field(default=3, ge=0)
    final_epochs: PositiveInt = 30
