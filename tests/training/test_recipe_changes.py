"""Recipes by name, from files and with changed fields; settings without effect are reported."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.data.checks.duplicates import Duplicates
from triscale.data.pipeline.split import make_split
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import RecipeError, RecordError
from triscale.families import get
from triscale.jobs.training.resolve import for_classes, with_dropout
from triscale.network.custom import CustomNetwork
from triscale.training.changes import changed, find_recipe, unused_settings
from triscale.training.recipe import (
    EFFICIENTNET_IMAGENET,
    MINIVAL_SHARE,
    RECIPES,
    SMALL,
    AdamW,
    BySize,
    Cosine,
    Recipe,
    Sgd,
    Staircase,
)
from triscale.training.schedule import learning_rate


def test_nested_fields_and_kinds_can_be_set():
    recipe = changed(
        SMALL,
        ["mixup=0.2", "optimizer=sgd", "augmentation.crop_area=[0.5, 1]", "schedule.final=0.1", "dropout=by_size"],
    )
    assert recipe.mixup == 0.2
    assert recipe.optimizer == Sgd()
    assert recipe.augmentation.crop_area == (0.5, 1.0)
    assert recipe.augmentation.flip == SMALL.augmentation.flip
    assert recipe.schedule == Cosine(final=0.1)
    assert recipe.dropout == BySize()
    assert changed(SMALL, ["optimizer.beta2=0.99"]).optimizer == AdamW(beta2=0.99)
    assert changed(SMALL, ["optimizer.kind=sgd", "optimizer.momentum=0.8"]).optimizer == Sgd(momentum=0.8)
    assert changed(SMALL, ["schedule=staircase"]).schedule == Staircase()
    assert changed(EFFICIENTNET_IMAGENET, ["crop=null"]) == EFFICIENTNET_IMAGENET


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mixup", "expected field=value"),
        ("=3", "expected field=value"),
        ("mixupp=0.2", "mixup"),
        ("augmentation.magnitud=9", "magnitude"),
        ("optimizer=adam", "adamw"),
        ("epochs=many", "epochs"),
        ("batch=4.5", "batch"),
        ("micro_batches=100", "at most 32 micro-batches"),
        ("optimizer.momentum=0.9", "momentum"),
    ],
)
def test_invalid_setting_error_suggests_correction(setting, message):
    with pytest.raises((RecipeError, RecordError), match=message):
        changed(SMALL, [setting])


def test_recipe_file_is_complete_or_extends_named_recipe(tmp_path):
    whole = tmp_path / "whole.json"
    EFFICIENTNET_IMAGENET.save(whole)
    assert find_recipe(str(whole)) == EFFICIENTNET_IMAGENET
    partial = tmp_path / "mine.json"
    partial.write_text(json.dumps({"base": "efficientnet_imagenet", "epochs": 90, "augmentation": {"flip": False}}))
    result = find_recipe(str(partial))
    assert (result.name, result.epochs, result.augmentation.flip) == ("mine", 90, False)
    assert result.augmentation.policy == "autoaugment_v0"
    assert result.optimizer == EFFICIENTNET_IMAGENET.optimizer
    partial.write_text(json.dumps({"base": "efficientnet", "epochs": 90}))
    with pytest.raises(RecipeError, match="efficientnet_imagenet"):
        find_recipe(str(partial))
    partial.write_text(json.dumps({"base": "small", "epoch": 90}))
    with pytest.raises(RecordError, match="did you mean epochs"):
        find_recipe(str(partial))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (changed(SMALL, ["augmentation.magnitude=17"]), "augmentation.magnitude"),
        (changed(SMALL, ["epochs=3"]), "warmup_epochs"),
        (Recipe(optimizer=Sgd(momentum=0.0, nesterov=True)), "nesterov"),
        (changed(SMALL, ["grad_reduction=fast"]), "grad_reduction"),
        (changed(SMALL, ["norm_over=batch"]), "norm_over"),
    ],
)
def test_ineffective_setting_is_reported(recipe, message):
    (sentence,) = unused_settings(recipe, get("efficientnet_b0"))
    assert message in sentence


def test_setting_inapplicable_to_network_is_reported():
    recipe = changed(SMALL, ["drop_path=0.2", "norm_momentum=null"])
    assert "no residual blocks" in unused_settings(recipe, get("mobilenet_v1"))[0]
    own = CustomNetwork(name="own", function="somewhere:own")
    assert ["drop_path" in sentence for sentence in unused_settings(recipe, own)] == [True]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_built_in_recipes_have_no_ineffective_settings(recipe):
    assert unused_settings(recipe, get("efficientnet_b0")) == ()
    assert recipe.source


def test_dropout_follows_phi_between_paper_values():
    b0 = get("efficientnet_b0")
    rates = [with_dropout(b0, EFFICIENTNET_IMAGENET, phi).dropout for phi in (-3, 0, 3.5, 7, 9)]
    assert rates == [0.2, 0.2, 0.35, 0.5, 0.5]
    assert for_classes(get("efficientnet_b7"), 10, EFFICIENTNET_IMAGENET).dropout == 0.5


@given(st.integers(2, 6), st.integers(40, 400))
@settings(max_examples=25, deadline=None)
def test_minival_is_stratified(classes, each):
    images = tuple(
        ScannedImage(f"{label}/{index}.png", label, 8, 8, 100, "PNG", f"{label}-{index}")
        for label in range(classes)
        for index in range(each)
    )
    names = tuple(str(label) for label in range(classes))
    held = tuple(ScannedImage(f"t/{label}.png", label, 8, 8, 100, "PNG", f"t{label}") for label in range(classes))
    result = Scan(root="somewhere", classes=names, train=images, test=held)
    split = make_split(result, seed=1, val_share=MINIVAL_SHARE, duplicates=Duplicates())
    counts = [sum(sample.label == label for sample in split.val) for label in range(classes)]
    assert counts == [max(1, round(each * MINIVAL_SHARE))] * classes
    assert round(1281167 * MINIVAL_SHARE) == 25022


def test_learning_rate_is_proportional_to_batch_size():
    for batch in (256, 2048, 4096):
        recipe = EFFICIENTNET_IMAGENET.model_copy(update={"batch": batch})
        peak = max(learning_rate(recipe, step, 100) for step in range(10 * 100))
        assert peak == pytest.approx(0.016 * batch / 256 * 499 / 500)  # the last step of the warm-up
