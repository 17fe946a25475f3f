"""A training that begins with the rows of a classifier for the classes of its images; class folders that are mapped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from triscale.errors import WeightsError
from triscale.jobs.core.run import RunFolder
from triscale.nn.build import build
from triscale.training.context import DEFAULT_CONTEXT
from triscale.weights.class_match import match_classes, read_class_names
from triscale.weights.load import find_weights
from weights_file import NAMES, write_weights

OPTIONS = ("--epochs", 1, "--set", "batch=8")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos") / "photos", 10)


def test_classifier_keeps_the_rows_of_the_classes_by_name(capsys, weights, photos, tmp_path):
    from triscale.jobs.training.initial_weights import load_initial_weights

    result = run(capsys, "train", photos, "--weights", weights, "--keep-head", *OPTIONS, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert "the classifier is kept, since its rows for the 3 classes were requested" in result.err
    spec = RunFolder.open(tmp_path / "run").spec
    assert spec.classes == ("blue", "green", "red")
    model = build(spec.network)
    load_initial_weights(
        model, spec, spec.request.start, RunFolder.open(tmp_path / "run").split, DEFAULT_CONTEXT.device
    )
    state, before = model.state_dict(), find_weights(str(weights)).state
    rows = [NAMES.index(name) for name in spec.classes]
    for name in ("head.classifier.weight", "head.classifier.bias"):
        assert torch.equal(state[name], before[name][rows])


def test_same_command_resumes_and_another_is_refused(capsys, weights, photos, tmp_path):
    command = ("train", photos, "--weights", weights, *OPTIONS, "--out", tmp_path / "run")
    assert run(capsys, *command, "--keep-head").code == 0
    assert run(capsys, *command, "--keep-head").code == 0
    assert "different request (keeps_head" in refused(capsys, *command)


def test_classes_of_the_weights_are_noted_and_the_probe_stays_the_default(capsys, weights, photos, tmp_path):
    result = run(capsys, "train", photos, "--weights", weights, *OPTIONS, "--out", tmp_path / "run")
    assert "all 3 classes are classes of" in result.err
    assert "--keep-head would begin with its classifier" in result.err
    assert "the classifier is initialized" in result.err
    other = write_classes(tmp_path / "other", 10, colors={"dark red": (150, 0, 0), "red": (220, 0, 0)})
    result = run(capsys, "train", other, "--weights", weights, *OPTIONS, "--out", tmp_path / "other-run")
    assert "--keep-head" not in result.err


def test_head_that_cannot_be_kept_is_refused_before_anything_is_written(
    capsys, tiny, tiny_file, weights, photos, tmp_path
):
    out = tmp_path / "run"
    other = write_classes(tmp_path / "other", 10, colors={"crimson": (150, 0, 0), "red": (220, 0, 0)})
    message = refused(capsys, "train", other, "--weights", weights, "--keep-head", "--out", out)
    assert "1 of 2 class folders match no class of" in message
    assert "with --class-names FILE" in message
    nameless = write_weights(tmp_path / "nameless.safetensors", tiny, None)
    assert "none whose class names are known" in refused(
        capsys, "train", photos, "--weights", nameless, "--keep-head", "--out", out
    )
    assert "and there are none; give --weights" in refused(
        capsys, "train", photos, "--network", tiny_file, "--keep-head", "--out", out
    )
    assert "the prefix inherit:" in refused(
        capsys, "train", photos, "--weights", f"inherit:{weights}", "--keep-head", "--out", out
    )
    names = tmp_path / "names.csv"
    names.write_text("red,red\n")
    assert "give --keep-head with it" in refused(
        capsys, "train", photos, "--weights", weights, "--class-names", names, "--out", out
    )
    assert not out.exists()


def test_class_names_map_folders_to_classes(capsys, weights, photos, tmp_path):
    images = tmp_path / "images"
    for number, name in enumerate(("blue", "green", "red")):
        shutil.copytree(photos / name, images / f"{number:02d}")
    assert "3 of 3 class folders match no class" in refused(capsys, "weights", "run", weights, images, "--out", "run")
    mapping = {"00": "blue", "01": "green", "02": "red"}
    (tmp_path / "names.json").write_text(json.dumps(mapping))
    (tmp_path / "names.csv").write_text("folder,class\n" + "".join(f"{a}, {b}\n" for a, b in mapping.items()))
    for file in ("names.json", "names.csv"):
        out = tmp_path / f"run-{file}"
        result = run(capsys, "weights", "run", weights, images, "--class-names", tmp_path / file, "--out", out)
        assert result.code == 0, result.err
        split = RunFolder.open(out).split
        assert {split.classes[one.label] for one in split.test if one.path.startswith("02/")} == {"red"}
    images.rename(tmp_path / "moved")
    assert run(capsys, "evaluate", out, tmp_path / "moved").code == 0
    trained = ts.train(
        tmp_path / "moved", weights=weights, keep_head=True, class_names=mapping, epochs=1, out=tmp_path / "trained",
        progress=False,
    )  # fmt: skip
    assert trained.classes == ("00", "01", "02")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "00,blue,x\n", "has a row without exactly two cells"),
        ("a.csv", "", "has a row without exactly two cells, or none"),
        ("a.csv", "00,blue\n00,red\n", 'names the folder "00" twice'),
        ("a.json", "[1]", "holds no JSON object of texts"),
        ("a.json", "{", "is not JSON"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_unreadable_class_names_say_what_is_expected(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(WeightsError, match=message):
        read_class_names(tmp_path / name)


def test_class_name_of_no_folder_is_refused():
    with pytest.raises(WeightsError, match='name the folder "03", which is not among'):
        match_classes(("01", "02"), ("a", "b"), "the weights", {"01": "a", "02": "b", "03": "a"})
