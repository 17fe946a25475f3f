"""Fetching published weights: once, whole, and resumed where it was cut off."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from triscale.errors import WeightsError
from triscale.places import cache_folder
from triscale.weights.contract import WeightsContract
from triscale.weights.tensors import sha256_of

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come and, where it is known, with how many there are."""

HUB_FILE = "model.safetensors"
MAX_BYTES = 16 << 30
PASSING = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_EARLY, http.HTTPStatus.TOO_MANY_REQUESTS)
"""Answers after which another attempt may help, beside those of a server in trouble."""

_PIECE = 1 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often something is tried.

    Attributes:
        attempts: in a row that bring nothing.
        seconds: to connect, and to wait for the next bytes.
        pause: seconds before the second attempt; it doubles with each.
    """

    attempts: int = 4
    seconds: float = 10.0
    pause: float = 0.5


RETRY_POLICY = RetryPolicy()


class _UnreachableError(Exception):
    """Nobody answers at the address; another attempt would not help."""


class _GoneError(Exception):
    """The server answers that it does not give the file."""


def fetch(weights: WeightsContract, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """Return the original file of published weights: from the cache, or fetched into it.

    What was fetched is kept with its SHA-256 and checked at each use. ``$TRISCALE_OFFLINE`` and ``$HF_HUB_OFFLINE``
    count as ``offline``. Where the package ``huggingface_hub`` is there, its cache and its login are used too.

    Args:
        weights: whose address or hub name is known.
        offline: ask no network.
        progress: told of each piece.

    Raises:
        WeightsError: no address is known, nobody can be reached, or another file came than was published; the message
            says which file to put where.
    """
    addresses = _addresses(weights)
    if not addresses:
        raise WeightsError(f"no address of {weights.title} is known; import it from a file")
    places = {address: _place(weights, address) for address in addresses}
    for path in places.values():
        if _kept(path, weights.sha256):
            return path
    cached = _in_hub_cache(weights)
    if cached is not None:
        return cached
    by_hand = f"fetch {addresses[0]} on another machine and put it at {places[addresses[0]]}"
    if offline or any(os.environ.get(name, "") in ("1", "true") for name in ("TRISCALE_OFFLINE", "HF_HUB_OFFLINE")):
        raise WeightsError(f"{weights.title} is not in the cache and --offline was asked for; {by_hand}")
    gone = []
    for address, path in places.items():
        try:
            download(address, path, weights.sha256, progress)
            return path
        except _GoneError as error:
            gone.append(f"{address} is not given ({error})")
        except _UnreachableError as error:
            raise WeightsError(
                f"{weights.title} is not in the cache and {urlsplit(address).hostname} cannot be reached ({error}); "
                f"{by_hand}"
            ) from error
    raise WeightsError(f"{weights.title} cannot be fetched: {'; '.join(gone)}; {by_hand}")


def download(address: str, path: Path, sha256: str | None, progress: Progress | None = None) -> None:
    """Fetch one address to a file that is whole or absent; what came before a failure is kept and gone on with.

    Raises:
        WeightsError: the file has another SHA-256 than expected, or the connection fails again and again.
        _GoneError: the server does not have the file.
        _UnreachableError: nobody answers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path)
    failures, before, total = 0, part.size, None
    while total is None or part.size < total:
        try:
            total = _continue(address, part, progress)
        except (OSError, http.client.HTTPException) as error:
            failures = 1 if part.size > before else failures + 1
            before = part.size
            if failures >= RETRY_POLICY.attempts:
                raise WeightsError(
                    f"{address} could not be fetched in {failures} attempts ({_describe(error)}); give the same "
                    f"command again, which goes on after {part.size} bytes"
                ) from error
            time.sleep(RETRY_POLICY.pause * 2 ** (failures - 1))
    digest = sha256_of(part.path)
    if sha256 is not None and not digest.startswith(sha256):
        part.forget()
        raise WeightsError(
            f"{address} gave another file than was published: its SHA-256 begins with {digest[:8]}, expected "
            f"{sha256[:8]}; nothing was kept"
        )
    path.with_name(path.name + ".sha256").write_text(digest + "\n")
    part.finish(path)


class _Part:
    """The beginning of a file, and the tag by which the server knows its content."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".part")
        self._tag_file = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def tag(self, address: str) -> str:
        """Return the tag to resume with, or nothing."""
        if not (self.size and self._tag_file.is_file()):
            return ""
        known = json.loads(self._tag_file.read_text())
        return str(known["tag"]) if known["address"] == address else ""

    def begin(self, address: str, tag: str) -> None:
        """Start again with a content of this tag."""
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


def _continue(address: str, part: _Part, progress: Progress | None) -> int:
    """Fetch what is missing, and return the size of the whole."""
    tag = part.tag(address)
    with _open(_request(address, part, tag), part) as answer:
        start = _start(answer.headers) if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        if start != part.size or not tag:
            if start:
                part.forget()
                raise OSError("another part came than was asked for")
            part.begin(address, _strong_tag(answer.headers))
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None and total > MAX_BYTES:
            raise WeightsError(f"{address} has {total} bytes; at most {MAX_BYTES} are fetched")
        with part.path.open("ab") as file:
            while piece := answer.read1(_PIECE):
                file.write(piece)
                if progress is not None:
                    progress(file.tell(), total)
                if file.tell() > MAX_BYTES:
                    raise WeightsError(f"{address} does not end; {MAX_BYTES} bytes came")
    if total is not None and part.size != total:
        raise OSError(f"{part.size} of {total} bytes came")
    return part.size


def _request(address: str, part: _Part, tag: str) -> urllib.request.Request:
    request = urllib.request.Request(
        _checked(address), headers={"User-Agent": "triscale", "Accept-Encoding": "identity"}
    )
    if tag:
        request.add_header("Range", f"bytes={part.size}-")
        request.add_header("If-Range", tag)
    token = _hub_token() if address.startswith(_hub() + "/") else None
    if token:  # for the hub itself, not for the storage that it redirects to
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _open(request: urllib.request.Request, part: _Part) -> Any:
    try:
        return _OPENER.open(request, timeout=RETRY_POLICY.seconds)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.forget()
        elif error.code not in PASSING and error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _GoneError(f"{error.code} {error.reason}") from error
        raise OSError(f"{error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError) and part.size:
            raise OSError("timed out") from error
        raise _UnreachableError(_describe(error.reason)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to addresses only that could have been given."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        return super().redirect_request(req, fp, code, msg, headers, _checked(newurl))


_OPENER = urllib.request.build_opener(_Redirects())


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return address
    raise WeightsError(f"{address} is not fetched; expected an address that begins with https://")


def _start(headers: HTTPMessage) -> int:
    unit, _, span = headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1


def _strong_tag(headers: HTTPMessage) -> str:
    tag = headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag


def _kept(path: Path, sha256: str | None) -> bool:
    """Whether a file is in the cache, as it was fetched or as a person put it there."""
    if not path.is_file():
        return False
    note = path.with_name(path.name + ".sha256")
    digest = sha256_of(path)
    if (note.is_file() and note.read_text().strip() != digest) or (
        sha256 is not None and not digest.startswith(sha256)
    ):
        raise WeightsError(
            f"{path} was altered or is not the published file (its SHA-256 begins with {digest[:8]}); remove it and "
            "give the same command again"
        )
    return True


def _addresses(weights: WeightsContract) -> tuple[str, ...]:
    hub = None if weights.hub is None else f"{_hub()}/{weights.hub}/resolve/main/{HUB_FILE}"
    return tuple(address for address in (hub, weights.address) if address is not None)


def _place(weights: WeightsContract, address: str) -> Path:
    file = urlsplit(address).path.rpartition("/")[2]
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
    """Return the file that Hugging Face's own client has fetched before."""
    client = None if weights.hub is None else _hub_client()
    found = None if client is None else client.try_to_load_from_cache(weights.hub, HUB_FILE)
    return Path(found) if isinstance(found, str) else None


def _describe(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
