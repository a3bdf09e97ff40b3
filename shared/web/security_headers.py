"""Headers that tell browsers to be careful with every answer, and to keep none of them."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What an answer says depends on a cookie or a token, so nobody may keep it for another one.
_EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_ADMIN = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}


def add_security_headers(headers: MutableHeaders, path: str) -> None:
    """Add them to the headers of the answer at `path`; one that is there already stays."""
    wanted = {**_EVERYWHERE, **(_ADMIN if path.startswith("/admin") else {})}
    for name, value in wanted.items():
        headers.setdefault(name, value)


class SecurityHeaders:
    """ASGI middleware. The answer to a fault of this program is made outside of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, with the headers added to answers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_security_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        await self._app(scope, receive, careful_send)
