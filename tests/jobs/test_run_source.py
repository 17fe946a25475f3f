"""Every command and method that takes a run takes weights too; results of weights go where the user says."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pytest

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from triscale.deploy.engines import ENGINES
from triscale.errors import RunError, UserError, WeightsError
from triscale.jobs.core.execution import execution
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.eval_cache import QuantizationEvalCache
from triscale.jobs.deploy.export import exportable
from triscale.jobs.deploy.remedies import remedies
from triscale.jobs.run_source import RunSource, open_source
from triscale.jobs.source_jobs import deploy_source
from triscale.measurement.device import machine
from triscale.network.latency import DeviceProfile, Predictor
from triscale.results.deployment import Deployment, LossOfChoice, Quantized
from triscale.results.explanation import ExplainedImages
from weights_file import NAMES, write_weights


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos") / "photos", 40)


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "mine.onnx"
    ts.Run.open(weights, progress=False).export(out=file, progress=False)
    return file


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cached_runs() -> set[Path]:
    return set((Path(os.environ["TRISCALE_CACHE"]) / "runs").iterdir())


def test_predictions_of_weights_are_those_of_their_run(capsys, weights, photos, here):
    assert run(capsys, "weights", "run", weights, "--out", "run").code == 0
    of_run = json.loads(run(capsys, "predict", "run", photos / "red", "--json").out)
    of_weights = json.loads(run(capsys, "predict", weights, photos / "red", "--json").out)
    assert of_weights == of_run
    assert len(of_weights) == 40
    assert [path.name for path in here.iterdir()] == ["run"]


def test_second_command_takes_the_cached_run(capsys, weights, photos):
    assert run(capsys, "predict", weights, photos / "red" / "000.png").code == 0
    before = cached_runs()
    times = {path: (path / "model.safetensors").stat().st_mtime_ns for path in before}
    assert run(capsys, "predict", weights, photos / "red" / "000.png").code == 0
    assert {path: (path / "model.safetensors").stat().st_mtime_ns for path in cached_runs()} == times


def test_same_tensors_with_other_class_names_are_another_run(capsys, tiny, photos, tmp_path):
    file = write_weights(tmp_path / "w.safetensors", tiny)
    picture = photos / "red" / "000.png"
    first = json.loads(run(capsys, "predict", file, picture, "--json").out)[0]["classes"][0]["name"]
    write_weights(file, tiny, tuple(f"other {name}" for name in NAMES))
    second = json.loads(run(capsys, "predict", file, picture, "--json").out)[0]["classes"][0]["name"]
    assert second == f"other {first}"


def test_damaged_cached_run_is_made_again(capsys, weights, photos):
    picture = photos / "red" / "000.png"
    expected = run(capsys, "predict", weights, picture, "--json").out
    for folder in cached_runs():
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-8] + bytes(8))
    assert run(capsys, "predict", weights, picture, "--json").out == expected


def test_evaluation_of_weights_is_that_of_their_run_and_leaves_nothing(capsys, weights, photos, here):
    run(capsys, "weights", "run", weights, photos, "--out", "run")
    expected = json.loads(Path("run/metrics.json").read_text())
    for arguments in ((photos,), ("--images", photos)):
        assert json.loads(run(capsys, "evaluate", weights, *arguments, "--json").out) == expected
    assert ts.evaluate(weights, images=photos, progress=False).top1 == expected["top1"]
    assert [path.name for path in here.iterdir()] == ["run"]
    message = refused(capsys, "evaluate", weights)
    assert "there are no images to evaluate" in message
    assert "with --images" in message


def test_export_of_weights_goes_into_the_current_folder_by_their_name(capsys, weights, photos, here):
    assert run(capsys, "export", weights).code == 0
    result = run(capsys, "export", weights, photos, "--precision", "int8", "--bound", 100)
    assert result.code == 0, result.err
    assert sorted(path.name for path in here.iterdir()) == ["mine.int8.onnx", "mine.onnx"]
    before = Path("mine.onnx").read_bytes()
    assert "mine.onnx exists; give --out mine.onnx to replace it" in refused(capsys, "export", weights)
    assert Path("mine.onnx").read_bytes() == before
    assert run(capsys, "export", weights, "--out", "mine.onnx").code == 0
    assert "with --images" in refused(capsys, "export", weights, "--precision", "int8", "--out", "other.onnx")
    assert not Path("other.onnx").exists()


@pytest.mark.usefixtures("one_engine")
def test_deployment_of_weights_goes_into_a_folder(capsys, weights, photos, here):
    result = run(capsys, "deploy", weights, photos, "--bound", 100, "--json")
    assert result.code == 0, result.err
    deployment = json.loads(result.out)
    assert deployment == json.loads(Path("deployed/deploy.json").read_text())
    assert deployment["file"].startswith("mine.")
    assert Path("deployed", deployment["file"]).is_file()
    assert deployment["quantized"] is None or deployment["quantized"]["file"] == deployment["file"]
    assert "or deploy only --precisions float32" in refused(capsys, "deploy", weights)
    assert run(capsys, "deploy", weights, "--precisions", "float32", "--out", "other").code == 0
    assert Path("other/mine.onnx").is_file()
    shutil.copy(weights, "yours.safetensors")
    message = refused(capsys, "deploy", "yours.safetensors", "--precisions", "float32", "--out", "other")
    assert "other holds mine.onnx, which was not made of yours; give another folder with --out" in message
    assert sorted(path.name for path in Path("other").iterdir()) == ["deploy.json", "mine.onnx"]
    (here / "full").mkdir()
    (here / "full" / "notes.txt").write_text("mine")
    assert "holds no deployment" in refused(capsys, "deploy", weights, photos, "--out", "full")
    assert "--out is for weights" in refused_for_run(capsys, weights, "deploy", "--out", "x")


@pytest.mark.parametrize("first", ["mine.int8.onnx", "mine.xml"])
def test_later_deployment_of_weights_takes_the_place_of_the_first(weights, here, first):
    opened = ts.Run.open(weights, progress=False)
    (here / "deployed").mkdir()
    made = RunFolder(opened.path)

    def deploy_as(name):
        def deploy(run_folder):
            (run_folder.folder / "deployed").mkdir()
            for part in (name, "model.bin"):
                (run_folder.folder / "deployed" / part).write_bytes(b"file")
            return Deployment(
                file=f"deployed/{name}", device="cpu", threads=1, predicted=False, budget=None, bound_points=0.5,
                candidates=(), open_with=f"open({name!r})", quantized=quantized_as(name), machine=machine(),
            )  # fmt: skip

        return deploy

    source = RunSource(made, "mine", str(weights))
    with execution(progress=False) as context:
        name = first.replace("mine", "model")
        kept, folder = deploy_source(source, context, deploy_as(name), ("float32",))
        assert (kept.file, kept.open_with, kept.quantized.file) == (first, f"open({first!r})", first)
        (here / "deployed" / "notes.txt").write_text("mine")
        deploy_source(source, context, deploy_as("model.onnx"), ("float32",))
    assert sorted(path.name for path in folder.iterdir()) == ["deploy.json", "mine.onnx", "notes.txt"]


def quantized_as(name):
    return Quantized(
        file=name, engine="OpenVINO", precision="bfloat16", size_bytes=4, images=100, calibration_images=0,
        float_accuracy=0.9, accuracy=0.9, lost_points=0, lost_low=-1, lost_high=1, bound_points=0.5, agreement=1,
        choice=LossOfChoice(split="calibration", images=100, lost_points=0, lost_low=-1, lost_high=1), blocks=(),
        attempts=1,
    )  # fmt: skip


@pytest.mark.usefixtures("one_engine")
def test_weights_are_deployed_for_another_device_without_images(capsys, weights, here, moved):
    predictor = Predictor(
        engine="onnxruntime", threads=1, processor="a phone", milliseconds={"run.count": 5.0}, error=0.1,
        error_90=0.2, held_out=3,
    )  # fmt: skip
    DeviceProfile(engine="onnxruntime", threads=1, processor="a phone", predictor=predictor).save(Path("phone.json"))
    result = run(capsys, "deploy", weights, "--device", "phone.json")
    assert result.code == 0, result.err
    assert Path("deployed/mine.onnx").is_file()
    assert ts.Run.open(weights, progress=False).deploy(profiles="phone.json", out="other", progress=False).predicted
    result = run(capsys, "deploy", moved[0], "--device", "phone.json")
    assert result.code == 0, result.err
    assert "no lower precisions" not in result.err


def test_file_that_cannot_be_checked_here_is_exported_without_images(capsys, weights, here, monkeypatch):
    pytest.importorskip("openvino")
    rounding = ENGINES["openvino"].roundings["bfloat16"]
    for obstacle in ("", "no bfloat16 here"):
        changed = dataclasses.replace(rounding, obstacle=lambda obstacle=obstacle: obstacle)
        engine = dataclasses.replace(ENGINES["openvino"], roundings={"bfloat16": changed})
        monkeypatch.setitem(ENGINES, "openvino", engine)
        if not obstacle:
            assert "there are no images to evaluate bfloat16 of" in refused(
                capsys, "export", weights, "--engine", "openvino", "--precision", "bfloat16"
            )
            continue
        result = run(capsys, "export", weights, "--engine", "openvino", "--precision", "bfloat16")
        assert result.code == 0, result.err
        assert "not verified" in result.out
    assert Path("mine.bfloat16.xml").is_file()
    message = refused(
        capsys, "export", weights, "--engine", "onnxruntime", "--precision", "bfloat16", "--out", "x.onnx"
    )
    assert "Triscale cannot export bfloat16 for ONNX Runtime" in message


def test_advice_on_weights_names_the_weights(weights, photos):
    with execution(progress=False) as context, open_source(str(weights), context, images=str(photos)) as source:
        advice = " ".join(remedies(source.run, "int8", calibration=300))
        assert f"triscale train TRAINING_IMAGES --weights {weights} --set" in advice
        assert str(source.run.folder) not in advice
        cache = QuantizationEvalCache(source.run, exportable(source.run), calibration=8)
        with pytest.raises(UserError, match=f"and {re.escape(str(weights))} has"):
            cache.check_calibration()


def refused_for_run(capsys, weights, command, *arguments):
    run(capsys, "weights", "run", weights, "--out", "own")
    return refused(capsys, command, "own", *arguments)


def test_weights_are_explained_measured_and_embedded(capsys, weights, photos, here):
    picture = photos / "red" / "000.png"
    assert run(capsys, "explain", weights, picture, "--out", "one").code == 0
    result = run(capsys, "explain", weights, "--images", photos)
    assert result.code == 0, result.err
    assert "maps in explained" in result.out
    maps = json.loads(Path("explained/maps.json").read_text())["images"]
    assert all((Path("explained") / one["overlay"]).is_file() for one in maps)
    record = ExplainedImages.load(Path("explained/maps.json"))
    old = record.images[0].replace(image="98-image.png", overlay="98-overlay.png")
    record.replace(images=(*record.images, old)).save(Path("explained/maps.json"))
    for name in ("98-image.png", "98-overlay.png", "notes.txt"):
        Path("explained", name).write_text("old")
    assert run(capsys, "explain", weights, "--images", photos).code == 0
    names = {name for one in record.images for name in (one.image, one.overlay)}
    assert {path.name for path in Path("explained").iterdir()} == {*names, "maps.json", "notes.txt"}
    assert "there are no images to explain" in refused(capsys, "explain", weights)
    assert run(capsys, "features", weights, photos / "red", "--out", "red.npy").code == 0
    assert json.loads(run(capsys, "measure", weights, "--engines", "torch", "--json").out)[0]["resolution"] == 16


def test_weights_that_are_not_here_are_measured(capsys):
    result = run(capsys, "measure", "lukemelas/efficientnet-lite0.pytorch_model", "--engines", "torch", "--json")
    assert json.loads(result.out)[0]["resolution"] == 224


def test_exported_file_is_evaluated_and_refused_where_weights_are_needed(capsys, exported, weights, photos):
    found = json.loads(run(capsys, "evaluate", exported, photos, "--json").out)
    assert found["count"] == 120
    predictions = json.loads(run(capsys, "predict", exported, photos, "--json").out)
    right = [Path(one["file"]).parent.name == one["classes"][0]["name"] for one in predictions]
    assert found["top1"] == pytest.approx(sum(right) / 120)
    note = run(capsys, "evaluate", exported, photos).err
    assert "has no splits, so all 120 images are evaluated" in note
    assert "has no splits, so all its images are evaluated; leave out --split val" in refused(
        capsys, "evaluate", exported, photos, "--split", "val"
    )
    assert "give images to evaluate it on: --images" in refused(capsys, "evaluate", exported)
    for command in (("explain", exported), ("export", exported), ("deploy", exported), ("features", exported, photos,
                    "--out", "x.npy")):  # fmt: skip
        assert "is an exported file, which can be used by predict, evaluate, measure and serve" in refused(
            capsys, *command
        )


@pytest.mark.usefixtures("one_engine")
def test_run_object_opens_weights(weights, photos, here):
    opened = ts.Run.open(weights, photos, progress=False)
    assert opened.weights == str(weights)
    assert opened.classes == NAMES
    assert opened.predict(photos / "red" / "000.png").classes
    assert opened.metrics is None
    assert opened.evaluate(progress=False).count == 88
    opened.evaluate("train", progress=False)
    assert opened.metrics.count == 88
    assert opened.export(progress=False).export.file == "mine.onnx"
    assert opened.deploy(precisions=("float32",), progress=False).file.startswith("mine.")
    assert opened.explain(progress=False).images
    assert sorted(path.name for path in here.iterdir()) == ["deployed", "explained", "mine.onnx"]
    with pytest.raises(UserError, match="whose report has no place"):
        opened.report()
    folder = opened.path
    assert folder.is_dir()
    del opened
    assert not folder.exists()


def test_what_is_neither_a_run_nor_weights_says_what_is_expected(capsys, photos, tmp_path, here):
    picture = photos / "red" / "000.png"
    assert "there is no run and no file efficientnet_lite9, and" in refused(
        capsys, "predict", "efficientnet_lite9", picture
    )
    near = refused(capsys, "predict", "lukemelas/efficientnet-lite0.pytorch_modl", picture)
    assert "did you mean lukemelas/efficientnet-lite0.pytorch_model" in near
    assert "is not a weights file that Triscale can read; expected" in refused(capsys, "predict", picture, picture)
    assert "there is no run and no file missing.safetensors; give" in refused(
        capsys, "predict", "missing.safetensors", picture
    )
    assert "holds no run (no run.json)" in refused(capsys, "predict", photos, picture)
    with pytest.raises(RunError, match="holds no run"):
        ts.Run.open(photos)
    with pytest.raises(WeightsError, match="there is no run and no file"):
        ts.Run.open("nothing")


def test_folders_that_are_no_class_of_the_weights_are_refused(capsys, weights, tmp_path):
    write_classes(tmp_path / "images", 2, colors={"red": (200, 0, 0), "gren": (0, 200, 0)})
    message = refused(capsys, "evaluate", weights, tmp_path / "images")
    assert "1 of 2 class folders match no class of" in message
    assert "did you mean green" in message
    assert "--class-names FILE --out RUN, or leave these folders out" in message
