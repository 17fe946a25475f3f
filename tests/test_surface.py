"""The public API that scripts rely on."""

import inspect
import types

import pytest

import triscale as ts
from triscale.api.training_options import TrainingOptions

SURFACE = [
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


def test_public_names_match_expected():
    assert sorted(ts.__all__) == sorted(SURFACE)


def test_every_public_name_exists():
    for name in ts.__all__:
        assert getattr(ts, name) is not None


def test_dir_lists_only_public_names():
    assert dir(ts) == sorted(ts.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        _ = ts.biuld


def test_public_functions_and_classes_are_documented():
    for name in ts.__all__:
        item = getattr(ts, name)
        if isinstance(item, type | types.FunctionType):
            assert item.__doc__, name


def test_documented_snippet_works():
    b0 = ts.get("efficientnet_b0")
    fit = ts.fit_budget(b0, ts.Law(alpha=1.2, beta=1.1, gamma=1.15), ts.Budget(macs=1e9))
    figures = ts.cost(fit.network)
    assert figures.macs <= 1e9
    assert (figures.params > 0, figures.activations > 0) == (True, True)
    assert isinstance(fit.phi, float)
    assert fit.binding == "macs"
    assert ts.build(fit.network).network is fit.network
    assert "efficientnet_l2" in ts.names()
    assert ts.scale(b0, ts.Scale(depth=2)).num_blocks == 2 * b0.num_blocks


def test_keywords_of_trainings_are_stated_alike():
    """The signatures for type checkers take their keywords from one place, which follows the real functions."""
    typed = TrainingOptions.__annotations__
    for function, own in ((ts.fit, {"images", "budget", "baseline"}), (ts.train, {"images", "network", "budget"})):
        parameters = inspect.signature(function).parameters
        assert parameters.keys() - own - {"folds"} == typed.keys()
        assert {name: parameters[name].annotation for name in typed} == {
            name: one.__forward_arg__ for name, one in typed.items()
        }
