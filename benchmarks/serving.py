"""`python -m benchmarks.serving PORT`: the real app under uvicorn, which obeys lines on its input.

A line is a JSON document with `do`; the answer is a JSON document on one line of its output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import uvicorn
from fastapi import FastAPI

from app import create_app, read_settings
from backups.model import Progress, Run
from backups.service import BackupService
from benchmarks.heartbeat import Heartbeat
from shared.databases.binder import TokenBinder

Document = dict[str, Any]


class Stages:
    """When a run entered each of its stages, and when each source was stored."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._entered: list[tuple[str, float]] = []
        self._stored: list[float] = []
        self._lock = threading.Lock()

    def see(self, progress: Progress) -> None:
        """A `ProgressSink`."""
        with self._lock:
            if all(progress.stage != stage for stage, _ in self._entered):
                self._entered.append((progress.stage, self._since()))

    def note_stored(self) -> None:
        """A source has been put."""
        self._stored.append(self._since())

    def told(self) -> Document:
        """Seconds from the beginning of the run."""
        return {
            "to_last_put": max(self._stored, default=None),
            "whole": self._since(),
            "stages": dict(self._entered),
        }

    def _since(self) -> float:
        return time.perf_counter() - self._began


class StoredLines(logging.Handler):
    """Tells the stages of the present run about the log's line for each stored source."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: Stages | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line."""
        if record.msg == "stored" and self.stages is not None:
            self.stages.note_stored()


class Obedience:
    """What can be asked of the serving app; each verb is a method."""

    def __init__(self, app: FastAPI, heartbeat: Heartbeat) -> None:
        self._app = app
        self._heartbeat = heartbeat
        self._lines = StoredLines()
        logging.getLogger("backups").addHandler(self._lines)

    @property
    def _service(self) -> BackupService:
        service: BackupService = self._app.state.backups
        return service

    def wait_for_first(self) -> Document:
        """Wait for the backup that the scheduler makes up at the first start."""
        while self._service.status().last_success is None:
            last = self._service.status().last_run
            assert last is None or last.error is None, last
            time.sleep(0.05)
        return {}

    def backup(self) -> Document:
        """Run one, in the thread in which the routes run it."""
        return self._in_executor(lambda see: self._service.backup.begin(progress=see).execute())

    def restore(self) -> Document:
        """Restore the newest restore point in place."""
        plan = self._service.restore.plan("latest")
        return self._in_executor(
            lambda see: self._service.restore.begin(plan, progress=see).execute()
        )

    def list_page(self) -> Document:
        """How long the newest hundred restore points take, from local records."""
        began = time.perf_counter()
        self._service.list_sets(100)
        return {"seconds": time.perf_counter() - began}

    def modules(self) -> Document:
        """The names of all modules that are imported now."""
        return {"names": sorted(sys.modules)}

    def watch(self) -> Document:
        """Begin to beat."""
        self._heartbeat.wanted = True
        return {}

    def beats(self) -> Document:
        """How late the beats since the last question were, in seconds, and the longest of them."""
        late = self._heartbeat.take()
        return {"longest": max(late, default=0.0), "beats": len(late)}

    def _in_executor(self, work: Callable[[Callable[[Progress], None]], Run]) -> Document:
        stages = self._lines.stages = Stages()
        run = self._app.state.executor.submit(work, stages.see).result()
        told = stages.told()
        assert run.status == "succeeded", run.error
        made = self._service.catalogue.get(run.set_id)
        return {**told, "set_id": run.set_id, "stored": sum(one.bytes for one in made.objects)}


async def serve(port: int) -> None:
    """Serve, and obey, until the input ends."""
    app = create_app(read_settings(os.environ))
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, access_log=False, log_config=None)
    )
    heartbeat = Heartbeat()
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            serving.result()
            return
    beating = asyncio.create_task(heartbeat.beat())
    threading.Thread(target=_obey, args=(Obedience(app, heartbeat), server)).start()
    await serving
    beating.cancel()


def _obey(obedience: Obedience, server: uvicorn.Server) -> None:
    _say({"serving": True})
    try:
        for line in sys.stdin:
            order = json.loads(line)
            _say(getattr(obedience, order["do"])())
    finally:
        server.should_exit = True


def _say(document: Document) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    with patch.object(TokenBinder, "work"):  # it would rewrite all values while others are measured
        asyncio.run(serve(int(sys.argv[1])))
