"""Export and deployment of a run on the command line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from cli.command import refused, run
from sizes import stressed
from triscale.deploy.engines import ENGINES
from triscale.errors import ExportError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy import deploy as module
from triscale.jobs.deploy.deploy import TIED_RATIO, _CandidateFile, _judge
from triscale.network.latency import DeviceProfile, Predictor
from triscale.results.deployment import Deployment, DeploymentCandidate, Exports
from triscale.scaling.budget import Budget

HERE = {name: ENGINES[name] for name in ("onnxruntime", "openvino")}


@pytest.fixture
def folder(trained_run):
    return trained_run.parent / "images"


@pytest.fixture
def made(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


def test_every_engine_gives_the_same_prediction(capsys, made, folder):
    picture = sorted((folder / "red").iterdir())[0]
    expected = json.loads(run(capsys, "predict", made, picture, "--json").out)[0]
    for name, engine in HERE.items():
        pytest.importorskip(engine.converter)
        result = run(capsys, "export", made, "--engine", name)
        assert result.code == 0, result.err
        file = made / f"model{engine.suffix}"
        assert file.name in result.out
        found = json.loads(run(capsys, "predict", file, picture, "--json").out)[0]
        assert [guess["name"] for guess in found["classes"]] == [guess["name"] for guess in expected["classes"]]
        for ours, theirs in zip(found["classes"], expected["classes"], strict=True):
            assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
    files = Exports.load(RunFolder.open(made).exports_file).files
    assert [item.export.file for item in files] == [f"model{engine.suffix}" for engine in HERE.values()]
    assert all(item.latency.threads == 1 and item.latency.median_ms > 0 for item in files)
    named = {item["name"] for item in json.loads((made / "manifest.json").read_text())["files"]}
    assert {"exports.json", "model.onnx", "model.xml", "model.bin"} <= named


def test_suffix_of_out_selects_engine(capsys, made, tmp_path):
    pytest.importorskip("openvino")
    result = run(capsys, "export", made, "--out", tmp_path / "there" / "net.xml", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["export"]["engine"] == "OpenVINO"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["net.bin", "net.xml"]
    assert not RunFolder.open(made).exports_file.is_file()


def test_int8_stays_within_bound_and_is_measured(capsys, made):
    result = run(capsys, "export", made, "--precision", "int8", "--bound", 20, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    quantized = found["quantized"]
    assert quantized["lost_points"] <= 20
    assert quantized["images"] == len(RunFolder.open(made).split.test)
    assert quantized["float_accuracy"] == json.loads((made / "metrics.json").read_text())["top1"]
    assert {block["name"] for block in quantized["blocks"]} >= {"stem", "head"}
    assert found["export"]["precision"] == found["latency"]["precision"] == "int8"
    measured = json.loads(run(capsys, "measure", made / "model.int8.onnx", "--json").out)
    assert [item["precision"] for item in measured] == ["int8"]


@pytest.mark.parametrize("precisions", ["float32", *stressed("")])
def test_fastest_file_is_saved_in_run_with_explanation(capsys, made, monkeypatch, precisions):
    monkeypatch.setattr(module, "ENGINES", HERE)
    options = ("--precisions", precisions) if precisions else ()
    result = run(capsys, "deploy", made, "--bound", 20, "--budget", "1s", *options)
    assert result.code == 0, result.err
    deployed = Deployment.load(made / "deploy.json")
    (chosen,) = [one for one in deployed.candidates if one.chosen]
    assert (made / deployed.file).is_file()
    assert str(made / deployed.file) in result.out.replace("\n", "")
    assert chosen.deployable
    timed = [one for one in deployed.candidates if one.milliseconds is not None]
    assert {(one.engine, one.precision) for one in timed} >= {("ONNX Runtime", "float32"), ("torch", "float32")}
    assert chosen.milliseconds <= TIED_RATIO * min(one.milliseconds for one in timed if one.deployable)
    assert all(one.verdict for one in deployed.candidates)
    assert not [path for path in made.iterdir() if path.name.startswith(".deploy")]
    assert run(capsys, "deploy", made, "--precisions", "float32").code == 0
    again = Deployment.load(made / "deploy.json")
    kept = {path.name for path in (made / "deployed").iterdir()}
    assert kept == {path.name for path in (made / again.file).parent.glob(f"{(made / again.file).stem}.*")}
    deployed = again
    measured = run(capsys, "measure", made / deployed.file, "--json")
    assert measured.code == 0, measured.err


def test_profile_of_another_device_predicts_latency(capsys, made, tmp_path):
    predictor = Predictor(
        engine="onnxruntime", threads=4, processor="a board", milliseconds={"run.count": 7.5}, error=0.1, error_90=0.2,
        held_out=3,
    )  # fmt: skip
    profile = tmp_path / "profile.json"
    DeviceProfile(engine="onnxruntime", threads=4, processor="a board", predictor=predictor).save(profile)
    result = run(capsys, "deploy", made, "--device", profile)
    assert result.code == 0, result.err
    assert "predicted by the profile of a board" in result.out
    deployed = Deployment.load(made / "deploy.json")
    assert (deployed.device, deployed.threads, deployed.predicted) == ("a board", 4, True)
    assert deployed.candidates[0].milliseconds == pytest.approx(7.5)
    pytest.importorskip("openvino")
    other = tmp_path / "openvino.json"
    faster = predictor.model_copy(update={"engine": "openvino", "milliseconds": {"run.count": 5.0}})
    DeviceProfile(engine="openvino", threads=4, processor="a board", predictor=faster).save(other)
    result = run(capsys, "deploy", made, "--device", profile, other)
    assert result.code == 0, result.err
    deployed = Deployment.load(made / "deploy.json")
    assert [(one.engine, one.milliseconds, one.chosen) for one in deployed.candidates] == [
        ("ONNX Runtime", pytest.approx(7.5), False), ("OpenVINO", pytest.approx(5), True),
    ]  # fmt: skip
    assert deployed.file == "deployed/model.xml"
    assert "two profiles belong to ONNX Runtime" in refused(capsys, "deploy", made, "--device", profile, profile)
    DeviceProfile(
        engine="openvino", threads=1, processor="a phone",
        predictor=faster.model_copy(update={"threads": 1, "processor": "a phone"}),
    ).save(other)  # fmt: skip
    message = refused(capsys, "deploy", made, "--device", profile, other)
    assert "different devices: a board with 4 of its cores and a phone with 1 of its cores" in message
    assert "give cpu or profiles" in refused(capsys, "deploy", made, "--device", "cpu", profile)
    assert "no file is within 2 ms" in refused(capsys, "deploy", made, "--device", profile, "--budget", "2ms")


def test_failing_engine_does_not_stop_the_others(capsys, made, monkeypatch):
    def fails(subject, file):
        raise ExportError("what it cannot convert")

    broken = dataclasses.replace(ENGINES["openvino"], write=fails)
    monkeypatch.setattr("triscale.deploy.engines.ENGINES", {"openvino": broken, "onnxruntime": ENGINES["onnxruntime"]})
    result = run(capsys, "export", made, "--engine", "all")
    assert result.code == 1
    assert "the export failed for 1 engine of 2: OpenVINO: what it cannot convert" in result.err
    assert "model.onnx" in result.out
    assert (made / "model.onnx").is_file()
    assert not (made / "model.xml").exists()


def candidate(engine, precision, milliseconds, accuracy, size=1000):
    made = DeploymentCandidate(
        engine=engine, precision=precision, milliseconds=milliseconds, accuracy=accuracy, size_bytes=size
    )
    return _CandidateFile(made, ENGINES["onnxruntime"], file=engine)


@pytest.mark.parametrize(
    ("budget", "taken"),
    [(None, "fast"), (Budget(latency=1.5), "fast"), (Budget(size=500), "small"), (Budget(latency=0.5), None)],
)
def test_choice_meets_budget_and_breaks_ties_by_accuracy(budget, taken):
    rows = [
        candidate("slow", "float32", 3.0, 0.9),
        candidate("fast", "float32", 1.01, 0.9),
        candidate("faster", "int8", 1.0, 0.88),
        candidate("small", "int8", 2.0, 0.89, 400),
        _CandidateFile(DeploymentCandidate(engine="none", precision="int8", verdict="not installed")),
    ]
    judged = [one.candidate for one in _judge(rows, budget)]
    assert [one.engine for one in judged if one.chosen] == ([taken] if taken else [])
    assert judged[-1].verdict == "not installed"
    if taken == "fast":
        assert judged[0].verdict == ("slower than 1.5 ms" if budget else "takes 2.97 times as long")
        assert judged[1].verdict.startswith("chosen: tied with the fastest")


def test_invalid_deployments_and_exports_are_rejected(capsys, made, tmp_path, monkeypatch):
    before = sorted(path.name for path in made.iterdir())
    monkeypatch.setattr(module, "ENGINES", {"onnxruntime": ENGINES["onnxruntime"]})
    assert "limits latency or file size" in refused(capsys, "deploy", made, "--budget", "5M params")
    message = refused(capsys, "deploy", made, "--budget", "1kB", "--precisions", "float32")
    assert "no file is within 1.00kB" in message
    assert "train a smaller network" in message
    assert "give float32, int8 or both" in refused(capsys, "deploy", made, "--precisions", "int4")
    assert "1 or more threads" in refused(capsys, "deploy", made, "--threads", 0)
    assert "holds no run" in refused(capsys, "deploy", tmp_path)
    assert 'there is no engine "onnx"' in refused(capsys, "export", made, "--engine", "onnx")
    assert "end in .xml" in refused(capsys, "export", made, "--engine", "openvino", "--out", tmp_path / "a.onnx")
    assert "suffix of no engine" in refused(capsys, "export", made, "--out", tmp_path / "a.bin")
    assert "--engine all writes several" in refused(
        capsys, "export", made, "--engine", "all", "--out", tmp_path / "a.onnx"
    )
    assert "too few to calibrate" in refused(capsys, "export", made, "--precision", "int8", "--calibration", 8)
    assert "cannot quantize for Core ML" in refused(capsys, "export", made, "--precision", "int8", "--engine", "coreml")
    assert "does not exist" in refused(capsys, "predict", tmp_path / "none.onnx", made)
    message = refused(capsys, "measure", made, "--engines", "onnxruntime", "--precision", "bfloat16")
    assert "bfloat16 is for openvino" in message
    assert sorted(path.name for path in made.iterdir()) == before


def test_inaccurate_int8_is_rejected_by_name_and_leaves_no_files(capsys, made, monkeypatch):
    class Wrong(ENGINES["onnxruntime"].openers["float32"]):
        def __call__(self, images):
            return np.roll(super().__call__(images), 1, axis=1)

    wrong = dataclasses.replace(ENGINES["onnxruntime"], openers={"float32": Wrong})
    monkeypatch.setattr("triscale.deploy.engines.ENGINES", {"onnxruntime": wrong})
    monkeypatch.setattr("triscale.deploy.engines.DEFAULT_ENGINE", wrong)
    result = run(capsys, "export", made, "--precision", "int8")
    assert result.code == 1
    assert "Most sensitive blocks: " in result.err
    assert "--lite" in result.err
    assert not list(made.glob("model.int8*"))
