"""The storage of a study: Optuna's tables in an SQLite file for one coordinator, or in PostgreSQL for many machines.

Optuna's dashboard and tools open both. With several writing processes SQLite lost trials (three workers, three of three
attempts). A file therefore has a single writer, which holds a lock; PostgreSQL locks rows.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.sql import text

from triscale.errors import RunError, SearchError
from triscale.locks import LockedError, exclusive_lock

BUSY_SECONDS = 30
CONNECT_SECONDS = 10
BEAT_SECONDS = 10
GRACE_SECONDS = 60
"""A job without a heartbeat for this long is given to another coordinator."""
PATIENCE_SECONDS = 300.0
"""How long a server may be unreachable before a search gives up."""

_TABLES = {"studies", "trials", "version_info", "alembic_version"}
_ALONE = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
_POSTGRES = ("postgresql", "postgres")

Result = TypeVar("Result")

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Storage:
    """An open Optuna storage.

    Args:
        rdb: Optuna's storage.
        shown: Its file or URL for messages, without a password.
        shared: Whether many machines may use it.
        patience: Seconds that a server may be unreachable.
    """

    def __init__(self, rdb: RDBStorage, shown: str, *, shared: bool, patience: float = PATIENCE_SECONDS) -> None:
        self.rdb, self.shown, self.shared = rdb, shown, shared
        self._patience = patience

    def retrying(self, call: Callable[[], Result]) -> Result:
        """Call a function that uses the storage, and retry while the server is unreachable.

        Raises:
            SearchError: The server was unreachable for too long.
        """
        deadline = time.monotonic() + (self._patience if self.shared else 0)
        while True:
            try:
                return call()
            except (StorageInternalError, DBAPIError) as error:
                if time.monotonic() >= deadline:
                    raise SearchError(
                        f"{self.shown} is unreachable ({_first_line(error)}); run the same command again to resume "
                        "when it is back"
                    ) from error
                time.sleep(1.0)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold an advisory lock of the server for changes by one machine at a time; it ends with the connection."""
        if not self.shared:
            yield
            return
        with self.rdb.engine.connect() as connection, connection.begin():
            connection.execute(_ALONE, {"name": f"triscale/{name}"})
            yield

    def fail_stale(self, study: optuna.Study) -> None:
        """Fail the trials without a heartbeat for the grace period."""
        with _ignore_experimental_warning():
            optuna.storages.fail_stale_trials(study)

    def close(self) -> None:
        """Close all connections."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()


@contextmanager
def open_storage(
    location: str | Path, *, beat: int = BEAT_SECONDS, grace: int = GRACE_SECONDS, patience: float = PATIENCE_SECONDS
) -> Iterator[Storage]:
    """Open a storage for writing.

    Args:
        location: A file, which is created if it does not exist, or ``postgresql://USER:PASSWORD@HOST/DATABASE``.
        beat: Seconds between heartbeats.
        grace: Seconds without a heartbeat after which another machine takes over a job.
        patience: Seconds that a server may be unreachable.

    Raises:
        RunError: Another process writes to the file.
        SearchError: It cannot be reached, holds other data, or has a schema of another version of Optuna.
    """
    if isinstance(location, str):
        storage = _connect(location, beat, grace, patience)
        try:
            yield storage
        finally:
            storage.close()
        return
    with _lock(location):
        if location.is_file() and location.stat().st_size > 0:
            _check_file(location)
        else:
            with contextlib.closing(sqlite3.connect(location)) as connection:
                # Write-ahead logging lets readers proceed while a writer is active.
                connection.execute("PRAGMA journal_mode = WAL")
        storage = Storage(_open_file(location), str(location), shared=False)
        try:
            yield storage
        finally:
            storage.close()


@contextmanager
def read_storage(location: str | Path) -> Iterator[Storage]:
    """Open an existing storage for reading, also while a search writes to it.

    Raises:
        SearchError: It does not exist or cannot be read.
    """
    if isinstance(location, Path):
        if not location.is_file():
            raise SearchError(f"there is no study in {location}; give the folder or file of the search")
        _check_file(location)
        storage = Storage(_open_file(location), str(location), shared=False)
    else:
        storage = _connect(location, BEAT_SECONDS, GRACE_SECONDS, PATIENCE_SECONDS)
    try:
        yield storage
    finally:
        storage.close()


def without_password(url: str | None) -> str | None:
    """Return the URL of a server with its password hidden; the password can come from PGPASSWORD or .pgpass.

    Example:
        >>> without_password("postgresql://me:secret@host/db")
        'postgresql://me:***@host/db'
    """
    return None if url is None else make_url(url).set(password=None).render_as_string()


def _open_file(file: Path) -> RDBStorage:
    try:
        return RDBStorage(f"sqlite:///{file.resolve()}", engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})
    except (SQLAlchemyError, StorageInternalError) as error:
        raise SearchError(f"cannot use {file} as a study: {_first_line(error)}; give another file") from error
    except RuntimeError as error:
        raise SearchError(f"{file} was written by another version of Optuna: {_first_line(error)}") from error


def _connect(url: str, beat: int, grace: int, patience: float) -> Storage:
    """Connect to a PostgreSQL server."""
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise SearchError(_not_postgres(url)) from error
    if address.drivername.partition("+")[0] not in _POSTGRES:
        raise SearchError(_not_postgres(address.render_as_string()))
    address = address.set(drivername="postgresql+psycopg")
    shown = address.set(drivername="postgresql").render_as_string(hide_password=True)
    options: dict[str, Any] = {
        "pool_pre_ping": True,
        "pool_size": 4,
        "connect_args": {"connect_timeout": CONNECT_SECONDS},
    }
    try:
        first = create_engine(address, **options)
        # Two machines that both find no tables would both create them.
        with first.connect() as connection, connection.begin(), _ignore_experimental_warning():
            connection.execute(_ALONE, {"name": "triscale"})
            rdb = RDBStorage(
                address.render_as_string(hide_password=False),
                engine_kwargs=options,
                heartbeat_interval=beat,
                grace_period=grace,
            )
        first.dispose()
    except ImportError as error:
        raise SearchError(
            "a storage on PostgreSQL needs psycopg; install it with: pip install 'triscale[postgres]'"
        ) from error
    except (OperationalError, StorageInternalError) as error:
        raise SearchError(
            f"cannot reach {shown}: {_first_line(error)}; start the server, or correct the address"
        ) from error
    except SQLAlchemyError as error:
        raise SearchError(
            f"{shown} holds tables of another application ({_first_line(error)}); give another database"
        ) from error
    except RuntimeError as error:
        raise SearchError(f"{shown} was written by another version of Optuna: {_first_line(error)}") from error
    return Storage(rdb, shown, shared=True, patience=patience)


def _not_postgres(url: str) -> str:
    return (
        f'the storage "{url}" cannot be shared by machines; give postgresql://USER@HOST/DATABASE, or no '
        "--storage for a file in the search's folder"
    )


def _check_file(file: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise SearchError(f"cannot use {file} as a study: {error}; give another file") from error
    if tables and not tables >= _TABLES:
        raise SearchError(f"{file} is a database of another application; give another file for the study")


def _first_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
    origin = getattr(cause, "orig", None) or cause
    lines = [line.strip() for line in str(origin).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(origin).__name__


@contextmanager
def _ignore_experimental_warning() -> Iterator[None]:
    """Silence the warning that heartbeats are experimental (since Optuna 2.9)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Hold the writer's lock; the system releases it when the process ends, also when it is killed."""
    lock = file.with_name(f".{file.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise SearchError(f"cannot write to {file.parent}: {error.strerror}; give another file") from error
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(lock))
        except LockedError as owner:
            raise RunError(f"{file} is in use by {owner}; wait for it, stop it, or give another file") from None
        yield
