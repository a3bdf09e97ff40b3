"""How long a run keeps the event loop of the app from serving.

`measure` starts this module as a process of its own, in which the real app is up.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from app import create_app
from backups.service import BackupService
from benchmarks.installation import in_a_fresh_process, installed
from benchmarks.report import Measurement
from shared.settings import load_settings

TARGET_MILLISECONDS = 50.0
BEAT_SECONDS = 0.001


class Heartbeat:
    """A task that wants to wake every millisecond, and remembers how late it was."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            due = time.perf_counter() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._late.append(time.perf_counter() - due)

    def take(self) -> list[float]:
        """The seconds of all beats since the last call, latest first."""
        taken, self._late = sorted(self._late, reverse=True), []
        return taken


def measure(*, megabytes: int, runs: int) -> Measurement:
    """Run `runs` backups of that size under a beating loop."""
    with installed(megabytes=megabytes) as settings:
        found = in_a_fresh_process("benchmarks.stall", settings, str(runs))
    return Measurement(
        f"longest event-loop stall, {megabytes} MB",
        max(found["busy"]) * 1000,
        "ms",
        TARGET_MILLISECONDS,
        {
            "longest of each run, median": sorted(found["busy"])[runs // 2] * 1000,
            "p99.9 of all beats during runs": found["busy_p999"] * 1000,
            "longest without a run": found["idle"] * 1000,
            "seconds a run": found["seconds"] / runs,
            "runs": runs,
        },
    )


async def watch(runs: int) -> dict[str, object]:
    """Measure the loop without and with runs, in the app's lifespan."""
    app = create_app(load_settings(os.environ, for_app=True))
    heartbeat = Heartbeat()
    longest, every, seconds = [], [], 0.0
    async with app.router.lifespan_context(app):
        service: BackupService = app.state.backups
        await _the_first_backup(service)
        beating = asyncio.create_task(heartbeat.beat())
        await asyncio.sleep(1)
        heartbeat.take()
        await asyncio.sleep(5)
        idle = heartbeat.take()[0]
        for _ in range(runs):
            began = time.perf_counter()
            run = await run_in_threadpool(lambda: service.begin_backup().execute())
            seconds += time.perf_counter() - began
            assert run.status == "succeeded", run.error
            late = heartbeat.take()
            longest.append(late[0])
            every += late
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
    every.sort()
    return {
        "idle": idle,
        "busy": longest,
        "busy_p999": every[int(len(every) * 0.999)],
        "seconds": seconds,
    }


async def _the_first_backup(service: BackupService) -> None:
    """The one that the scheduler makes up at the start."""
    while True:
        status = await run_in_threadpool(service.status)
        if status.last_success is not None:
            return
        assert status.last_run is None, status.last_run
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    json.dump(asyncio.run(watch(int(sys.argv[1]))), sys.stdout)
