"""The default recipe for a number of images: small sets get more epochs and smaller batches, large ones fewer."""

from __future__ import annotations

from typing import get_args

import pytest

from conftest import write_classes
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.jobs.training.request import choose_training, make_request
from triscale.jobs.training.settle import Conditions, settle
from triscale.training.automatic import automatic, automatic_batch, automatic_epochs
from triscale.training.context import DEFAULT_CONTEXT
from triscale.training.recipe import FINETUNE, SMALL, AutomaticField

SIZES = (50, 300, 1000, 10_000, 100_000, 1_281_167)


@pytest.mark.parametrize("recipe", [SMALL, FINETUNE], ids=lambda recipe: recipe.name)
def test_epochs_fall_and_the_images_seen_grow(recipe):
    chosen = [automatic(recipe, get_args(AutomaticField), size) for size in SIZES]
    epochs = [each.epochs for each in chosen]
    seen = [each.epochs * size for each, size in zip(chosen, SIZES, strict=True)]
    assert epochs == sorted(epochs, reverse=True)
    assert seen == sorted(seen)
    assert automatic_epochs(recipe.epochs, 10_000) == recipe.epochs


def test_memory_limits_the_batch():
    assert automatic_batch(64, 10_000, max_batch=20) == 16
    assert automatic_batch(64, 10_000, max_batch=1) == 2
    assert automatic_batch(64, 10_000) == 64


def test_given_values_win():
    assert choose_training(None).fields == ("epochs", "batch", "learning_rate")
    assert choose_training(None, fields={"epochs": 3, "batch": None}).fields == ("batch", "learning_rate")
    assert choose_training(None, fields={"batch": 8}).fields == ("epochs",)
    assert choose_training(None, settings=["learning_rate=0.1"]).fields == ("epochs", "batch")
    assert choose_training(None, settings={"micro_batches": 4}).fields == ("epochs",)
    assert choose_training("small").fields == ()


def test_run_records_concrete_values(tmp_path, tiny):
    folder = write_classes(tmp_path / "images", 20)
    request = make_request(str(folder), tiny, recipe=choose_training(None, fields={"epochs": 7}))
    settled, _, _ = settle(request, make_split(scan(str(folder))), DEFAULT_CONTEXT, Conditions())
    assert (settled.recipe.epochs, settled.recipe.batch) == (7, 16)
    named = make_request(str(folder), tiny, recipe=choose_training("small"))
    settled, _, _ = settle(named, make_split(scan(str(folder))), DEFAULT_CONTEXT, Conditions())
    assert (settled.recipe.epochs, settled.recipe.batch) == (SMALL.epochs, SMALL.batch)
    assert settled.open is None


def test_inherited_weights_train_at_half_of_the_rate_of_those_of_the_same_network(trained_run, tiny):
    """At the full rate, published weights of half of the size fell to chance (results/inherited_rate.txt)."""
    folder = str(trained_run.parent / "images")
    narrow = tiny.replace(name="narrow", head=tiny.head.replace(width=tiny.head.width // 2))
    for network, weights, factor in ((tiny, f"{trained_run}", 1), (narrow, f"inherit:{trained_run}", 0.5)):
        request = make_request(folder, network, weights=weights, recipe=choose_training(None, weights=weights))
        settled, _, _ = settle(request, make_split(scan(folder)), DEFAULT_CONTEXT, Conditions())
        assert settled.recipe.learning_rate == factor * FINETUNE.learning_rate
        assert settled.recipe.epochs == 40
    named = make_request(folder, narrow, weights=weights, recipe=choose_training("finetune", weights=weights))
    settled, _, _ = settle(named, make_split(scan(folder)), DEFAULT_CONTEXT, Conditions())
    assert settled.recipe.learning_rate == FINETUNE.learning_rate
