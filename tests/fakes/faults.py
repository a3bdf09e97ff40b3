"""`Faults`: what a stand-in does instead of answering, as the tests program it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.responses import RedirectResponse, Response, StreamingResponse

from tests.fakes.asked import Json

KINDS = ("error", "hang", "status", "garbage", "huge", "cut", "redirect", "throttle")

_CHUNK = b"a" * 65536
_SECONDS_BETWEEN_LOOKS = 0.02


@dataclass
class Fault:
    """Something that goes wrong at an edge for some calls, after some that go well."""

    edge: str  # "*" is every edge
    kind: str
    times: int | None = 1  # None is for ever
    skip: int = 0
    subject: str | None = None
    details: Json = field(default_factory=dict)
    is_over: bool = False  # what hangs because of it is let go

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no kind of fault is called {self.kind}")


@dataclass
class Faults:
    """The faults that are still to happen, in the order in which they were programmed."""

    pending: list[Fault] = field(default_factory=list)
    taken: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Program one more."""
        self.pending.append(fault)

    def clear(self) -> None:
        """Forget all, and let go what hangs."""
        for fault in (*self.pending, *self.taken):
            fault.is_over = True
        self.pending.clear()
        self.taken.clear()

    def take(self, edge: str, subject: str | None, part: str | None = None) -> Fault | None:
        """The fault of this call, which is then used up by one.

        A fault of the edge "graphql:products" is for calls of "graphql" whose part is "products".
        """
        names = ("*", edge, f"{edge}:{part}")
        for fault in self.pending:
            if fault.edge not in names or fault.subject not in (None, subject):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self.pending.remove(fault)
            self.taken.append(fault)
            return fault
        return None


async def happen(fault: Fault) -> Response | None:
    """The answer of a fault that is the same on every platform; None lets the call go on.

    Raises `KeyError` for a kind that the platform answers in its own words.
    """
    details = fault.details
    if fault.kind == "hang":
        ends = time.monotonic() + details["seconds"]
        while not fault.is_over and time.monotonic() < ends:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        return None
    if fault.kind == "garbage":
        return Response('{"data": [ this is not JSON', media_type="application/json")
    if fault.kind == "huge":
        return StreamingResponse(_endless(details["megabytes"]), media_type="application/json")
    if fault.kind == "cut":
        headers = {"content-length": "100000"}
        return StreamingResponse(_beginning(), headers=headers, media_type="application/json")
    if fault.kind == "redirect":
        return RedirectResponse(details["to"], status_code=302)
    if fault.kind == "status":
        return Response(
            details.get("text", "<html><body>This is not available right now</body></html>"),
            status_code=details["status"],
            headers=details.get("headers") or {},
            media_type="text/html",
        )
    raise KeyError(fault.kind)


async def _endless(megabytes: float) -> AsyncIterator[bytes]:
    yield b'{"data": ["'
    for _ in range(int(megabytes * 16)):
        yield _CHUNK
    yield b'"]}'


async def _beginning() -> AsyncIterator[bytes]:
    yield b'{"data": ["the rest of this was'
