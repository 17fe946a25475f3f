"""List and download remote objects through fsspec, with a time limit and retries for every request."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from triscale.data.images.color import BadImage
from triscale.errors import DataError
from triscale.retry import RetryPolicy, summarize_error

_Answer = TypeVar("_Answer")

PIECE_BYTES = 16 << 20
"""Maximum size of one request."""

RETRY_POLICY = RetryPolicy(attempts=5, timeout=60.0)
"""Retries of one request for at most :data:`PIECE_BYTES`."""

LISTING_TIMEOUT = 1800.0
"""Maximum seconds for one attempt to list a whole dataset."""

_REQUEST_TIMEOUT = 20  # seconds to connect, or to wait for the next bytes; below the timeout of an attempt


class RemoteObject(NamedTuple):
    """Metadata of a listed object; ``tag`` changes when its content does."""

    size: int
    tag: str


class Connection:
    """Access to one URL; thread-safe, and safe in a forked process, which opens its own connection.

    Args:
        url: The URL of a folder, such as ``s3://bucket/images``.

    Example:
        >>> connection = Connection("memory://photos")
        >>> file_system, root = connection._system()
        >>> file_system.pipe_file("/photos/cat/1.png", b"12345")
        >>> listed = connection.list()
        >>> listed["cat/1.png"].size
        5
        >>> content = bytearray()
        >>> connection.fetch("cat/1.png", listed["cat/1.png"], content.extend)
        >>> bytes(content)
        b'12345'
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._connected: dict[int, tuple[Any, str]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Connection, (self.url,)

    def list(self) -> dict[str, RemoteObject]:
        """Return all objects below the URL, by their paths relative to it.

        Raises:
            DataError: The URL does not exist, access is denied, or it cannot be reached.
        """
        _, root = self._system()
        try:
            objects = self._try(f"the list of {self.url}", LISTING_TIMEOUT, "find", root, detail=True, withdirs=False)
        except BadImage:
            objects = {}
        if not objects:
            raise DataError(f"there is nothing at {self.url}; expected a folder of class folders or of tar shards")
        prefix = root.rstrip("/") + "/"
        return {
            path.removeprefix(prefix): RemoteObject(int(info["size"]), _tag(info))
            for path, info in objects.items()
            if info["type"] == "file" and path.startswith(prefix) and not path.endswith("/")
        }

    def fetch(self, path: str, listed: RemoteObject, write: Callable[[bytes], Any]) -> None:
        """Download an object in pieces.

        Args:
            path: Path relative to the URL.
            listed: The metadata of the object when it was listed.
            write: Called with each piece in order.

        Raises:
            BadImage: The object no longer exists.
            DataError: Access is denied, the download failed, or the object has changed since it was listed.
        """
        _, root = self._system()
        object_path, url = f"{root.rstrip('/')}/{path}", f"{self.url}/{path}"
        for start in range(0, listed.size, PIECE_BYTES):
            end = min(start + PIECE_BYTES, listed.size)
            write(self._try(url, RETRY_POLICY.timeout, "cat_file", object_path, start=start, end=end))
        if listed.size > PIECE_BYTES:
            info = self._try(url, RETRY_POLICY.timeout, "info", object_path)
            if RemoteObject(int(info["size"]), _tag(info)) != listed:
                raise DataError(f"{url} changed while it was read; run the same command again")

    def _system(self) -> tuple[Any, str]:
        """Return the file system of this process and the path of the URL in it."""
        process = os.getpid()
        if process not in self._connected:
            self._connected = {process: _connect(self.url)}
        return self._connected[process]

    def _try(self, what: str, seconds: float, name: str, path: str, **options: Any) -> Any:
        """Call a method of the file system, with retries after errors that may be temporary."""
        temporary, permanent = _error_types()
        started = time.monotonic()
        for attempt in range(1, RETRY_POLICY.attempts + 1):
            try:
                content = _limited(self._system()[0], seconds, name, path, **options)
                if name == "cat_file" and len(content) != options["end"] - options["start"]:
                    raise OSError(f"received {len(content)} of {options['end'] - options['start']} bytes")
                return content
            except FileNotFoundError as error:
                raise BadImage("no such object") from error
            except permanent as error:
                raise DataError(
                    f"access to {what} was denied ({summarize_error(error)}); check the credentials, which are looked "
                    f"up by s3fs and fsspec, and the permissions"
                ) from error
            except temporary as error:
                if attempt == RETRY_POLICY.attempts:
                    raise DataError(
                        f"{what} could not be downloaded in {attempt} attempts and {time.monotonic() - started:.0f} s "
                        f"({summarize_error(error)}); check the connection and run the same command again, which keeps "
                        f"the files already downloaded"
                    ) from error
                RETRY_POLICY.wait(failures=attempt)
        raise AssertionError("no attempt was made")


def _connect(url: str) -> tuple[Any, str]:
    try:
        core: Any = importlib.import_module("fsspec.core")
    except ImportError as error:
        raise DataError(f"reading {url} needs fsspec; install it with: pip install 'triscale[remote]'") from error
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if url.startswith(("s3://", "s3a://")):
        limits = {"connect_timeout": _REQUEST_TIMEOUT, "read_timeout": _REQUEST_TIMEOUT}
        options["config_kwargs"] = limits | {"retries": {"max_attempts": 0}}
    try:
        system, root = core.url_to_fs(url, **options)
    except ImportError as error:
        raise DataError(f"reading {url} needs another package ({error}); install it") from error
    except ValueError as error:
        raise DataError(
            f"{url} is not a URL that can be read ({error}); expected one such as s3://bucket/images"
        ) from error
    if options.get("config_kwargs"):
        system.retries = 1  # retries are up to Connection
    return system, str(root)


def _limited(system: Any, seconds: float, name: str, path: str, **options: Any) -> Any:
    """Call a method with a time limit, even if the file system has none."""
    method = getattr(system, f"_{name}", None)
    if system.async_impl and inspect.iscoroutinefunction(method):
        future = asyncio.run_coroutine_threadsafe(_within(method(path, **options), seconds), system.loop)
        return future.result(seconds + 5)
    pool = ThreadPoolExecutor(1, thread_name_prefix="fetch")
    try:
        return pool.submit(getattr(system, name), path, **options).result(seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def _within(call: Coroutine[Any, Any, _Answer], seconds: float) -> _Answer:
    return await asyncio.wait_for(call, seconds)


def _error_types() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """Return the types of temporary errors, after which a retry may help, and of permanent ones."""
    temporary: list[type[Exception]] = [OSError, asyncio.TimeoutError, EOFError]
    permanent: list[type[Exception]] = [PermissionError, NotADirectoryError]
    for module, name, kinds in (
        ("botocore.exceptions", "BotoCoreError", temporary),
        ("botocore.exceptions", "NoCredentialsError", permanent),
        ("aiohttp", "ClientError", temporary),
        ("gcsfs.retry", "HttpError", temporary),
    ):
        try:
            kinds.append(getattr(importlib.import_module(module), name))
        except ImportError:
            continue
    return tuple(temporary), tuple(permanent)


def _tag(info: dict[str, Any]) -> str:
    """Return a string that changes with the content of an object, or an empty one if the file system has none."""
    for name in ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime"):
        if info.get(name) is not None:
            return str(info[name]).strip('"')
    return ""
