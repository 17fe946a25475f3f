"""Doubtful class names are named before training, and mirroring is off where it would change a class."""

import pytest

from triscale.data.checks.class_names import name_warnings, refuse_measured_values
from triscale.data.checks.mirroring import mirrored_classes
from triscale.data.pipeline.scan import scan
from triscale.errors import DataError
from triscale.lettering import ellipsize, load_font
from triscale.training.mirroring import flip_note, with_flip
from triscale.training.recipe import EFFICIENTNET_IMAGENET, Recipe

from .pictures import write_classes


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("cat", "NaN"), 'class name "NaN" looks like a missing label'),
        (("null", "None", "x"), 'class names "null", "None" look like missing labels'),
        (("0", "0.0", "1"), '"0", "0.0" are the same number'),
        (("1", "01", "2"), '"1", "01" are the same number'),
        (("1", "1e0"), '"1", "1e0" are the same number'),
        (("Cat", "cat", "dog"), '"Cat", "cat" differ only in case'),
        (("hot dog", "hot_dog", "Hotdog"), "differ only in case, spaces or underscores"),
        (("dog", "dog "), "begin or end with a space"),
        (("a\nb", "c"), r'control characters.*: "a\\nb"'),
        (("cat", "cat\u200b"), r'invisible characters (U.200B ZERO WIDTH SPACE): "cat\\u200b"; rename'),
        (("cat", "c\u00adat"), "U.00AD SOFT HYPHEN"),
        (("cat", "\u202ecat"), "U.202E RIGHT-TO-LEFT OVERRIDE"),
        (tuple(f"IMG_{number}" for number in range(20)), "look like identifiers"),
    ],
)
def test_doubtful_names_are_named(classes, expected):
    import re

    text = "\n".join(name_warnings(classes, 30))
    assert re.search(expected.replace("(", r"\(").replace(")", r"\)"), text), text


@pytest.mark.parametrize(
    "classes",
    [
        ("cat", "dog"),
        ("-1", "1"),
        ("0", "1", "10"),
        ("c", "c++"),
        ("nancy", "nonel"),
        ("1.5", "15"),
        ("café", "cafe"),
        ("\u0645\u06cc\u200c\u062e", "x"),
    ],
)
def test_ordinary_names_cause_no_warning(classes):
    assert name_warnings(classes, 60) == []


def test_measured_values_are_refused(tmp_path):
    values = [f"{number / 7:.2f}" for number in range(12)]
    write_classes(tmp_path, dict.fromkeys(values, 1))
    with pytest.raises(DataError, match="regression and ordinal targets are out of scope"):
        scan(tmp_path)
    assert refuse_measured_values(["0.5", "1.0", "1.5"], 60) == []
    assert refuse_measured_values([str(number) for number in range(12)], 12) == []


@pytest.mark.parametrize(
    "classes",
    [
        ("left", "right"), ("arrow_left", "arrow_right"), ("turnLeft", "turnRight"), ("hand_l", "hand_r"),
        ("leftarrow", "rightarrow"), ("links", "rechts"), ("gauche", "droite"), ("Izquierda", "Derecha"), ("<", ">"),
        ("clockwise", "counter-clockwise"), ("cw", "ccw"), ("b", "d"), ("p", "q"), ("←", "→"), ("左", "右"),
        ("turn left", "straight", "right turn"), ("left_turn", "other"), ("eye OD", "eye OS"), ("forward", "backward"),
        tuple("0123456789"), tuple("abc"), ("digit_3", "digit_4"), ("A", "B", "nothing"), ("zero", "one", "two"),
        ("Sprain (L)", "Sprain (R)"), ("links abbiegen", "rechts abbiegen"),
    ],
)  # fmt: skip
def test_mirroring_is_off_where_names_speak_against_it(classes):
    assert with_flip(Recipe(), classes).augmentation.flip is False
    assert "--flip mirrors them" in flip_note(Recipe(), classes)


@pytest.mark.parametrize(
    "classes",
    [
        ("cat", "dog"), ("bright", "dark"), ("class_1", "class_2"), ("grade 0", "grade 1"), ("right whale", "orca"),
        ("leftover", "fresh"), ("port", "wine"), ("West Highland terrier", "East Siberian laika"), ("one", "two"),
        ("model_b", "model_c"), ("cirque", "piqué"),
    ],
)  # fmt: skip
def test_ordinary_names_are_mirrored(classes):
    assert mirrored_classes(classes) is None
    assert with_flip(Recipe(), classes).augmentation.flip is True
    assert with_flip(EFFICIENTNET_IMAGENET, classes).augmentation.flip is True
    assert flip_note(Recipe(), classes) is None


def test_an_explicit_choice_is_kept():
    recipe = Recipe(augmentation={"flip": True})
    assert with_flip(recipe, ("left", "right")) == recipe
    assert "--no-flip turns it off" in flip_note(recipe, ("left", "right"))


def test_names_with_control_characters_are_drawn():
    assert ellipsize("a\nb\tc\x1b", load_font(12), 200) == "a\ufffdb\ufffdc\ufffd"
