"""Server-sent events: which run is in progress on this host, and how far it is.

The run may be another process's; then the run log has its stage, and nothing has its bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from backups.http.begin import service_of
from backups.model import Run
from backups.runs.live_progress import LiveProgress, ProgressBoard
from backups.service import BackupService
from backups.view import units
from backups.view.steps import steps_of

SECONDS_BETWEEN_LOOKS = 0.3
# The browser comes back by itself.
MOST_SECONDS = 30
MOST_STREAMS = 20
_HEADERS = {"X-Accel-Buffering": "no"}


def follow(request: Request) -> Response:
    """The stream; 204, after which a browser does not come back, when there are too many."""
    state = request.app.state
    if state.page_streams >= MOST_STREAMS:
        return Response(status_code=204)
    return StreamingResponse(_stream(request), media_type="text/event-stream", headers=_HEADERS)


async def _stream(request: Request) -> AsyncIterator[str]:
    state = request.app.state
    loop = asyncio.get_running_loop()
    state.page_streams += 1
    try:
        end, sent = loop.time() + MOST_SECONDS, ""
        yield "retry: 500\n\n"
        while loop.time() < end and not state.page_stopping.is_set():
            # A limiter of its own: requests that wait for a store hold no look up.
            look = await to_thread.run_sync(
                look_at, service_of(request), state.page_progress, limiter=state.page_looks
            )
            if look != sent:
                yield f"event: run\ndata: {look}\n\n"
                sent = look
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        state.page_streams -= 1


def new_limiter() -> CapacityLimiter:
    """How many looks may be taken at once."""
    return CapacityLimiter(2)


def look_at(service: BackupService, board: ProgressBoard) -> str:
    """The newest run of this host, as the JSON text of an event."""
    runs, _ = service.list_runs(1)
    if not runs:
        return "null"
    return json.dumps(describe(runs[0], board.of(runs[0].id)))


def describe(run: Run, live: LiveProgress | None) -> dict[str, Any]:
    """What the page shows of a run while it goes on."""
    at_bytes = live is not None and live.total > 0
    return {
        "id": run.id,
        "status": run.status,
        "operation": run.act,
        "stage": run.stage,
        "step": next((one.words for one in steps_of(run) if one.state == "current"), None),
        "done": live.done if live and at_bytes else None,
        "total": live.total if live and at_bytes else None,
        "text": _bytes_text(live) if live and at_bytes else "",
    }


def _bytes_text(live: LiveProgress) -> str:
    names = f"{', '.join(live.sources)}: " if live.sources else ""
    rate = f", {units.size(int(live.rate))} a second" if live.rate else ""
    return f"{names}{units.size(live.done)} of {units.size(live.total)}{rate}"
