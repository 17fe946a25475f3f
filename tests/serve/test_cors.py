"""Pages of other origins: refused unless --cors names them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request

import pytest
from starlette.testclient import TestClient

from cli.command import refused
from triscale.errors import UserError
from triscale.jobs.core.run import RunFolder
from triscale.serve.app import make_app
from triscale.serve.cors import check_origin
from triscale.serve.limits import DEFAULTS
from triscale.serve.model import ServedModel

ORIGIN, OTHER = "https://example.com", "https://evil.example"


@pytest.fixture(scope="module")
def model(served_run):
    return ServedModel(RunFolder.open(served_run), DEFAULTS.pixels)


def preflight(client, origin, method="POST", headers="content-type"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.options("/api/predict", headers=asked)


def test_off_by_default(model):
    client = TestClient(make_app(model))
    for response in (client.get("/api/model", headers={"Origin": ORIGIN}), preflight(client, ORIGIN)):
        assert not [name for name in response.headers if name.startswith("access-control")]
    assert preflight(client, ORIGIN).status_code == 405


def test_named_origins_are_allowed(model):
    client = TestClient(make_app(model, origins=(ORIGIN, "http://localhost:3000")))
    for origin in (ORIGIN, "http://localhost:3000"):
        response = preflight(client, origin)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin
        assert response.headers["access-control-allow-methods"] == "GET, POST"
        assert "content-type" in response.headers["access-control-allow-headers"].lower()
        assert response.headers["access-control-max-age"] == "600"
        assert "Origin" in response.headers["vary"]
        assert "access-control-allow-credentials" not in response.headers
        for answer in (client.get("/api/health", headers={"Origin": origin}),
                       client.post("/api/predict", content=b"no image", headers={"Origin": origin})):  # fmt: skip
            assert answer.headers["access-control-allow-origin"] == origin
            assert "Origin" in answer.headers["vary"]


def test_other_origins_methods_and_headers_are_not_allowed(model):
    client = TestClient(make_app(model, origins=(ORIGIN,)))
    for origin in (OTHER, "null", "http://example.com", f"{ORIGIN}.evil.example", f"{ORIGIN}:8443"):
        assert preflight(client, origin).status_code == 400
        assert "access-control-allow-origin" not in preflight(client, origin).headers
        assert "access-control-allow-origin" not in client.get("/api/health", headers={"Origin": origin}).headers
    assert preflight(client, ORIGIN, method="DELETE").status_code == 400
    assert preflight(client, ORIGIN, headers="authorization").status_code == 400


def test_all_origins(model):
    client = TestClient(make_app(model, origins=("*",)))
    assert preflight(client, OTHER).headers["access-control-allow-origin"] == "*"
    assert client.get("/api/health", headers={"Origin": OTHER}).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("*", "*"),
        ("HTTPS://Example.com/", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_origins_are_written_as_browsers_send_them(text, origin):
    assert check_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["", "example.com", "null", "ftp://example.com", "https://", "https://a/b", "https://a?b", "https://a#b",
     "https://u@a", "https://a:port", "https://a:99999", "https://*.example.com", "https://größe.de", "https://a b",
     "https://[::1"],
)  # fmt: skip
def test_other_texts_are_no_origins(text):
    with pytest.raises(UserError, match="is not an origin; give scheme, host and port"):
        check_origin(text)


@pytest.mark.process
def test_command_accepts_several_origins(capsys, served_run):
    assert "is not an origin" in refused(capsys, "serve", served_run, "--cors", "example.com")
    process = subprocess.Popen(
        [sys.executable, "-m", "triscale", "serve", str(served_run), "--port", "0", "--cors", ORIGIN, "--cors", OTHER],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        address = line[line.index("http://") :].strip()
        for origin in (ORIGIN, OTHER):
            asked = urllib.request.Request(f"{address}/api/health", headers={"Origin": origin})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert answer.headers["access-control-allow-origin"] == origin
                assert json.load(answer) == {"status": "ok"}
    finally:
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
