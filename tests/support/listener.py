"""`Listener`: a real HTTP server on 127.0.0.1 that keeps what it was sent, and answers as told."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a burst comes at once; 5 would refuse some on a busy machine


@dataclass(frozen=True)
class Heard:
    """One request; the names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Listener:
    """Serves for the length of a `with` block.

    It answers `answer` with the next of `statuses`, or with `status` when they are used up; or
    garbage.
    """

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.statuses: list[int] = []
        self.status = 200
        self.answer = b""
        self.garbage = False
        listener = self

        class _BoundHandler(_Handler):
            owner = listener

        self._server = _Server(("127.0.0.1", 0), _BoundHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [one.path for one in self.heard]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[Listener]

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.heard.append(Heard(self.command, self.path, headers, body))
        if self.owner.garbage:
            self.wfile.write(b"this is not HTTP at all\r\n\r\n")
            return
        statuses = self.owner.statuses
        self.send_response(statuses.pop(0) if statuses else self.owner.status)
        self.send_header("Content-Length", str(len(self.owner.answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.owner.answer)

    do_GET = do_POST = do_HEAD = _serve  # noqa: N815 - the base's names

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's name
        """The test says what it wants to know."""


def closed_port() -> int:
    """A port at which nobody listens."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
