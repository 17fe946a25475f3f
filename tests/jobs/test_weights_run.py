"""A run of weights without training, and what takes it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import triscale as ts
from cli.command import refused, run
from conftest import write_classes, write_picture
from triscale.errors import WeightsError
from triscale.jobs.core.run import RunFolder
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.results.metrics import Metrics
from triscale.weights.catalog import imagenet_classes, imagenet_wnids
from triscale.weights.class_match import match_classes
from triscale.weights.contract import WeightsContract
from triscale.weights.load import CONTRACT_KEY, KIND_KEY
from triscale.weights.tensors import write_tensors

NAMES = ("yellow", "red", "white", "green", "blue")


@pytest.fixture(scope="module")
def weights_file(tiny, tmp_path_factory):
    """Return a function that writes weights with metadata; the order of the classes is not that of their names."""
    folder = tmp_path_factory.mktemp("weights")

    def write(classes=NAMES, preprocessing=True, head=True) -> Path:
        network = tiny.replace(classes=len(NAMES))
        torch.manual_seed(2)
        contract = WeightsContract(
            source="timm",
            name="tiny",
            architecture="tiny",
            network=network,
            classes=classes,
            preprocessing=Preprocessing(resolution=16, crop=0.8, mean=(0.5,) * 3) if preprocessing else None,
        )
        file = folder / f"{classes is None}-{preprocessing}-{head}.safetensors"
        state = {k: v for k, v in build(network).state_dict().items() if head or not k.startswith("head.classifier")}
        write_tensors(file, state, {KIND_KEY: "weights", CONTRACT_KEY: contract.to_json()})
        return file

    return write


@pytest.fixture(scope="module")
def made(weights_file, tmp_path_factory):
    """A run of weights with the images of three of their five classes; copy it to change it."""
    root = tmp_path_factory.mktemp("made")
    images = write_classes(root / "images", 40)
    return ts.Run.of_weights(weights_file(), images, out=root / "run", progress=False).path


def test_images_are_evaluated_over_all_classes_by_name(made):
    opened = RunFolder.open(made)
    spec, split, metrics = opened.spec, opened.split, Metrics.load(opened.metrics_file)
    assert spec.classes == NAMES
    assert (spec.preprocessing.crop, spec.preprocessing.mean) == (0.8, (0.5, 0.5, 0.5))
    assert (len(split.train), len(split.val), len(split.test)) == (32, 0, 88)
    assert {sample.path.split("/")[0]: sample.label for sample in split.test} == {"blue": 4, "green": 3, "red": 1}
    assert {row.name: row.count > 0 for row in metrics.per_class} == {
        "yellow": False, "red": True, "white": False, "green": True, "blue": True,
    }  # fmt: skip
    with opened.predictions_file.open() as file:
        rows = list(csv.DictReader(file))
    one = ts.Run.open(made).predict(made.parent / "images" / rows[0]["file"])
    assert one.classes[0].name == rows[0]["predicted"]
    assert metrics.top1 == np.mean([row["truth"] == row["predicted"] for row in rows])


def test_weights_are_those_of_the_file(made, weights_file):
    from triscale.weights.load import find_weights

    expected = find_weights(str(weights_file())).state
    state = RunFolder.open(made).model().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_images_for_calibration_are_not_tested(made):
    split = RunFolder.open(made).split
    assert not {sample.path for sample in split.train} & {sample.path for sample in split.test}


def test_copies_of_an_image_stay_on_one_side(weights_file, tmp_path, capsys):
    images = tmp_path / "images"
    for number in range(70):
        write_picture(images / "red" / f"{number:03d}.png", (200, 0, 0), number // 2)
    result = run(capsys, "weights", "run", weights_file(), images, "--out", tmp_path / "run")
    assert result.code == 0
    split = RunFolder.open(tmp_path / "run").split
    sides = [{int(Path(sample.path).stem) // 2 for sample in samples} for samples in (split.train, split.test)]
    assert not sides[0] & sides[1]


def test_given_splits_are_kept(weights_file, tmp_path, capsys):
    images = tmp_path / "images"
    write_classes(images / "train", 5)
    write_classes(images / "val", 4, seed=1)
    assert run(capsys, "weights", "run", weights_file(), images, "--out", tmp_path / "run").code == 0
    split = RunFolder.open(tmp_path / "run").split
    assert (len(split.train), len(split.test)) == (15, 12)


def test_the_same_command_keeps_the_run_and_another_is_refused(made, weights_file, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "run")
    command = ("weights", "run", weights_file())
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert run(capsys, *command, made.parent / "images", "--out", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
    assert "different request (images" in refused(capsys, *command, "--out", tmp_path / "run")
    train = refused(
        capsys, "train", made.parent / "images", "--weights", weights_file(), "--out", tmp_path / "run", "--epochs", "1"
    )
    assert "different request" in train


def test_commands_take_the_run(made, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    images = made.parent / "images"
    for command in (
        ("evaluate", folder, "--split", "train"),
        ("predict", folder, images / "red"),
        ("explain", folder),
        ("explain", folder, images / "red" / "000.png", "--out", tmp_path / "maps"),
        ("features", folder, images, "--out", tmp_path / "features.npy"),
        ("export", folder),
        ("measure", folder),
        ("report", folder),
        ("weights", "info", folder),
    ):
        assert run(capsys, *command).code == 0, command
    report = (folder / "report.html").read_text()
    assert "images: tiny" in report
    assert "learning rate" not in report  # a recipe that nothing was trained with


def test_int8_uses_the_images_for_calibration_and_the_guard(made, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    result = run(capsys, "export", folder, "--precision", "int8", "--bound", "100", "--json")
    quantized = json.loads(result.out)["quantized"]
    assert (quantized["images"], quantized["calibration_images"]) == (88, 32)


def test_run_without_images_predicts_and_exports(weights_file, tmp_path, capsys, images):
    folder = tmp_path / "run"
    result = run(capsys, "weights", "run", weights_file(), "--out", folder)
    assert result.code == 0
    assert f"next: triscale predict {folder} IMAGES" in result.out
    assert run(capsys, "predict", folder, images / "red").code == 0
    exported = run(capsys, "export", folder)
    assert exported.code == 0
    assert "the run has no test images; the file is checked on synthetic images alone" in exported.err
    assert run(capsys, "report", folder).code == 0
    assert "has no test images; give images" in refused(capsys, "explain", folder)
    for command in (("evaluate", folder), ("export", folder, "--precision", "int8")):
        assert f"make it with images: triscale weights run {weights_file()} IMAGES" in refused(capsys, *command)


def test_run_without_images_is_served(weights_file, tmp_path, capsys, images):
    from triscale.serve.model import ServedModel

    run(capsys, "weights", "run", weights_file(), "--out", tmp_path / "run")
    served = ServedModel(RunFolder.open(tmp_path / "run"), pixels=1_000_000)
    assert served.about.dataset == weights_file().stem
    assert served.about.test_accuracy is None
    assert len(served.answer((images / "red" / "000.png").read_bytes(), 2, with_map=True).classes) == 2


def test_float32_is_exported_after_the_images_have_moved(made, tmp_path, capsys):
    root = tmp_path / "moved"
    shutil.copytree(made, tmp_path / "run")
    split = RunFolder.open(tmp_path / "run").split
    split.replace(root=str(root)).save(tmp_path / "run" / "split.json")
    result = run(capsys, "export", tmp_path / "run")
    assert result.code == 0
    assert "the file is checked on synthetic images alone" in result.err


def test_what_the_weights_do_not_say_is_a_note_or_refused(weights_file, tmp_path, capsys, images):
    nameless = weights_file(classes=None, preprocessing=False)
    result = run(capsys, "weights", "run", nameless, "--out", tmp_path / "a")
    assert "the class names of" in result.err
    assert "so they are 0 to 4" in result.err
    assert "the preprocessing of" in result.err
    assert RunFolder.open(tmp_path / "a").spec.classes == ("0", "1", "2", "3", "4")
    message = refused(capsys, "weights", "run", nameless, images, "--out", tmp_path / "b")
    assert "so images cannot be matched with them; import the weights with --classes FILE" in message
    headless = refused(capsys, "weights", "run", weights_file(head=False), "--out", tmp_path / "b")
    assert "has no classifier, so it cannot classify; train one with: triscale train IMAGES --weights" in headless
    assert "leave out the prefix" in refused(capsys, "weights", "run", "inherit:x", "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_folders_that_are_no_class_are_refused_before_anything_is_written(weights_file, tmp_path, capsys):
    write_classes(tmp_path / "images", 2, colors={"red": (200, 0, 0), "gren": (0, 200, 0)})
    message = refused(capsys, "weights", "run", weights_file(), tmp_path / "images", "--out", tmp_path / "run")
    assert "1 of 2 class folders match no class of" in message
    assert "gren; did you mean green" in message
    assert not (tmp_path / "run").exists()


def test_run_of_a_run_has_its_weights(made, tmp_path, capsys):
    assert run(capsys, "weights", "run", made, "--out", tmp_path / "run").code == 0
    assert RunFolder.open(tmp_path / "run").spec.classes == NAMES


def test_asked_class_is_explained_beside_the_prediction(made, tmp_path, capsys):
    picture = made.parent / "images" / "red" / "000.png"
    best = ts.Run.open(made).predict(picture, top=5)
    other = best.classes[-1]
    result = run(capsys, "explain", made, picture, "--class", other.name, "--out", tmp_path / "maps", "--json")
    (image,) = json.loads(result.out)["images"]
    assert (image["predicted"], image["explained"]) == (best.classes[0].name, other.name)
    assert image["confidence"] == pytest.approx(best.classes[0].probability, abs=1e-6)
    assert image["probability"] == pytest.approx(other.probability, abs=1e-6)
    plain = run(capsys, "explain", made, picture, "--out", tmp_path / "maps", "--json")
    (image,) = json.loads(plain.out)["images"]
    assert image["explained"] == image["predicted"]
    assert "did you mean yellow" in refused(capsys, "explain", made, picture, "--class", "yelow")
    (tmp_path / "text.png").write_text("no image")
    assert run(capsys, "explain", made, tmp_path / "text.png", "--out", tmp_path / "none").code == 1


@pytest.mark.parametrize(
    ("folders", "outputs"),
    [
        (("n01440764", "n15075141"), (0, 999)),
        (("toilet tissue", "tench"), (999, 0)),
        (("Great_White-Shark", "TENCH"), (2, 0)),
        (("n02085620-Chihuahua", "n02085936_Maltese_dog"), (151, 153)),
        (("tench, Tinca tinca", "goldfish, Carassius auratus"), (0, 1)),
        (("crane bird", "crane"), (134, 517)),
    ],
)
def test_imagenet_folders_are_matched_by_wnid_or_name(folders, outputs):
    assert match_classes(folders, imagenet_classes(), "the weights") == outputs


def test_wnids_are_in_the_order_of_the_classes():
    timm = pytest.importorskip("timm.data")
    assert imagenet_wnids() == tuple(timm.ImageNetInfo().label_names())
    assert len(set(imagenet_classes())) == len(imagenet_wnids()) == 1000


def test_exact_names_win_over_similar_ones():
    assert match_classes(("a-b", "a_b"), ("a_b", "a-b", "c"), "the weights") == (1, 0)
    with pytest.raises(WeightsError, match="1 of 1 class folders match no class"):
        match_classes(("a b",), ("a_b", "a-b"), "the weights")


@pytest.mark.parametrize(
    ("folders", "classes", "message"),
    [
        (("n01440764", "tench"), imagenet_classes(), '"n01440764" and "tench" are both the class "tench"'),
        (("0", "1"), ("red", "blue"), "2 of 2 class folders match no class of the weights: 0, 1"),
        (("n01440764",), ("red", "blue"), "1 of 1 class folders match no class"),
    ],
)
def test_positions_and_doubles_are_refused(folders, classes, message):
    with pytest.raises(WeightsError) as caught:
        match_classes(folders, classes, "the weights")
    assert message in str(caught.value)


def test_channels_that_the_weights_do_not_take_are_refused(weights_file, tmp_path, capsys, images):
    message = refused(capsys, "weights", "run", weights_file(), images, "--channels", 1, "--out", tmp_path / "run")
    assert "takes images of 3 channels, not 1; leave out --channels, or train for these" in message
    assert not (tmp_path / "run").exists()
