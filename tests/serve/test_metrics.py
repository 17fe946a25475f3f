"""The figures that Prometheus collects."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from serve.forms import FORM, form, part
from triscale.jobs.core.run import RunFolder
from triscale.serve.app import PATHS, make_app
from triscale.serve.limits import DEFAULTS
from triscale.serve.metrics import BUCKETS, CONTENT_TYPE, ServerMetrics
from triscale.serve.model import ServedModel

SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? [0-9.e+-]+')


@pytest.fixture
def model(served_run):
    return ServedModel(RunFolder.open(served_run), DEFAULTS.pixels)


def collect(client):
    """The samples of a valid exposition by name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == CONTENT_TYPE
    assert response.text.endswith("\n")
    samples, described = {}, set()
    for line in response.text.splitlines():
        if line.startswith("# "):
            described.add(line.split()[2])
        else:
            assert SAMPLE.fullmatch(line), line
            name, _, value = line.rpartition(" ")
            assert name not in samples
            samples[name] = float(value)
            assert re.sub(r"_(bucket|sum|count)$", "", name.partition("{")[0]) in described
    return samples


def test_requests_images_and_latency_are_counted(model, served_run):
    client = TestClient(make_app(model))
    content = next((served_run.parent / "images").rglob("*.png")).read_bytes()
    before = collect(client)
    assert before['triscale_images_total{outcome="classified"}'] == 0
    for _ in range(2):
        client.post("/api/predict", content=content)
    client.post("/api/predict", content=form(part(content, "a"), part(content, "b")), headers=FORM)
    client.post("/api/predict", content=b"no image")
    client.get("/api/predict")
    after = collect(client)
    assert after['triscale_http_requests_total{path="/api/predict",status="200"}'] == 3
    assert after['triscale_http_requests_total{path="/api/predict",status="415"}'] == 1
    assert after['triscale_http_requests_total{path="/api/predict",status="405"}'] == 1
    assert after['triscale_http_requests_total{path="/metrics",status="200"}'] == 1
    assert after['triscale_images_total{outcome="classified"}'] == 4
    assert after['triscale_images_total{outcome="unreadable"}'] == 1
    assert after["triscale_prediction_seconds_count"] == 4
    assert after["triscale_prediction_seconds_sum"] > 0


def test_number_of_series_is_bounded(model):
    client = TestClient(make_app(model))
    for number in range(50):
        client.get(f"/wp-{number}.php?x={number}")
        client.get(f'/api/predict/"}}{number}%0A')
    paths = {name for name in collect(client) if name.startswith("triscale_http")}
    assert paths == {'triscale_http_requests_total{path="other",status="404"}'}


def test_every_path_is_known(model):
    assert {route.path for route in make_app(model).routes} <= set(PATHS)


def test_failures_of_the_server_are_counted(model, monkeypatch):
    monkeypatch.setattr(ServedModel, "answer", lambda *_, **__: 1 / 0)
    client = TestClient(make_app(model), raise_server_exceptions=False)
    response = client.post("/api/predict", content=b"x")
    assert response.status_code == 500
    assert response.json() == {"detail": "Internal server error; see the server's log."}
    assert collect(client)['triscale_http_requests_total{path="/api/predict",status="500"}'] == 1


def test_histogram_is_cumulative_with_inclusive_bounds():
    metrics = ServerMetrics(())
    for seconds in (0.0, 0.0025, 0.0026, 10.0, 11.0):
        metrics.count_image("classified", seconds)
    counts = re.findall(r'_bucket\{le="([^"]+)"\} (\d+)', metrics.render())
    assert [bound for bound, _ in counts] == [*map(str, BUCKETS), "+Inf"]
    assert [int(count) for _, count in counts] == [2, *[3] * 10, 4, 5]
    assert "triscale_prediction_seconds_count 5\n" in metrics.render()
