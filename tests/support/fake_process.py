"""`FakeProcess`: a stand-in for a platform as a process of its own, and its control routes."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.support import servers

_REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENCE_SECONDS = 120.0  # a control request lasts as long as the bot takes to answer webhooks
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class FakeProcess:
    """Starts `python -m MODULE --port 0`, reads its port, and ends it."""

    def __init__(self, module: str) -> None:
        servers.allow(module)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", "0"],
            cwd=_REPOSITORY,
            env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._output,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - nothing in it takes a lock
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            output = self.output()
            self.stop()
            raise AssertionError(f"{module} ended, and printed:\n{output}")
        self.url = f"http://127.0.0.1:{int(line)}"
        self._client = httpx2.Client(timeout=_PATIENCE_SECONDS, trust_env=False)

    def control(self, action: str, **details: Any) -> Any:
        """Ask for a control action; raises `AssertionError` with what is wrong with it."""
        answer = self._client.post(f"{self.url}/_control/{action}", json=details)
        if answer.status_code != 200:
            raise AssertionError(f"{answer.text}\n{self.output()}")
        return answer.json()

    def output(self) -> str:
        """What it has printed as errors."""
        number = self._output.fileno()  # read in place: the process shares our position in it
        return os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")

    def stop(self) -> None:
        """Kill it; it keeps nothing. Stopping twice is allowed."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._output.close()
        if hasattr(self, "_client"):
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
