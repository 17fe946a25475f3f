"""Exporting example projects: where they go, what is refused, and that nothing of the user's is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from triscale.deploy.apps import APPS, check_photos
from triscale.deploy.apps.write_app import RECORD_FILE, c_string, digests_of
from triscale.deploy.contract import Contract
from triscale.deploy.engines import ENGINES
from triscale.errors import ExportError
from triscale.jobs.core.run import RunManifest
from triscale.network.contract import Preprocessing
from triscale.results.exported_app import ExportedApp

MODEL = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, classes)

    def forward(self, images):
        return self.linear(self.conv(images).relu().mean((2, 3)))


def own(depth, width, classes):
    return Net(classes)
"""


@pytest.fixture
def folder(trained_run, tmp_path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.fixture
def photo(trained_run) -> Path:
    return next(iter(sorted((trained_run.parent / "images" / "red").iterdir())))


def answer_of(project: Path, photo: Path) -> tuple[str, float]:
    done = subprocess.run(
        [sys.executable, project / "classify.py", photo.absolute()], capture_output=True, text=True, check=True
    )
    _, probability, name = done.stdout.splitlines()[1].split()
    return name, float(probability)


def test_projects_of_a_run_go_into_it_with_the_model(folder, photo, capsys):
    result = run(capsys, "export", folder, "--app", "web", "--app", "python", "--json")
    assert result.code == 0, result.err
    web, python = json.loads(result.out)
    assert (web["app"], python["app"], python["engine"]) == ("web", "python", "ONNX Runtime")
    project = folder / "apps" / "python"
    assert ExportedApp.load(project / RECORD_FILE).files == digests_of(project, python["files"])
    assert (project / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    listed = {file.name for file in RunManifest.load(folder / "manifest.json").files}
    assert {"apps/web/index.html", "apps/python/classify.py", "apps/python/triscale.json"} <= listed
    (expected,) = ts.Run.open(folder).predict([photo])
    name, probability = answer_of(project, photo)
    assert (name, pytest.approx(probability, abs=1e-4)) == (
        expected.classes[0].name, expected.classes[0].probability,
    )  # fmt: skip
    printed = run(capsys, "export", folder, "--app", "python")
    assert f"{project}\n" in printed.out
    assert "python3 classify.py PHOTO" in printed.out


def test_project_of_a_run_object_is_that_of_the_command(folder, photo, tmp_path):
    project = ts.Run.open(folder).export_app("python", out=tmp_path / "there", progress=False)
    assert project == tmp_path / "there" / "python"
    (expected,) = ts.Run.open(folder).predict([photo])
    assert answer_of(project, photo)[0] == expected.classes[0].name
    with pytest.raises(ts.UserError, match="phone"):
        ts.Run.open(folder).export_app("phone")


def test_int8_project_has_the_int8_model(folder, photo, capsys):
    result = run(capsys, "export", folder, "--app", "python", "--precision", "int8", "--bound", 100)
    assert result.code == 0, result.err
    project = folder / "apps" / "python"
    assert (project / "model.onnx").read_bytes() == (folder / "model.int8.onnx").read_bytes()
    assert answer_of(project, photo)[0] == "red"
    assert "int8" in (project / "README.md").read_text()


def test_projects_of_weights_go_into_a_folder_of_their_name(weights, photo, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "export", weights, "--app", "python").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine-apps"]
    assert run(capsys, "export", weights, "--app", "python", "--out", "there").code == 0
    expected = json.loads(run(capsys, "predict", weights, photo, "--json").out)[0]["classes"][0]
    for place in ("mine-apps", "there"):
        name, probability = answer_of(tmp_path / place / "python", photo)
        assert (name, probability) == (expected["name"], pytest.approx(expected["probability"], abs=1e-4))
    assert "with --images" in refused(capsys, "export", weights, "--app", "python", "--precision", "int8")


def test_custom_model_is_exported(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_network.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    images = write_classes(tmp_path / "images", 12)
    options = ("--network", "own_network:own", "--resolution", 32, "--epochs", 1, "--out", "run")
    assert run(capsys, "train", images, *options).code == 0
    assert run(capsys, "export", "run", "--app", "python").code == 0
    photo = next((images / "red").iterdir())
    (expected,) = ts.Run.open("run").predict([photo])
    assert answer_of(Path("run/apps/python"), photo)[0] == expected.classes[0].name


def test_project_is_replaced_unless_it_was_changed(folder, capsys):
    project = folder / "apps" / "python"
    assert run(capsys, "export", folder, "--app", "python").code == 0
    (project / "mine.txt").write_text("a note")
    (project / "classify.py").unlink()
    assert run(capsys, "export", folder, "--app", "python").code == 0
    assert (project / "classify.py").is_file()
    assert (project / "mine.txt").read_text() == "a note"
    (project / "classify.py").write_text("print('mine')")
    message = refused(capsys, "export", folder, "--app", "python")
    assert "classify.py in " in message
    assert "was changed since it was exported; give another folder with --out" in message
    assert (project / "classify.py").read_text() == "print('mine')"


def test_other_folders_are_refused(folder, tmp_path, capsys):
    (tmp_path / "site" / "web").mkdir(parents=True)
    (tmp_path / "site" / "web" / "index.html").write_text("mine")
    message = refused(capsys, "export", folder, "--app", "web", "--out", tmp_path / "site")
    assert "exists and holds no exported app" in message
    assert (tmp_path / "site" / "web" / "index.html").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    assert "file is a file; give a folder" in refused(
        capsys, "export", folder, "--app", "web", "--out", tmp_path / "file"
    )


def test_mistakes_are_one_sentence(folder, capsys, monkeypatch):
    assert 'there is no app "pyhton"; did you mean python?' in refused(capsys, "export", folder, "--app", "pyhton")
    message = refused(capsys, "export", folder, "--app", "web", "--engine", "openvino")
    assert "--engine openvino: each --app has its own engine" in message
    message = refused(capsys, "export", folder, "--app", "ios", "--precision", "int8")
    assert "cannot quantize for Core ML" in message
    monkeypatch.setitem(ENGINES, "coreml", dataclasses.replace(ENGINES["coreml"], converter="not_installed_here"))
    message = refused(capsys, "export", folder, "--app", "web", "--app", "ios")
    assert "--app ios needs Core ML, which is not installed; install it with: pip install 'triscale[coreml]'" in message
    assert not (folder / "exports.json").exists()
    assert not (folder / "apps").exists()


def test_models_that_do_not_classify_photos_are_refused():
    five = Contract(network="five", preprocessing=Preprocessing.usual((5, 12, 24)), classes=("a", "b"))
    with pytest.raises(ExportError, match="takes 5 channels; export the file without --app"):
        check_photos(five)
    deep = Preprocessing.usual((1, 12, 24), bit_depth=12)
    with pytest.raises(ExportError, match="12 of 16 bits"):
        check_photos(five.replace(preprocessing=deep))


def test_calibration_names_projects_with_the_former_one(folder, capsys):
    assert run(capsys, "export", folder, "--app", "python").code == 0
    result = run(capsys, "calibrate", folder)
    assert result.code == 0, result.err
    assert "apps/python" in result.err


def test_every_app_has_templates_and_a_readme_with_its_command(folder, capsys):
    templates = Path(ts.__file__).parent / "deploy" / "apps" / "templates"
    assert {path.name for path in templates.iterdir()} == set(APPS)
    for name in APPS:
        assert "{{ app.run_with }}" in (templates / name / "README.md.j2").read_text()


def test_literals_of_cpp_are_escaped():
    assert c_string('"\\ ?\n') == '"\\"\\\\ \\?\\012"'
