"""Trainings and runs from Python give what the commands give."""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import triscale as ts
from cli.command import run as command

OPTIONS = {"epochs": 2, "batch_size": 16, "threads": 1, "workers": 0, "progress": False}


@pytest.fixture
def run(trained_run, tmp_path) -> ts.Run:
    """A copy of a trained run."""
    return ts.Run.open(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.fixture
def picture(trained_run):
    return sorted((trained_run.parent / "images" / "red").iterdir())[0]


@pytest.mark.stress
def test_training_equals_that_of_the_command(capsys, images, tiny_file, tmp_path):
    settings = {"label_smoothing": 0.0, "augmentation.flip": False}
    run = ts.train(images, tiny_file, out=tmp_path / "api", seed=3, settings=settings, **OPTIONS)
    arguments = ("--seed", 3, "--epochs", 2, "--batch", 16, "--threads", 1, "--workers", 0,
                 "--set", "label_smoothing=0", "--set", "augmentation.flip=false")  # fmt: skip
    assert command(capsys, "train", images, "--network", tiny_file, "--out", tmp_path / "cli", *arguments).code == 0
    other = ts.Run.open(tmp_path / "cli")
    assert (run.path / "model.safetensors").read_bytes() == (other.path / "model.safetensors").read_bytes()
    assert run.metrics == other.metrics
    assert len(run.history) == 2
    assert run.classes == ("blue", "green", "red")
    assert run.finished


def test_fit_makes_everything_and_resumes(capsys, images, tiny, tmp_path):
    run = ts.fit(images, "200k", baseline=tiny, out=tmp_path / "run", **OPTIONS)
    assert capsys.readouterr() == ("", "")
    assert run.budget_fit.limits[0].achieved <= 200_000
    for name in ("model.onnx", "report.html", "latency.json", "explain"):
        assert (run.path / name).exists()
    before = (run.path / "model.safetensors").read_bytes()
    again = ts.fit(images, ts.Budget("200k"), baseline=tiny, out=tmp_path / "run", **OPTIONS)
    assert (again.path / "model.safetensors").read_bytes() == before
    assert again.metrics == run.metrics


@pytest.mark.stress
def test_interrupted_training_resumes_to_the_same_weights(images, tiny, tmp_path):
    with pytest.raises(ts.Interrupted, match="run"):
        ts.train(images, tiny, out=tmp_path / "run", max_seconds=1e-6, **OPTIONS)
    stopped = ts.train(images, tiny, out=tmp_path / "run", **OPTIONS)
    whole = ts.train(images, tiny, out=tmp_path / "whole", **OPTIONS)
    assert (stopped.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


def test_every_kind_of_image_gives_the_same_prediction(run, picture):
    image = Image.open(picture).convert("RGB")
    expected = run.predict(picture).classes
    assert expected[0].name == "red"
    for given in (str(picture), picture.read_bytes(), image, np.asarray(image), Image.open(picture)):
        assert run.predict(given).classes == expected
    batch = run.predict([picture, image, b"no image"], top=1)
    assert [one.classes[:1] for one in batch] == [expected[:1], expected[:1], ()]
    assert batch[2].error
    assert len(run.predict(picture.parent)) == 30


def test_prediction_equals_that_of_the_command(capsys, run, picture):
    printed = json.loads(command(capsys, "predict", run.path, picture, "--json").out)[0]
    assert json.loads(run.predict(picture, top=3).to_json()) == printed


def test_rotated_and_gray_images_are_read_as_files_are(run, picture, tmp_path):
    image = Image.open(picture).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "rotated.png", exif=exif)
    assert run.predict(Image.open(tmp_path / "rotated.png")).classes == run.predict(tmp_path / "rotated.png").classes
    gray = np.asarray(image.convert("L"))
    assert run.predict(gray).classes == run.predict(gray[..., None]).classes == run.predict(image.convert("L")).classes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 is not an image"),
        (np.zeros((3, 8, 8), np.uint8), r"\[3, 8, 8\]"),
        (np.zeros((0, 4, 3), np.uint8), "is not an image"),
        (3, "int is not an image"),
        ("nowhere.png", "does not exist"),
        ([], "no images given"),
    ],
)
def test_objects_that_are_not_images_are_rejected(run, given, message):
    with pytest.raises(ts.TriscaleError, match=message):
        run.predict(given)


def test_methods_do_the_jobs_of_the_commands(run, tmp_path, picture):
    before = run.metrics
    assert run.evaluate(progress=False) == before == ts.evaluate(run.path, progress=False)
    assert run.evaluate("val", progress=False).split == "val"
    assert run.metrics == before
    assert len(run.explain(picture, out=tmp_path / "maps", progress=False).images) == 1
    assert run.explain(progress=False).images
    exported = run.export("onnx", progress=False)
    assert exported.export.verified
    assert (run.path / "model.onnx").is_file()
    assert "<html" in run.report().read_text()
    assert repr(run).startswith("Run('")
    assert "top-1" in repr(run)


def test_model_and_transform_give_the_prediction(run, picture):
    transform = run.transform()
    image = Image.open(picture)
    with torch.inference_mode():
        probabilities = run.model()(transform(image)[None]).double().softmax(1)[0]
    expected = {one.name: one.probability for one in run.predict(picture).classes}
    assert dict(zip(run.classes, probabilities.tolist(), strict=True)) == pytest.approx(expected, abs=1e-6)
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(again(image), transform(image))
    assert run.transform(train=True)(image).shape == transform(image).shape


@pytest.mark.stress
def test_deployment_chooses_a_file(run):
    deployment = run.deploy(precisions=("float32",), progress=False)
    assert (run.path / deployment.file).exists()


@pytest.mark.stress
def test_runs_can_be_initial_weights(images, run, tmp_path):
    tuned = ts.train(images, weights=run, out=tmp_path / "tuned", **OPTIONS)
    assert tuned.network.structure == run.network.structure


def test_saved_and_copied_models_are_equal(run, tmp_path):
    model = run.model()
    images = torch.randn(2, 3, 16, 16)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        with torch.inference_mode():
            assert torch.equal(other.eval()(images), model(images))


def test_errors_are_sentences(images, tmp_path, tiny):
    for call, message in (
        (lambda: ts.fit(images), "no budget given"),
        (lambda: ts.fit(tmp_path / "nothing", "1M"), "nothing"),
        (lambda: ts.train(images), "requires a network or weights"),
        (lambda: ts.train(images, "resnet"), "did you mean"),
        (lambda: ts.train(images, tiny, recipe="tiny"), "recipe"),
        (lambda: ts.train(images, tiny, settings={"no_such": 1}), "no_such"),
        (lambda: ts.train(images, tiny, epochs=-1, out=tmp_path / "run"), "epochs"),
        (lambda: ts.train(images, tiny, workers=-1, out=tmp_path / "run"), "workers"),
        (lambda: ts.train(images, tiny, device="tpu", out=tmp_path / "run"), "device"),
        (lambda: ts.Run.open(tmp_path), "no run"),
        (lambda: ts.evaluate(tmp_path / "nothing"), "no run"),
    ):
        with pytest.raises(ts.TriscaleError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_transforms_follow_network_and_weights():
    assert ts.transforms("efficientnet_b3").preprocessing.resolution == 300
    model = ts.create_model("resnet18@64")
    image = Image.new("RGB", (80, 60), (255, 128, 0))
    tensor = ts.transforms(model)(image)
    assert tensor.shape == (3, 64, 64)
    expected = (torch.tensor([1.0, 128 / 255, 0.0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    assert torch.allclose(tensor[:, 30, 30], expected, atol=0.02)
