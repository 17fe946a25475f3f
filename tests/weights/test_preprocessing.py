"""What a user knows of a file that carries no metadata: preprocessing and class names."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from cli.command import refused, run
from triscale.errors import WeightsError
from triscale.nn.build import build
from triscale.weights.catalog import imagenet_classes, published
from triscale.weights.export import export_state
from triscale.weights.load import contract_of, import_file
from triscale.weights.preprocessing import (
    GivenPreprocessing,
    read_class_names,
    with_class_names,
    with_preprocessing,
)
from triscale.weights.sources import network_of

UNKNOWN = published("timm/mobilenetv2_050.lamb_in1k").replace(preprocessing=None, classes=None)
NAME = ("--source", "timm", "--name", "mobilenetv2_035")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    network = network_of("timm", "mobilenetv2_035").replace(classes=3)
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save_file(dict(export_state(build(network).state_dict(), network, "timm", "mobilenetv2_035")), path)
    return path


def test_import_without_preprocessing_says_that_accuracy_depends_on_it(file, tmp_path, capsys):
    result = run(capsys, "weights", "import", file, *NAME, "--out", tmp_path / "b.safetensors")
    assert "the preprocessing of these weights is not known, and accuracy depends on it" in result.out
    assert "--interpolation and --crop" in result.out
    assert "preprocessing unknown" in run(capsys, "weights", "info", tmp_path / "b.safetensors").out


def test_published_preprocessings_of_the_network_are_shown():
    (note,) = with_preprocessing(UNKNOWN, GivenPreprocessing())[1]
    assert "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --interpolation bicubic --crop 0.875" in note
    assert "(timm/mobilenetv2_050.lamb_in1k)" in note


def test_options_of_the_command_are_in_the_contract(file, tmp_path, capsys):
    names, out = tmp_path / "names.txt", tmp_path / "b.safetensors"
    names.write_text("Wolf\nFuchs\nBär\n\n", encoding="utf-8")
    options = ("--mean", "0.5", "--std", "0.25,0.5,0.75", "--interpolation", "bilinear", "--crop", "0.9")
    result = run(
        capsys, "weights", "import", file, *NAME, "--out", out, *options, "--resolution", "128x96", "--classes", names
    )
    assert result.code == 0
    assert "accuracy depends" not in result.out
    contract = contract_of(str(out))
    images = contract.preprocessing
    assert (images.mean, images.std, images.interpolation) == ((0.5, 0.5, 0.5), (0.25, 0.5, 0.75), "bilinear")
    assert (images.crop, images.input_shape, contract.network.input_shape) == (0.9, (3, 96, 128), (3, 96, 128))
    assert contract.classes == ("Wolf", "Fuchs", "Bär")
    assert contract.network.classes == 3


def test_imported_file_can_be_completed(file, tmp_path, capsys):
    first, second = tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    run(capsys, "weights", "import", file, *NAME, "--out", first)
    assert run(capsys, "weights", "import", first, *NAME, "--out", second, "--mean", "0.5", "--std", "0.5").code == 0
    assert contract_of(str(second)).preprocessing.mean == (0.5, 0.5, 0.5)


def test_what_is_not_given_is_assumed_with_a_note():
    weights, (note,) = with_preprocessing(UNKNOWN, GivenPreprocessing(mean=(0.5,), std=(0.5,)))
    assert note == "assumed, since not given: interpolation bicubic, crop 1.0; accuracy depends on it"
    assert weights.preprocessing.std == (0.5, 0.5, 0.5)


def test_departure_from_the_published_preprocessing_is_a_note():
    known = published("timm/mobilenetv2_050.lamb_in1k")
    weights, (note,) = with_preprocessing(known, GivenPreprocessing(crop=1.0))
    assert note == "the preprocessing is as given, not as published: crop 1.0 instead of 0.875"
    assert weights.preprocessing.mean == known.preprocessing.mean
    assert with_preprocessing(known, GivenPreprocessing(crop=0.875)) == (known, ())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": (123.675, 116.28, 103.53)}, "expected values from 0 to 1: --mean 0.485,0.456,0.406"),
        ({"std": (0.0,)}, "--std 0: expected values above 0"),
        ({"mean": (-0.1,)}, "--mean -0.1: expected values from 0 to 1"),
        ({"mean": (0.4, 0.5)}, "--mean 0.4,0.5 has 2 values; expected one for each of 3 channels, or one for all"),
        ({"crop": 87.5}, "--crop 87.5: expected a share of the shorter side, such as 0.875"),
    ],
)
def test_values_out_of_range_are_refused_with_what_is_expected(given, message):
    with pytest.raises(WeightsError) as caught:
        with_preprocessing(UNKNOWN, GivenPreprocessing(**given))
    assert message in str(caught.value)


def test_text_instead_of_numbers_is_refused(file, tmp_path, capsys):
    message = refused(capsys, "weights", "import", file, *NAME, "--out", tmp_path / "b", "--mean", "imagenet")
    assert "--mean imagenet: expected numbers such as 0.485,0.456,0.406" in message
    for size in ("0", "96x", "wide"):
        message = refused(capsys, "weights", "import", file, *NAME, "--out", tmp_path / "b", "--resolution", size)
        assert f'--resolution: "{size}" is not an image size' in message


@pytest.mark.parametrize(
    "content",
    [
        "wolf\nfox\nbear",
        "\ufeffwolf\r\nfox\r\nbear\r\n",
        json.dumps(["wolf", "fox", "bear"]),
        json.dumps({"0": "wolf", "2": "bear", "1": "fox"}),
        json.dumps({"0": ["n1", "wolf"], "1": ["n2", "fox"], "2": ["n3", "bear"]}),
        json.dumps({"id2label": {"0": "wolf", "1": "fox", "2": "bear"}, "model_type": "x"}),
    ],
)
def test_class_names_are_read_as_people_keep_them(tmp_path, content):
    (tmp_path / "names").write_text(content, encoding="utf-8")
    assert read_class_names(str(tmp_path / "names")) == ("wolf", "fox", "bear")


def test_names_of_imagenet_need_no_file():
    assert read_class_names("imagenet") == imagenet_classes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b'{"a": "wolf"}', "other keys than the numbers of the outputs"),
        (b"[1, 2]", "is not a list of class names"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
    ],
)
def test_damaged_lists_of_names_are_refused(tmp_path, content, message):
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_class_names(str(tmp_path / "names"))
    with pytest.raises(WeightsError, match=r"cannot read .*No such file"):
        read_class_names(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b"), "there are 2 class names for the 3 outputs of timm/x"),
        (("a", "b", "a"), 'class name of output 2, "a", is that of output 0 too'),
        (("a", "", "b"), 'class name of output 1, "", is empty'),
    ],
)
def test_names_that_do_not_fit_are_refused(names, message):
    weights = UNKNOWN.replace(name="x", network=UNKNOWN.network.replace(classes=3))
    with pytest.raises(WeightsError, match=message):
        with_class_names(weights, names)


def test_preprocessing_follows_the_channels_of_the_file(file, tmp_path):
    from safetensors.torch import load_file as load

    gray = load(file) | {"conv_stem.weight": torch.zeros(16, 1, 3, 3)}
    save_file(gray, tmp_path / "gray.safetensors")
    made = import_file(
        tmp_path / "gray.safetensors",
        tmp_path / "b.safetensors",
        source="timm",
        name="mobilenetv2_035",
        given=GivenPreprocessing(mean=(0.5,), std=(0.25,)),
    )
    assert made.weights.network.in_channels == 1
    assert made.weights.preprocessing.mean == (0.5,)
