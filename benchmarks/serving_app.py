"""`ServingApp`: the handle on a `benchmarks.serving` process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.place import REPOSITORY
from tests.support.app_process import free_port

_PATIENCE_SECONDS = 60


class ServingApp:
    """The real app of one installation, serving in a process of its own; close it."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self.folder = Path(settings["BACKUP_DIR"])
        self._log = self.folder / "serving.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.serving", str(self.port)],
                cwd=REPOSITORY,
                env=dict(settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ask(self, verb: str) -> dict[str, Any]:
        """Let it do something, and wait for the answer; see `benchmarks.serving.Obedience`."""
        self.tell(verb)
        return self._answer()

    def tell(self, verb: str) -> None:
        """The same without waiting: `answer` does that."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": verb}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to what was told."""
        return self._answer()

    def close(self) -> None:
        """End it; closing twice is allowed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.kill()
            log = self._log.read_text(errors="replace")
            raise RuntimeError(f"the serving app ended, and said:\n{log}")
        document: dict[str, Any] = json.loads(line)
        return document

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
