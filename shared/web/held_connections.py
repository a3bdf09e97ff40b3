"""Connections that are held open without a request, or by someone who does not read the answer:
uvicorn alone would keep them for ever.

`RequestHeadLimit` is a protocol for `uvicorn.run(http=…)`, and `RequestsInHand` the ASGI middleware
that tells it when a request begins and ends. They meet in the `state` of the ASGI scope, and use
nothing of uvicorn but how it makes a protocol.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_DEADLINE = "request_deadline"


class RequestDeadline:
    """Closes a connection that has had no request in hand for some seconds.

    Bytes alone change nothing about that: half a head, and what arrives of a body after its answer,
    is no request. An answer of which nothing is read for as long as a head may take is given up;
    who reads slowly gets all of it. Used on the event loop alone.
    """

    def __init__(self, head: float, rest: float) -> None:
        self._head = head
        self._rest = rest
        self._in_hand = 0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """The connection is there."""
        self._transport = transport
        self._wait(self._head)

    def stop(self) -> None:
        """It is gone."""
        self._transport = None
        self._wait(0)
        self.end_sending()

    def begin(self) -> None:
        """A request has arrived, its body perhaps not."""
        self._in_hand += 1
        self._wait(0)

    def end(self, *, whole: bool) -> None:
        """It was answered; without its `whole` body, the connection is of little use."""
        self._in_hand -= 1
        self._wait(self._head if whole else self._rest)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and not self._in_hand:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._close)

    def _close(self) -> None:
        """Close it; what is left of an answer is waited for while somebody reads."""
        if self._transport is not None:
            self._transport.close()
            self.begin_sending()

    def begin_sending(self) -> None:
        """From now on something has to be read, if it waits to be."""
        self.end_sending()
        if self._transport is not None and (unread := self._transport.get_write_buffer_size()):
            loop = asyncio.get_running_loop()
            self._reading = loop.call_later(self._head, self._look, unread)

    def end_sending(self) -> None:
        """What was to be sent is on its way."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _look(self, unread: int) -> None:
        """Give the connection up if as much is unread as before."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() >= unread:
            self._transport.abort()
        else:
            self.begin_sending()


class RequestHeadLimit(H11Protocol):
    """Serves an app that has `RequestsInHand`; without that it would cut long requests short."""

    # For the head of a request, from the connection or the answer before it.
    head_seconds = 30.0
    # For a sender to read an answer that came before all of the body was sent.
    rest_seconds = 2.0
    # Read at a time, about: what many connections bring at once is in memory before it is counted.
    receive_bytes = 32 * 1024

    def __init__(self, *, app_state: dict[str, Any], **others: Any) -> None:
        self._deadline = RequestDeadline(self.head_seconds, self.rest_seconds)
        super().__init__(app_state={**app_state, _DEADLINE: self._deadline}, **others)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
        super().connection_made(transport)
        self._deadline.start(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._deadline.stop()
        super().connection_lost(exc)


class RequestsInHand:
    """ASGI middleware, outside of all others: which requests are in hand on a connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""
        deadline: RequestDeadline | None = scope.get("state", {}).get(_DEADLINE)
        if deadline is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        whole = not _has_body(scope)

        async def noting_receive() -> Message:
            nonlocal whole
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                whole = True
            return message

        async def noting_send(message: Message) -> None:
            deadline.begin_sending()
            try:
                await send(message)
            finally:
                deadline.end_sending()

        deadline.begin()
        try:
            await self._app(scope, noting_receive, noting_send)
        finally:
            deadline.end(whole=whole)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
