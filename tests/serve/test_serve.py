"""The HTTP server: correct responses, clear errors, and a working page."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import triscale as ts
from cli.command import refused, run
from serve.conftest import serving
from triscale.errors import BudgetError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.predict import predict
from triscale.network.custom import CustomNetwork
from triscale.network.latency import NAMES, Predictor
from triscale.results.confidence import Calibration
from triscale.scaling.budget import Budget
from triscale.serve.model import ServedModel

pytestmark = pytest.mark.process

SLOW_CLIENTS = 60
BAD_REQUESTS = 300


def request(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def picture(run: Path) -> Path:
    return next((run.parent / "images").rglob("*.png"))


def test_prediction_matches_predict_command(server, served_run):
    file = picture(served_run)
    status, result = request(server, "POST", "/api/predict?top=3&map=true", file.read_bytes())
    assert status == 200
    expected = next(predict(served_run, (file,), top=3))
    assert [one["name"] for one in result["classes"]] == [guess.name for guess in expected.classes]
    np.testing.assert_allclose(
        [one["probability"] for one in result["classes"]], [guess.probability for guess in expected.classes], atol=1e-6
    )
    assert sum(one["probability"] for one in result["classes"]) == pytest.approx(1)
    with Image.open(io.BytesIO(base64.b64decode(result["map"]))) as shown:
        assert shown.size == (160, 160)
    assert (result["width"], result["height"]) == (24, 24)
    assert result["milliseconds"] > 0


def test_model_endpoint_describes_model(server, served_run):
    status, result = request(server, "GET", "/api/model")
    assert status == 200
    assert result["network"] == "tiny"
    assert result["dataset"] == "images"
    assert tuple(result["classes"]) == RunFolder.open(served_run).spec.classes
    assert result["min_macs"] <= result["macs"] <= result["max_macs"]


def test_scale_endpoint_returns_network(server):
    status, result = request(server, "GET", "/api/scale?budget=1M")
    assert status == 200
    assert result["macs"] <= 1e6
    assert result["used"] <= 1


def test_profile_predicts_latency_of_fitted_network(served_run):
    predictor = Predictor(
        engine="onnxruntime", threads=1, processor="a phone", milliseconds=dict.fromkeys(NAMES, 0.01), error=0.05,
        error_90=0.1, held_out=10,
    )  # fmt: skip
    model = ServedModel(RunFolder.open(served_run), 10**6, predictor)
    result = model.scaled(Budget.of("1M"))
    assert result.milliseconds > 0
    slower = model.scaled(Budget(latency=2 * result.milliseconds))
    assert result.milliseconds < slower.milliseconds <= 2 * result.milliseconds
    assert ServedModel(RunFolder.open(served_run), 10**6).scaled(Budget.of("1M")).milliseconds is None


def test_latency_of_a_custom_model_is_not_measured_by_a_request(served_run):
    model = ServedModel(RunFolder.open(served_run), 10**6)
    model._baseline = CustomNetwork(name="own", function="somewhere:build")
    with pytest.raises(BudgetError, match="the server does not measure custom models"):
        model.scaled(Budget(latency=20))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/api/predict", b"", 415, "empty"),
        ("POST", "/api/predict", b"<html>", 415, "not an image"),
        ("POST", "/api/predict", b"\xff\xd8\xff\xe0" + bytes(200), 415, "not a readable image"),
        ("POST", "/api/predict?top=0", b"x", 422, "greater than or equal to 1"),
        ("GET", "/api/scale?budget=abc", None, 422, "Cannot read the budget"),
        ("GET", "/api/scale?budget=1K", None, 422, "No network scaled from"),
        ("GET", "/api/scale?budget=1", None, 422, "give a unit"),
        ("GET", "/api/scale", None, 422, "query parameter 'budget' is missing"),
        ("GET", "/api/predict", None, 405, "takes POST, not GET; send the bytes of an image file, a form"),
        ("GET", "/../../etc/passwd", None, 404, "There is no /"),
    ],
)
def test_invalid_requests_are_rejected(server, method, path, body, status, message):
    result, answer = request(server, method, path, body)
    assert result == status
    assert message in json.dumps(answer)


def test_image_with_too_many_pixels_is_rejected_by_header(server):
    buffer = io.BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "PNG")
    status, answer = request(server, "POST", "/api/predict", buffer.getvalue())
    assert status == 415
    assert "pixels" in answer["detail"]


def test_oversized_body_is_rejected_before_upload(server):
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.stress
def test_idle_connection_is_closed(server):
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(b"GET / HT")
        assert connection.recv(100) == b""


def test_openapi_describes_every_response(server):
    status, described = request(server, "GET", "/openapi.json")
    assert status == 200
    assert set(described["paths"]) == {"/api/health", "/api/model", "/api/predict", "/api/scale"}
    refusals = described["paths"]["/api/predict"]["post"]["responses"]
    assert {"200", "408", "413", "415", "422", "503"} <= set(refusals)


def test_slow_clients_do_not_block_others(server, served_run):
    content = picture(served_run).read_bytes()

    def ask() -> float:
        begun = time.perf_counter()
        assert request(server, "POST", "/api/predict", content)[0] == 200
        return time.perf_counter() - begun

    async def crowd() -> list[float]:
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(SLOW_CLIENTS)]
        for _, writer in slow:
            writer.write(b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
        good = []
        for number in range(BAD_REQUESTS // 10):
            bad = [asyncio.to_thread(request, server, "POST", "/api/predict", bytes([number])) for _ in range(10)]
            answers = await asyncio.gather(*bad, asyncio.to_thread(ask))
            assert all(status in (415, 503) for status, _ in answers[:-1])
            good.append(answers[-1])
        for _, writer in slow:
            writer.close()
        return good

    assert len(asyncio.run(crowd())) == BAD_REQUESTS // 10
    ask()


def test_used_port_and_invalid_run_are_rejected(capsys, server, served_run, tmp_path):
    assert f"cannot listen on 127.0.0.1:{server.port}" in refused(capsys, "serve", served_run, "--port", server.port)
    assert "no such port" in refused(capsys, "serve", served_run, "--port", 70000)
    assert "holds no run" in refused(capsys, "serve", tmp_path)


def test_head_has_the_headers_of_get_and_no_body(server):
    for path in ("/", "/docs", "/api/model", "/api/health", "/metrics"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b""), path
        connection.close()
    assert request(server, "HEAD", "/api/predict")[0] == 405
    assert request(server, "HEAD", "/nothing")[0] == 404


def test_bytes_a_form_and_json_give_the_same_answer(server, served_run):
    content = picture(served_run).read_bytes()
    bytes_answer = request(server, "POST", "/api/predict", content)[1]["classes"]
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + content + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert request(server, "POST", "/api/predict", form, headers)[1]["predictions"][0]["classes"] == bytes_answer
    text = json.dumps({"image": base64.b64encode(content).decode()})
    headers = {"Content-Type": "application/json"}
    assert request(server, "POST", "/api/predict", text, headers)[1]["classes"] == bytes_answer


def test_exported_file_is_served_in_its_engine(capsys, served_run, tmp_path):
    file = tmp_path / "mine.onnx"
    assert run(capsys, "export", served_run, "--out", file).code == 0
    image = picture(served_run)
    expected = json.loads(run(capsys, "predict", file, image, "--json").out)[0]["classes"]
    with serving(file) as started:
        answer = request(started, "POST", "/api/predict?top=3&map=true", image.read_bytes())[1]
        about = request(started, "GET", "/api/model")[1]
        refused_scale = request(started, "GET", "/api/scale?budget=1M")
    assert answer["classes"] == expected
    assert (answer["map"], answer["peak"]) == (None, None)
    assert (about["dataset"], about["network"], about["macs"]) == ("mine", "mine.onnx", None)
    assert about["classes"] == list(RunFolder.open(served_run).spec.classes)
    assert refused_scale[0] == 422
    assert "cannot be scaled" in refused_scale[1]["detail"]
    assert "leave it out" in refused(capsys, "serve", file, "--profile", "x.json")


def test_server_gives_the_prediction_set_and_says_what_is_unknown(served_run, tmp_path):
    made = Path(shutil.copytree(served_run, tmp_path / "run"))
    calibration = Calibration.load(made / "calibration.json")
    confidence = calibration.confidence.replace(
        temperature=4.0, set_threshold=0.01, unknown_threshold=1e6, coverage=0.75
    )
    calibration.replace(confidence=confidence).save(made / "calibration.json")
    image = picture(served_run)
    expected = ts.Run.open(made).predict(image)
    with serving(made) as started:
        answer = request(started, "POST", "/api/predict", image.read_bytes())[1]
        about = request(started, "GET", "/api/model")[1]
    assert answer["prediction_set"] == list(expected.prediction_set)
    assert len(answer["prediction_set"]) > 1
    assert answer["unknown"] is True
    assert [one["probability"] for one in answer["classes"]] == pytest.approx(
        [one.probability for one in expected.classes]
    )
    assert about["coverage"] == 0.75


def test_server_that_others_can_reach_says_so(served_run):
    command = [sys.executable, "-m", "triscale", "serve", str(served_run), "--host", "0.0.0.0", "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGTERM)
    shown = "".join(lines)
    assert "anyone who can reach this address can use the server" in shown
    assert "this machine" not in shown
