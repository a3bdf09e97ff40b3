"""A stand-in as a process: a socket on 127.0.0.1, its port on standard output, control routes."""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Action = Callable[..., Awaitable[Any]]
Handler = Callable[[Request], Awaitable[Response]]

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_QUEUE = 2048


def serve(build: Callable[[str], Starlette], description: str) -> None:
    """Print the port, then serve what `build` makes of the base URL, until it is killed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    port = parser.parse_args().port
    # Without its protocol named, asyncio leaves the delay of small packets on: 40 ms an answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(_QUEUE)
        port = listening.getsockname()[1]
        app = build(f"http://127.0.0.1:{port}")
        print(port, flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])


def application(platform: Handler, actions: Mapping[str, Action]) -> Starlette:
    """Control under `/_control/`, the platform everywhere else."""

    async def control(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in actions:
            return JSONResponse({"problem": f"there is no control {name}"}, status_code=404)
        try:
            answer = await actions[name](**json.loads(await request.body() or b"{}"))
        except (TypeError, ValueError, LookupError) as error:
            problem = f"{name}: {type(error).__name__}: {error}"
            return JSONResponse({"problem": problem}, status_code=400)
        return JSONResponse(answer)

    return Starlette(
        routes=[
            Route("/_control/{name}", control, methods=["POST"]),
            Route("/{path:path}", platform, methods=_METHODS),
        ]
    )
