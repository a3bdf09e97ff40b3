"""What a person reads when the application cannot start: the message, without a traceback."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import AppError, SettingsError


def explain(error: AppError) -> str:
    """Message and hint; and the way to a first `.env` for someone who has none."""
    text = f"{error.message}\n{error.hint}"
    if isinstance(error, SettingsError) and not Path(".env").exists():
        text += "\nThere is no .env in this folder; `make env` writes one."
    return text


class PlainStartupFailure:
    """ASGI middleware: a start that an `AppError` stopped is told in its own words.

    The lifespan leaves the error in `app.state.startup_error`. Without this, the server
    prints the traceback that Starlette sends, and the message drowns in it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, but replace the text of a failed start."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def plain_send(message: MutableMapping[str, Any]) -> None:
            error = getattr(scope["app"].state, "startup_error", None)
            if message["type"] == "lifespan.startup.failed" and isinstance(error, AppError):
                message = {**message, "message": f"Cannot start.\n{explain(error)}"}
            await send(message)

        await self._app(scope, receive, plain_send)
