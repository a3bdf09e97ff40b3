"""Building all routes of an application before a thread of it is running."""

from __future__ import annotations

from fastapi import FastAPI


def build_routes(app: FastAPI) -> None:
    """Let FastAPI read the parameters of each route now, where it would at the first request.

    It makes pydantic's readers of them, and pydantic does not promise that these may be made
    while other threads make theirs (`shared/adapters.py`).
    """
    nowhere = {"type": "http", "method": "GET", "path": "/\0", "headers": []}
    for route in app.routes:
        route.matches(nowhere)
