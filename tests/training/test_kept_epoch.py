"""Which epoch's weights are kept."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.results.history import Epoch, best_epoch, kept_epoch, kept_note
from triscale.training.recipe import Recipe, get_recipe

RULE = "one_standard_error"


def epoch(number: int, score: float, loss: float = 1.0, *, several: bool = False) -> Epoch:
    metric = {"val_top1": None, "val_map": score} if several else {"val_top1": score}
    return Epoch(
        epoch=number, step=number, learning_rate=0.1, train_loss=1.0, val_loss=loss, images_per_second=1.0,
        seconds=1.0, **metric,
    )  # fmt: skip


def curve(right: list[int], images: int, *, pretrained: bool = False) -> list[Epoch]:
    return [epoch(number, one / images) for number, one in enumerate(right, start=0 if pretrained else 1)]


curves = st.integers(1, 300).flatmap(
    lambda images: st.tuples(st.lists(st.integers(0, images), min_size=1, max_size=12), st.just(images))
)


@given(curves, st.booleans(), st.sampled_from(["one_standard_error", "highest", "last"]))
def test_another_epoch_changes_nothing_or_is_kept_itself(drawn, pretrained, rule):
    """Only the weights of the last epoch and those kept so far are there to choose from."""
    right, images = drawn
    history = curve(right, images, pretrained=pretrained)
    kept = history[0]
    for end in range(1, len(history) + 1):
        chosen = kept_epoch(history[:end], images, rule)
        assert chosen in (kept, history[end - 1])
        kept = chosen


@given(curves)
def test_kept_epoch_is_the_last_within_the_error(drawn):
    right, images = drawn
    kept = kept_epoch(curve(right, images), images, RULE)
    share = (max(right) + 1) / (images + 2)
    allowed = images * math.sqrt(share * (1 - share) / images)
    within = [number for number, one in enumerate(right, start=1) if max(right) - one <= allowed + 1e-9]
    assert kept.epoch == within[-1]


@given(curves, st.sampled_from(["one_standard_error", "highest"]))
def test_pretrained_weights_are_kept_if_no_epoch_reaches_them(drawn, rule):
    right, images = drawn
    kept = kept_epoch(curve(right, images, pretrained=True), images, rule)
    assert (kept.epoch == 0) == (len(right) == 1 or max(right[1:]) < right[0])


def test_few_images_do_not_choose_by_chance_and_many_do():
    assert kept_epoch(curve([30, 37, 36, 36], 40), 40, RULE).epoch == 4
    assert kept_epoch(curve([30_000, 37_000, 36_000, 36_000], 40_000), 40_000, RULE).epoch == 2


def test_collapse_is_not_kept():
    assert kept_epoch(curve([15, 18, 2], 20), 20, RULE).epoch == 2


def test_highest_has_the_lowest_loss_of_equals():
    history = [epoch(1, 0.5, 3.0), epoch(2, 0.5, 2.0), epoch(3, 0.5, 2.5)]
    assert best_epoch(history).epoch == kept_epoch(history, 40, "highest").epoch == 2
    assert kept_epoch(history, 40, RULE).epoch == 3


def test_mean_average_precision_keeps_the_highest():
    assert kept_epoch([epoch(1, 0.52, several=True), epoch(2, 0.51, several=True)], 40, RULE).epoch == 1


@pytest.mark.parametrize(
    ("right", "rule", "words"),
    [
        ([30, 37, 36], "one_standard_error", "epoch 3, 90.0% on the validation images: the last epoch within"),
        ([30, 36, 37], "one_standard_error", "epoch 3, the best on the validation images (92.5%)"),
        ([30, 37, 30], "last", "last epoch, 75.0% on the validation images; the highest is 92.5%"),
    ],
)
def test_sentence_tells_why(right, rule, words):
    history = curve(right, 40)
    assert words in kept_note(history, kept_epoch(history, 40, rule), rule)


def test_recipe_of_an_earlier_run_keeps_its_rule():
    """Its record states none, and its training is resumed and verified by the rule that it began with."""
    assert Recipe.model_validate({"epochs": 3}).kept_epoch == "highest"
    assert {get_recipe(name).kept_epoch for name in ("small", "finetune")} == {RULE}
    assert "kept_epoch" in get_recipe("small").model_dump()
