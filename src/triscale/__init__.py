"""Triscale fits a convolutional image classifier to a compute budget by scaling depth, width and resolution together.

The parts that need torch are loaded when they are first used; ``import triscale`` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from triscale.api.networks import cost, fit_budget, scale
from triscale.errors import (
    BudgetError,
    DataError,
    Interrupted,
    JobError,
    NetworkError,
    ParityError,
    RecipeError,
    RecordError,
    RunError,
    TriscaleError,
    UserError,
)
from triscale.families import get, names, published
from triscale.network.contract import Preprocessing
from triscale.network.cost import Cost
from triscale.network.custom import CustomNetwork
from triscale.network.spec import (
    Basic,
    BatchNorm,
    Bottleneck,
    Conv,
    FusedMBConv,
    Head,
    MBConv,
    Network,
    Separable,
    SqueezeRule,
    Stage,
    Stem,
    UniversalBottleneck,
)
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit
from triscale.scaling.law import EFFICIENTNET, Law, Scale
from triscale.version import __version__

if TYPE_CHECKING:
    from triscale.api.cross_validation import CrossValidation
    from triscale.api.measurements import compare_latency, measure, profile
    from triscale.api.models import backbone, build, create_model
    from triscale.api.run import Run
    from triscale.api.studies import compare, family, search_baseline, search_coefficients
    from triscale.api.trainings import evaluate, fit, train
    from triscale.api.transforms import transforms
    from triscale.nn.classifier import Classifier
    from triscale.weights.load import load_weights

__all__ = [
    "EFFICIENTNET",
    "Basic",
    "BatchNorm",
    "Bottleneck",
    "Budget",
    "BudgetError",
    "Classifier",
    "Conv",
    "Cost",
    "CrossValidation",
    "CustomNetwork",
    "DataError",
    "Fit",
    "FusedMBConv",
    "Head",
    "Interrupted",
    "JobError",
    "Law",
    "MBConv",
    "Network",
    "NetworkError",
    "ParityError",
    "Preprocessing",
    "RecipeError",
    "RecordError",
    "Run",
    "RunError",
    "Scale",
    "Separable",
    "SqueezeRule",
    "Stage",
    "Stem",
    "TriscaleError",
    "UniversalBottleneck",
    "UserError",
    "__version__",
    "backbone",
    "build",
    "compare",
    "compare_latency",
    "cost",
    "create_model",
    "evaluate",
    "family",
    "fit",
    "fit_budget",
    "get",
    "load_weights",
    "measure",
    "names",
    "profile",
    "published",
    "scale",
    "search_baseline",
    "search_coefficients",
    "train",
    "transforms",
]

_TORCH = {
    "Classifier": "triscale.nn.classifier",
    "CrossValidation": "triscale.api.cross_validation",
    "backbone": "triscale.api.models",
    "create_model": "triscale.api.models",
    "evaluate": "triscale.api.trainings",
    "fit": "triscale.api.trainings",
    "train": "triscale.api.trainings",
    "transforms": "triscale.api.transforms",
    "Run": "triscale.api.run",
    "search_coefficients": "triscale.api.studies",
    "search_baseline": "triscale.api.studies",
    "compare": "triscale.api.studies",
    "family": "triscale.api.studies",
    "measure": "triscale.api.measurements",
    "compare_latency": "triscale.api.measurements",
    "profile": "triscale.api.measurements",
    "build": "triscale.api.models",
    "load_weights": "triscale.weights.load",
}


def __getattr__(name: str) -> Any:
    """Load the parts that need torch on first use."""
    if name in _TORCH:
        return getattr(import_module(_TORCH[name]), name)
    raise AttributeError(f"module 'triscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
