"""Lists and fetches what lies on other machines, through fsspec: every wait is limited, every failure tried again."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from triscale.data.images.decode import BadImage
from triscale.errors import DataError

_Answer = TypeVar("_Answer")

PIECE_BYTES = 16 << 20
"""What is asked for at once."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often something is tried.

    Attributes:
        attempts: number of times.
        seconds: that one attempt may take, for at most :data:`PIECE_BYTES`.
        listing_seconds: that the listing of a whole set may take.
        pause: seconds before the second attempt; it doubles with each.
    """

    attempts: int = 5
    seconds: float = 60.0
    listing_seconds: float = 1800.0
    pause: float = 0.5


RETRY_POLICY = RetryPolicy()

_SECONDS_OF_A_REQUEST = 20  # connecting, or waiting for the next bytes; below the limit of an attempt


class RemoteObject(NamedTuple):
    """An object as it was listed; ``tag`` changes when its content does."""

    size: int
    tag: str


class Connection:
    """One address; safe in threads, and in a process that was forked, where it connects anew."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._connected: dict[int, tuple[Any, str]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Connection, (self.url,)

    def list(self) -> dict[str, RemoteObject]:
        """Return all objects below the address, by their paths relative to it.

        Raises:
            DataError: the address is unknown, must not be read, or could not be reached.
        """
        _, root = self._system()
        try:
            found = self._try(
                f"the list of {self.url}", RETRY_POLICY.listing_seconds, "find", root, detail=True, withdirs=False
            )
        except BadImage:
            found = {}
        if not found:
            raise DataError(f"there is nothing at {self.url}; expected a folder of class folders or of tar shards")
        prefix = root.rstrip("/") + "/"
        return {
            path.removeprefix(prefix): RemoteObject(int(info["size"]), _tag(info))
            for path, info in found.items()
            if info["type"] == "file" and path.startswith(prefix) and not path.endswith("/")
        }

    def fetch(self, path: str, listed: RemoteObject, write: Callable[[bytes], Any]) -> None:
        """Fetch an object in pieces.

        Raises:
            BadImage: it is no longer there, or must not be read.
            DataError: it could not be fetched, or has changed meanwhile.
        """
        _, root = self._system()
        place, url = f"{root.rstrip('/')}/{path}", f"{self.url}/{path}"
        for start in range(0, listed.size, PIECE_BYTES):
            end = min(start + PIECE_BYTES, listed.size)
            write(self._try(url, RETRY_POLICY.seconds, "cat_file", place, start=start, end=end))
        if listed.size > PIECE_BYTES:
            info = self._try(url, RETRY_POLICY.seconds, "info", place)
            if RemoteObject(int(info["size"]), _tag(info)) != listed:
                raise DataError(f"{url} has changed while it was read; give the same command again")

    def _system(self) -> tuple[Any, str]:
        """Return the file system of this process and the address as it calls it."""
        process = os.getpid()
        if process not in self._connected:
            self._connected = {process: _connect(self.url)}
        return self._connected[process]

    def _try(self, what: str, seconds: float, name: str, place: str, **options: Any) -> Any:
        """Call a method of the file system, again where that may help."""
        failures, hopeless = _failures()
        begun = time.monotonic()
        for attempt in range(1, RETRY_POLICY.attempts + 1):
            try:
                answer = _limited(self._system()[0], seconds, name, place, **options)
                if name == "cat_file" and len(answer) != options["end"] - options["start"]:
                    raise OSError(f"{len(answer)} of {options['end'] - options['start']} bytes came")
                return answer
            except FileNotFoundError as error:
                raise BadImage("no such object") from error
            except hopeless as error:
                raise DataError(
                    f"{what} may not be read ({_describe(error)}); check the credentials, which are found as s3fs and "
                    f"fsspec find them, and the rights"
                ) from error
            except failures as error:
                if attempt == RETRY_POLICY.attempts:
                    raise DataError(
                        f"{what} could not be fetched in {attempt} attempts and {time.monotonic() - begun:.0f} s "
                        f"({_describe(error)}); check the connection and give the same command again, which keeps "
                        f"what was fetched"
                    ) from error
                time.sleep(RETRY_POLICY.pause * 2 ** (attempt - 1))
        raise AssertionError("no attempt was made")


def _connect(url: str) -> tuple[Any, str]:
    try:
        core: Any = importlib.import_module("fsspec.core")
    except ImportError as error:
        raise DataError(f"reading {url} needs fsspec; install it with: pip install 'triscale[remote]'") from error
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if url.startswith(("s3://", "s3a://")):
        limits = {"connect_timeout": _SECONDS_OF_A_REQUEST, "read_timeout": _SECONDS_OF_A_REQUEST}
        options["config_kwargs"] = limits | {"retries": {"max_attempts": 0}}
    try:
        system, root = core.url_to_fs(url, **options)
    except ImportError as error:
        raise DataError(f"reading {url} needs a package more ({error})") from error
    except ValueError as error:
        raise DataError(
            f"{url} is no address that can be read ({error}); expected one such as s3://bucket/images"
        ) from error
    if options.get("config_kwargs"):
        system.retries = 1  # the attempts are counted here
    return system, str(root)


def _limited(system: Any, seconds: float, name: str, place: str, **options: Any) -> Any:
    """Call a method with a limit of time, also where the file system knows none."""
    method = getattr(system, f"_{name}", None)
    if system.async_impl and inspect.iscoroutinefunction(method):
        future = asyncio.run_coroutine_threadsafe(_within(method(place, **options), seconds), system.loop)
        return future.result(seconds + 5)
    pool = ThreadPoolExecutor(1, thread_name_prefix="fetch")
    try:
        return pool.submit(getattr(system, name), place, **options).result(seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def _within(answer: Coroutine[Any, Any, _Answer], seconds: float) -> _Answer:
    return await asyncio.wait_for(answer, seconds)


def _failures() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """Return the errors after which another attempt may help, and those after which none will."""
    passing: list[type[Exception]] = [OSError, asyncio.TimeoutError, EOFError]
    hopeless: list[type[Exception]] = [PermissionError, NotADirectoryError]
    for module, name, kinds in (
        ("botocore.exceptions", "BotoCoreError", passing),
        ("botocore.exceptions", "NoCredentialsError", hopeless),
        ("aiohttp", "ClientError", passing),
        ("gcsfs.retry", "HttpError", passing),
    ):
        try:
            kinds.append(getattr(importlib.import_module(module), name))
        except ImportError:
            continue
    return tuple(passing), tuple(hopeless)


def _tag(info: dict[str, Any]) -> str:
    """Return what tells two contents of an object apart, as far as the file system says."""
    for name in ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime"):
        if info.get(name) is not None:
            return str(info[name]).strip('"')
    return ""


def _describe(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
