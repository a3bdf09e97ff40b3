"""`AppProcess`: the real application in a process group of its own, on a free port."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.support import servers
from tests.support.installation import ADMIN_TOKEN, REPOSITORY, Installation
from tests.support.waiting import eventually
from tests.support.warm_python import WarmPopen

PATIENCE_SECONDS = 30.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class AppProcess:
    """Starts the app of an installation, and stops it.

    As `python -m uvicorn app:app`, with `workers` and `options` if they are given, which has
    imported it already (`WarmPopen`); or as `python app.py`, or by a `command` that listens at
    `PORT`, from nothing.
    What it prints, on either stream, goes to a file that `output` reads.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        workers: int | None = None,
        as_script: bool = False,
        port: int | None = None,
        options: Sequence[str] = (),
        command: Sequence[str] | None = None,
    ) -> None:
        servers.allow("app")
        self.installation = installation
        self.port = port or free_port()
        self._output_path = installation.folder / f"output-{self.port}.log"
        environment = {
            "PORT": str(self.port),
            **{**installation.environment, "BACKUP_RUN_BY": "app"},
        }
        program = ["app.py"] if as_script else ["-m", "uvicorn", "app:app"]
        if as_script:
            program = [str(REPOSITORY / "app.py")]
        else:
            program += ["--host", "127.0.0.1", "--port", str(self.port)]
        if workers:
            program += ["--workers", str(workers)]
        program += options
        with self._output_path.open("wb") as output:
            how: dict[str, Any] = {
                "cwd": installation.folder,
                "env": environment,
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": output,
                "start_new_session": True,
            }
            self._process: subprocess.Popen[bytes] = (
                WarmPopen([sys.executable, *program], dies_with_parent=True, **how)
                if command is None and not as_script
                else subprocess.Popen(
                    command or [sys.executable, *program],
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - nothing in it takes a lock
                    **how,
                )
            )

    @classmethod
    def start(
        cls,
        installation: Installation,
        *,
        workers: int | None = None,
        as_script: bool = False,
        port: int | None = None,
        options: Sequence[str] = (),
        command: Sequence[str] | None = None,
    ) -> Self:
        """Start it, and wait until it serves."""
        app = cls(
            installation,
            workers=workers,
            as_script=as_script,
            port=port,
            options=options,
            command=command,
        )
        try:
            app.wait_until_it_serves()
        except BaseException:
            app.kill()
            raise
        return app

    @property
    def pid(self) -> int:
        """The process that was started; workers are its children."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = ADMIN_TOKEN) -> httpx2.Client:
        """A client that sends the admin token; close it."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def output(self) -> str:
        """All that it has printed so far."""
        return self._output_path.read_text(errors="replace")

    def wait_until_it_serves(self) -> None:
        """Return when `/healthz` answers; raises with the output when it ends instead."""
        with self.client(token=None) as client:

            def serves() -> bool:
                if self._process.poll() is not None:
                    raise AssertionError(f"it ended, and printed:\n{self.output()}")
                with suppress(httpx2.TransportError):
                    return client.get("/healthz").status_code == 200
                return False

            eventually(serves, f"{self.url} serves", seconds=PATIENCE_SECONDS)

    def wait_until_it_ends(self) -> int:
        """The exit code of an app that ends by itself."""
        try:
            return self._process.wait(timeout=PATIENCE_SECONDS)
        finally:
            self.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, and do not wait."""
        self._process.send_signal(number)

    def terminate(self, patience: float = PATIENCE_SECONDS) -> tuple[int, float]:
        """SIGTERM; the exit code, and the seconds until it came.

        Raises `AssertionError` with the output, after a SIGKILL, when `patience` runs out.
        """
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"it did not end within {patience:.0f} s of SIGTERM"
            raise AssertionError(f"{message}, and printed:\n{self.output()}") from None
        return code, time.monotonic() - began

    def stop(self) -> None:
        """SIGTERM, wait, then SIGKILL for the whole group; stopping twice is allowed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=PATIENCE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def free_port() -> int:
    """A port that nobody has, from below those that the kernel gives to clients."""
    for port in random.sample(range(12000, 32000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port on 127.0.0.1")


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
