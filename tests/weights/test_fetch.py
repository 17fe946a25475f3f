"""Published weights are downloaded once and completely, whatever the network does; offline fails at once."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision

from triscale.errors import WeightsError
from triscale.places import cache_folder
from triscale.retry import RetryPolicy
from triscale.weights import catalog, load
from triscale.weights import fetch as fetching
from triscale.weights.contract import WeightsContract
from triscale.weights.fetch import fetch
from triscale.weights.load import find_weights

CONTENT = bytes(range(256)) * 4096  # 1 MiB
FAST_RETRIES = RetryPolicy(attempts=3, timeout=1.0, pause=0.01)


class Server:
    """Serves one content with injected faults.

    Attributes:
        faults: faults of the next requests: "half", "500", "404", "hang", "hang-in-the-middle", "change", or
            "redirect" to the same without encryption.
        ranges: the first bytes of the requested ranges.
    """

    def __init__(self) -> None:
        self.content, self.faults, self.ranges = CONTENT, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "hang":
            time.sleep(2)
            return
        if fault.isdigit():
            handler.send_error(int(fault))
            return
        if fault == "redirect":
            handler.send_response(302)
            handler.send_header("Location", "http://example.invalid/weights.pth")
            handler.end_headers()
            return
        if fault == "change":
            self.content = self.content[::-1]
        tag = f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'
        start = 0
        requested = handler.headers.get("Range", "")
        if requested and handler.headers.get("If-Range") == tag:
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
        self.ranges.append(start)
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(body)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        if fault in ("half", "hang-in-the-middle", "change"):
            handler.wfile.write(body[: len(body) // 2])
            if fault == "hang-in-the-middle":
                time.sleep(2)
            return
        handler.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("TRISCALE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "RETRY_POLICY", FAST_RETRIES)
    running = Server()
    yield running
    running.close()


def weights(server: Server, **changes: object) -> WeightsContract:
    known = catalog.published("torchvision/resnet18.IMAGENET1K_V1")
    digest = hashlib.sha256(CONTENT).hexdigest()
    return known.replace(url=f"{server.url}/resnet18.pth", sha256=digest[:8], **changes)


def leftovers() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "weights" / "torchvision").iterdir())


WHOLE = ["resnet18.IMAGENET1K_V1.pth", "resnet18.IMAGENET1K_V1.pth.sha256"]


def test_file_is_downloaded_once_with_progress(server):
    reports = []
    path = fetch(weights(server), progress=lambda received, total: reports.append((received, total)))
    assert path.read_bytes() == CONTENT
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(weights(server)) == path
    assert server.ranges == [0]
    assert leftovers() == WHOLE


@pytest.mark.parametrize("fault", ["half", "hang-in-the-middle"])
def test_interrupted_download_is_resumed(server, fault):
    server.faults = [fault, fault]
    assert fetch(weights(server)).read_bytes() == CONTENT
    assert server.ranges == [0, len(CONTENT) // 2, len(CONTENT) * 3 // 4]
    assert leftovers() == WHOLE


def test_next_command_resumes_a_failed_download(server):
    server.faults = ["half", "500", "500", "500"]
    with pytest.raises(WeightsError, match=rf"could not be downloaded in 3 attempts.*after {len(CONTENT) // 2} bytes"):
        fetch(weights(server))
    assert fetch(weights(server)).read_bytes() == CONTENT
    assert server.ranges == [0, len(CONTENT) // 2]


def test_content_changed_during_download_is_not_mixed(server):
    server.faults = ["half", "change"]
    with pytest.raises(WeightsError, match="is not the published file: its SHA-256 begins with"):
        fetch(weights(server))
    assert server.ranges == [0, 0, len(CONTENT) // 2]
    assert leftovers() == []


def test_server_errors_are_retried(server):
    server.faults = ["500", "503"]
    assert fetch(weights(server)).read_bytes() == CONTENT


@pytest.mark.parametrize("status", ["404", "403", "410"])
def test_missing_file_fails_at_once(server, status):
    server.faults = [status]
    with pytest.raises(WeightsError, match=rf"is not available \({status} .*put it at .*resnet18\.IMAGENET1K_V1\.pth"):
        fetch(weights(server))
    assert server.ranges == []


def test_second_url_is_used_if_hub_has_no_file(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/hub")
    server.faults = ["404"]
    path = fetch(weights(server, hub="someone/something"))
    assert path.name == "resnet18.IMAGENET1K_V1.pth"
    monkeypatch.setenv("TRISCALE_CACHE", str(cache_folder() / "other"))
    assert fetch(weights(server, hub="someone/something")).name == "resnet18.IMAGENET1K_V1.safetensors"


def test_hanging_server_times_out(server):
    server.faults = ["hang"] * 9
    with pytest.raises(WeightsError, match=r"could not be downloaded|cannot be reached"):
        fetch(weights(server))


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("host", ["http://127.0.0.1:{port}", "https://nowhere.invalid"])
def test_offline_error_says_where_to_put_file(server, host):
    address = host.format(port=closed_port()) + "/resnet18.pth"
    missing = weights(server).replace(url=address)
    with pytest.raises(WeightsError) as caught:
        fetch(missing)
    place = cache_folder() / "weights" / "torchvision" / "resnet18.IMAGENET1K_V1.pth"
    assert "cannot be reached" in str(caught.value)
    assert f"download {address} on another machine and put it at {place}" in str(caught.value)
    place.write_bytes(CONTENT)
    assert fetch(missing) == place


@pytest.mark.parametrize("how", ["argument", "TRISCALE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_mode_sends_no_request(server, how, monkeypatch):
    if how != "argument":
        monkeypatch.setenv(how, "1")
    with pytest.raises(WeightsError, match=r"disabled by --offline; download http.* and put it at"):
        fetch(weights(server), offline=how == "argument")
    assert server.ranges == []


def test_modified_cache_file_is_rejected(server):
    path = fetch(weights(server))
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"was altered or is not the published file.*remove it"):
        fetch(weights(server))


@pytest.mark.parametrize("address", ["http://example.com/a.pth", "file:///etc/passwd", "ftp://example.com/a.pth"])
def test_only_https_urls_are_accepted(server, address):
    with pytest.raises(WeightsError, match="expected a URL that begins with https"):
        fetch(weights(server).replace(url=address))


def test_redirect_to_http_is_not_followed(server):
    server.faults = ["redirect"]
    with pytest.raises(WeightsError, match=r"http://example\.invalid/weights\.pth is not downloaded"):
        fetch(weights(server))


def test_weights_without_url_are_reported(server):
    with pytest.raises(WeightsError, match=r"no URL of .* is known; import it from a file"):
        fetch(weights(server).replace(url=None))


@torch.no_grad()
def test_named_weights_are_loaded_and_imported_once(server, tmp_path, monkeypatch):
    torch.manual_seed(6)
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    server.content = (tmp_path / "a.pth").read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()
    known = catalog.table("torchvision")
    row = next(row for row in known.rows if row.name == "resnet18.IMAGENET1K_V1")
    row = row.model_copy(update={"url": f"{server.url}/resnet18.pth", "sha256": digest[:8]})
    monkeypatch.setattr(catalog, "table", lambda source: known.model_copy(update={"rows": (row,)}))
    loaded = find_weights("torchvision/resnet18")
    assert loaded.weights.sha256 == digest
    assert loaded.weights.preprocessing == catalog.published("torchvision/resnet18").preprocessing
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded.build()(images), theirs(images), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(load, "fetch", None)
    assert find_weights("torchvision/resnet18").weights == loaded.weights


@torch.no_grad()
def test_url_and_hub_repository_need_source_and_name(server, monkeypatch):
    torch.manual_seed(7)
    theirs = torchvision.models.resnet18().eval()
    server.content = safetensors.torch.save(theirs.state_dict())
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    images = torch.randn(1, 3, 64, 64)
    for text in (f"{server.url}/some/resnet18.safetensors", "hub:someone/resnet18"):
        loaded = find_weights(text, source="timm", name="resnet18")
        torch.testing.assert_close(loaded.build()(images), theirs(images), rtol=1e-5, atol=1e-5)
        assert loaded.weights.sha256 == hashlib.sha256(server.content).hexdigest()
    with pytest.raises(WeightsError, match="does not say which network it belongs to; give source and name"):
        find_weights("hub:someone/resnet18")


def test_hugging_face_cache_file_is_used(server, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repository, file: str(tmp_path / file))
    assert fetch(weights(server, hub="timm/resnet18.a1_in1k")) == tmp_path / "model.safetensors"
    assert server.ranges == []
