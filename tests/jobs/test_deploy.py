"""Export and deployment of a run on the command line."""

import dataclasses
import json
import re
import shutil
import sys
import time

import numpy as np
import pytest

from cli.command import refused, run
from sizes import stressed
from triscale.deploy.engines import ENGINES
from triscale.errors import ExportError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy import candidates as module
from triscale.jobs.deploy.candidates import TIED_RATIO, CandidateFile
from triscale.jobs.deploy.deadline import Deadline
from triscale.jobs.deploy.deploy import _judge, _no_file_message
from triscale.jobs.deploy.eval_cache import QuantizationEvalCache
from triscale.jobs.deploy.export import exportable
from triscale.jobs.deploy.remedies import remedies
from triscale.network.latency import DeviceProfile, Predictor
from triscale.results.deployment import CandidateLoss, Deployment, DeploymentCandidate, Exports
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


def test_precision_of_no_installed_engine_says_what_to_install(capsys, made, monkeypatch):
    missing = dataclasses.replace(ENGINES["openvino"], converter="a_module_that_is_not_installed")
    monkeypatch.setitem(ENGINES, "openvino", missing)
    message = refused(capsys, "export", made, "--engine", "all", "--precision", "bfloat16")
    assert "no installed engine has bfloat16; install OpenVINO (pip install 'triscale[openvino]')" in message


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
    assert quantized["choice"]["lost_points"] <= 20
    assert quantized["lost_low"] <= quantized["lost_points"] <= quantized["lost_high"]
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
    message = refused(capsys, "deploy", made, "--device", profile, "--precisions", "int8")
    assert "profiles predict the latency of float32 files, not of int8; leave the precisions out" in message
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


def candidate(engine, precision, milliseconds, lost, size=1000):
    loss = None if precision == "float32" else CandidateLoss(chosen_points=lost, points=2 * lost, low=0, high=9)
    made = DeploymentCandidate(
        engine=engine, precision=precision, milliseconds=milliseconds, loss=loss, size_bytes=size
    )
    return CandidateFile(made, ENGINES["onnxruntime"], file=engine)


@pytest.mark.parametrize(
    ("budget", "taken"),
    [(None, "fast"), (Budget(latency=1.5), "fast"), (Budget(size=500), "small"), (Budget(latency=0.5), None)],
)
def test_choice_meets_budget_and_breaks_ties_by_loss(budget, taken):
    rows = [
        candidate("slow", "float32", 3.0, 0),
        candidate("fast", "float32", 1.01, 0),
        candidate("faster", "int8", 1.0, 0.4),
        candidate("small", "int8", 2.0, 0.2, 400),
        CandidateFile(DeploymentCandidate(engine="none", precision="int8", verdict="not installed")),
    ]
    judged = [one.candidate for one in _judge(rows, budget, 0.5)]
    assert [one.engine for one in judged if one.chosen] == ([taken] if taken else [])
    assert judged[-1].verdict == "not installed"
    assert judged[2].verdict.endswith("; loses 0.80 points on the test images, where 0.5 are allowed")
    assert "test images" not in judged[3].verdict
    if taken == "fast":
        assert judged[0].verdict == ("slower than 1.5 ms" if budget else "takes 2.97 times as long")
        assert judged[1].verdict.startswith("chosen: tied with the fastest")


def test_deployment_goes_on_without_an_engine_that_is_not_installed(capsys, made, monkeypatch):
    """Also in bfloat16, where the engine itself is asked what the processor can do."""
    monkeypatch.setattr(module, "ENGINES", HERE)
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = run(capsys, "deploy", made, "--precisions", "float32", "bfloat16", "--json")
    assert result.code == 0, result.err
    deployment = json.loads(result.out)
    assert deployment["file"].endswith("model.onnx")
    verdicts = {one["precision"]: one["verdict"] for one in deployment["candidates"] if one["engine"] == "OpenVINO"}
    assert verdicts.keys() == {"float32", "bfloat16"}
    assert all("OpenVINO is not installed; install it with" in verdict for verdict in verdicts.values())


def test_invalid_deployments_and_exports_are_rejected(capsys, made, tmp_path, monkeypatch):
    before = sorted(path.name for path in made.iterdir())
    monkeypatch.setattr(module, "ENGINES", {"onnxruntime": ENGINES["onnxruntime"]})
    assert "limits latency or file size" in refused(capsys, "deploy", made, "--budget", "5M params")
    message = refused(capsys, "deploy", made, "--budget", "1kB", "--precisions", "float32")
    assert "no file is within 1.00kB" in message
    assert "train a smaller network" in message
    assert "one or more of float32, float16, bfloat16, int8" in refused(capsys, "deploy", made, "--precisions", "int4")
    assert "is not a duration" in refused(capsys, "deploy", made, "--time-limit", "soon")
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
    assert "--set quantization=int8" in result.err
    assert "raise --bound" in result.err
    assert not list(made.glob("model.int8*"))


@pytest.fixture(params=["onnxruntime", "openvino", "litert"])
def half_engine(request):
    """An engine with float16 whose files can be written and run here."""
    engine = ENGINES[request.param]
    if not engine.installed:
        pytest.skip(f"{engine.title} is not installed")
    return engine


def test_float16_files_predict_alike_and_are_judged(capsys, made, folder, half_engine):
    """On the command line."""
    picture = sorted((folder / "red").iterdir())[0]
    for precision in ("float32", "float16"):
        result = run(capsys, "export", made, "--engine", half_engine.name, "--precision", precision)
        assert result.code == 0, result.err
    files = {one.export.file: one for one in Exports.load(RunFolder.open(made).exports_file).files}
    exact, half = files[f"model{half_engine.suffix}"], files[f"model.float16{half_engine.suffix}"]
    assert half.quantized.precision == "float16"
    assert half.quantized.lost_points == 0
    one, other = (
        json.loads(run(capsys, "predict", made / file.export.file, picture, "--json").out)[0] for file in (exact, half)
    )
    for ours, theirs in zip(one["classes"], other["classes"], strict=True):
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=2e-3)


def test_float16_is_deployed_where_it_is_named(capsys, made, half_engine, monkeypatch):
    monkeypatch.setattr(module, "ENGINES", {half_engine.name: half_engine})
    result = run(capsys, "deploy", made, "--precisions", "float16")
    assert result.code == 0, result.err
    deployed = Deployment.load(made / "deploy.json")
    assert deployed.file == f"deployed/model.float16{half_engine.suffix}"
    assert (made / deployed.file).exists()
    assert [(one.engine, one.precision) for one in deployed.candidates if one.chosen] == [
        (half_engine.title, "float16")
    ]


def test_engines_with_float16_are_named_where_one_has_none(capsys, made):
    message = refused(capsys, "export", made, "--engine", "executorch", "--precision", "float16")
    assert (
        "cannot export float16 for ExecuTorch; the engines with float16 are onnxruntime, openvino, coreml, litert"
        in message
    )


def test_bfloat16_is_a_precision_of_openvino_that_needs_a_processor_with_it(capsys, made, monkeypatch):
    openvino = pytest.importorskip("openvino")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in bfloat16")
    result = run(capsys, "export", made, "--engine", "openvino", "--precision", "bfloat16")
    assert result.code == 0, result.err
    assert "not verified: OpenVINO does not run bfloat16 on this machine" in result.out.replace("\n", " ")
    file = made / "model.bfloat16.xml"
    model = openvino.Core().read_model(str(file))
    assert model.get_rt_info(["triscale", "inference_precision"]).astype(str) == "bf16"
    assert ENGINES["openvino"].open(file)._settings["INFERENCE_PRECISION_HINT"] == "bf16"
    assert run(capsys, "predict", file, made.parent / "images").code in (0, 2)
    message = refused(capsys, "measure", "mobilenet_v1", "--engines", "openvino", "--precision", "bfloat16")
    assert "this processor has no bfloat16 instructions" in message
    assert "cannot export bfloat16 for ONNX Runtime" in refused(
        capsys, "export", made, "--engine", "onnxruntime", "--precision", "bfloat16"
    )
    monkeypatch.setattr(module, "ENGINES", {"openvino": ENGINES["openvino"]})
    result = run(capsys, "deploy", made, "--precisions", "float32", "bfloat16")
    assert result.code == 0, result.err
    rows = [one for one in Deployment.load(made / "deploy.json").candidates if one.precision == "bfloat16"]
    assert [(one.engine, one.verdict) for one in rows] == [("OpenVINO", "this processor has no bfloat16 instructions")]


def test_bfloat16_is_judged_where_it_runs(capsys, made, monkeypatch):
    pytest.importorskip("openvino")
    engine = ENGINES["openvino"]
    rounding = dataclasses.replace(engine.roundings["bfloat16"], obstacle=lambda: "")
    # OpenVINO then computes in float32: the guard, the record and the file are those of a processor with bfloat16.
    here = dataclasses.replace(engine, roundings={"bfloat16": rounding})
    monkeypatch.setitem(ENGINES, "openvino", here)
    monkeypatch.setattr(module, "ENGINES", {"openvino": here})
    result = run(capsys, "deploy", made, "--precisions", "bfloat16", "--bound", 20)
    assert result.code == 0, result.err
    deployed = Deployment.load(made / "deploy.json")
    assert deployed.file == "deployed/model.bfloat16.xml"
    assert deployed.quantized.precision == "bfloat16"
    assert deployed.quantized.lost_points == 0
    assert deployed.open_with == (
        'core.compile_model("model.bfloat16.xml", "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})'
    )
    assert deployed.open_with in result.out.replace("\n", " ")


def test_int8_is_only_made_where_it_can_be_the_fastest(capsys, made, monkeypatch):
    class Slow(ENGINES["onnxruntime"].openers["float32"]):
        def __init__(self, file, threads=0):
            super().__init__(file, threads)
            self.waits = 0.02 if ".int8." in file.name else 0.0

        def __call__(self, images):
            time.sleep(self.waits)
            return super().__call__(images)

    slow = dataclasses.replace(ENGINES["onnxruntime"], openers={"float32": Slow})
    monkeypatch.setattr(module, "ENGINES", {"onnxruntime": slow})
    monkeypatch.setattr(module, "slow_blocks", lambda *_: ())
    result = run(capsys, "deploy", made)
    assert result.code == 0, result.err
    (int8,) = [one for one in Deployment.load(made / "deploy.json").candidates if one.precision == "int8"]
    assert int8.milliseconds is None
    assert re.fullmatch(r"not tried: with all blocks in int8 it takes \d+\.\d\d times as long as the fastest file",
                        int8.verdict)  # fmt: skip


def test_time_limit_ends_with_the_best_file_so_far(capsys, made, monkeypatch):
    monkeypatch.setattr(module, "ENGINES", HERE)
    result = run(capsys, "deploy", made, "--time-limit", "1s")
    assert result.code == 0, result.err
    deployed = Deployment.load(made / "deploy.json")
    assert (made / deployed.file).is_file()
    assert deployed.time_limit == 1
    made_files = [one for one in deployed.candidates if one.size_bytes is not None]
    assert [(one.engine, one.precision) for one in made_files] == [("ONNX Runtime", "float32")]
    left_out = [one for one in deployed.candidates if one.verdict == "not tried within --time-limit 1 s"]
    assert {(one.engine, one.precision) for one in left_out} >= {("OpenVINO", "float32"), ("ONNX Runtime", "int8")}
    assert "no file: ONNX Runtime, int8: not tried within --time-limit 1 s" in result.out.replace("\n", " ")


def test_gain_of_int8_is_over_float32(tmp_path):
    engine, candidate = ENGINES["openvino"], DeploymentCandidate(engine="OpenVINO", precision="float32")
    options = module.CandidateOptions(bound=0.5, budget=None, threads=1, deadline=Deadline())
    maker = module.CandidateMaker(None, None, tmp_path, None, options)
    maker.timed = [
        (CandidateFile(candidate.replace(precision=precision), engine, tmp_path, precision), milliseconds)
        for precision, milliseconds in (("float32", 4.0), ("bfloat16", 2.0))
    ]
    assert maker._float_time(engine) == 4.0


def test_message_without_a_file_is_about_files_alone():
    refused_one = DeploymentCandidate(engine="ONNX Runtime", precision="int8", verdict="loses 3 points")
    torch_row = DeploymentCandidate(engine="torch", precision="float32", deployable=False)
    message = _no_file_message(_judge([CandidateFile(refused_one), CandidateFile(torch_row)], None), None)
    assert message == "no file could be made: ONNX Runtime, int8: loses 3 points"


def test_remedies_are_those_that_apply(made):
    opened = RunFolder.open(made)
    advice = remedies(opened, "int8", calibration=300)
    assert advice[-1] == "raise --bound"
    assert any("--set quantization=int8" in clause for clause in advice)
    assert not any("--calibration" in clause for clause in advice)  # there are no more training images
    available = len(opened.split.train)
    assert f"(--calibration {available})" in remedies(opened, "int8", calibration=32)[0]
    assert remedies(opened, "bfloat16", calibration=32) == ("export float32", "raise --bound")


def test_images_of_the_choice_are_never_test_images(made):
    opened = RunFolder.open(made)
    cache = QuantizationEvalCache(opened, exportable(opened))
    name, samples = cache._choice
    split = opened.split
    # The run has few validation images, and all training images calibrate.
    assert name == "calibration"
    assert {sample.path for sample in samples} == {sample.path for sample in split.train}
    assert not {sample.path for sample in samples} & {sample.path for sample in split.test}


def test_record_of_an_earlier_version_does_not_stop_a_new_export_or_deployment(capsys, made, monkeypatch):
    monkeypatch.setattr(module, "ENGINES", {"onnxruntime": ENGINES["onnxruntime"]})
    for name, kind in (("exports.json", "exports"), ("deploy.json", "deployment")):
        (made / name).write_text(json.dumps({"triscale": kind, "schema": 1, "files": []}))
    assert run(capsys, "export", made).code == 0
    assert run(capsys, "deploy", made, "--precisions", "float32").code == 0
    assert [item.export.file for item in Exports.load(made / "exports.json").files] == ["model.onnx"]
