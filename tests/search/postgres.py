"""A temporary PostgreSQL server for a test, on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL does not run as root; then it runs as the first existing user of these."""


def find_server() -> Path | None:
    """Return the folder of the server's programs, if it is installed."""
    result = shutil.which("initdb")
    folders = [Path(result).resolve().parent] if result else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


class Server:
    """A server that can be killed and started again."""

    def __init__(self, programs: Path, folder: Path, port: int, user: str | None) -> None:
        self._programs, self._folder, self._port, self._user = programs, folder, port, user
        self.url = f"postgresql://triscale@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        self.run(
            "pg_ctl", "-D", self._folder / "data", "-w", "-t", "60", "-l", self._folder / "log", "-o", options, "start"
        )

    def stop(self) -> None:
        """Kill it immediately, as in a power failure."""
        self.run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def run(self, program: str, *arguments: object) -> None:
        """Run a PostgreSQL program as the server's user."""
        subprocess.run(
            [self._programs / program, *map(str, arguments)],
            user=self._user,
            cwd=self._folder,
            check=True,
            timeout=120,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def run_server(programs: Path) -> Iterator[Server]:
    """Create a server, and remove it with its data afterwards."""
    user = next(name for name in UNPRIVILEGED if _known(name)) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="triscale-postgres-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(programs, folder, port, user)
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        server.run("initdb", "-D", folder / "data", "-U", "triscale", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
