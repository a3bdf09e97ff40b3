"""`PostgresServer`: a real PostgreSQL on 127.0.0.1 for one test run, by an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from shared.databases.engines.address import DatabaseAddress, parse_address
from tests.support import servers
from tests.support.waiting import eventually

_DEADLINE_SECONDS = 120.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # the tests end processes, never the machine
    "max_connections": "60",
    "shared_buffers": "16MB",
    "logging_collector": "off",
}


@dataclass
class PostgresServer:
    """A running server; `stop` ends it and removes all that it wrote."""

    port: int
    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def start(cls) -> PostgresServer:
        """Start a server and wait until it takes connections; raises with its log if not."""
        servers.allow("PostgreSQL")
        folder, user = _new_folder(), _user()
        arguments = ("-D", str(folder / "data"), "-U", "tests", "-A", "trust", "--no-sync")
        made = subprocess.run(
            [_program("initdb"), *arguments, "-E", "UTF8", "--locale", "C.UTF-8"],
            user=user,
            cwd=folder,
            capture_output=True,
            check=False,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        server = cls(_free_port(), folder)
        server.resume()
        return server

    def resume(self) -> None:
        """Start it again after `crash`, at the same port."""
        settings = {**_SETTINGS, "port": str(self.port)}
        settings["unix_socket_directories"] = str(self.folder)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", str(self.folder / "data"), *options],
                user=_user(),
                cwd=self.folder,
                # Its time-outs stand still where its clock is faked.
                env={**os.environ, "REAL_CLOCK": "1"},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                log_text = (self.folder / "log").read_text(errors="replace")
                assert self._process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.05)
            else:
                return

    def standby(self) -> PostgresServer:
        """Another server that has all that this one has, and gets each commit before it counts.

        `promote` makes it the primary.
        """
        folder = _new_folder()
        server = PostgresServer(_free_port(), folder)
        source = f"host=127.0.0.1 port={self.port} user=tests application_name=standby"
        made = subprocess.run(
            [
                _program("pg_basebackup"),
                "-D",
                str(folder / "data"),
                "-d",
                source,
                "-R",
                "-c",
                "fast",
            ],
            user=_user(),
            cwd=folder,
            capture_output=True,
            check=False,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        server.resume()
        with psycopg.connect(self.url("postgres"), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            admin.execute("SELECT pg_reload_conf()")
            query = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            eventually(lambda: admin.execute(query).fetchall(), "a synchronous standby")
        return server

    def promote(self) -> None:
        """Make a standby the primary; it waits for no other server."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as admin:
            admin.execute("SELECT pg_promote()")
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")

    def crash(self) -> None:
        """End it at once, as a power cut would end it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def stop(self) -> None:
        """End the server, and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """The `DATABASE_URL` of one of its databases."""
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def new_database(self) -> Iterator[DatabaseAddress]:
        """An empty database for the length of a block."""
        name = f"bot_{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        try:
            yield parse_address(self.url(name))
        finally:
            with psycopg.connect(self.url("postgres"), autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _new_folder() -> Path:
    """For one server; a socket's path has 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if (user := _user()) is not None:
        shutil.chown(folder, user)
    return folder


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _user() -> str | None:
    """Who runs the server: it refuses root, for whom the package has made a user."""
    return pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None


def _program(name: str) -> str:
    # Debian keeps the server's programs off the PATH, in a folder for each version.
    found = [*Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    return str(newest or shutil.which(name) or f"{name} is not installed: run tests/tools.sh")
