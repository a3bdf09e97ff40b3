"""`Receiver`: stands where the bot stands, keeps every byte, and answers what a test wants."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a burst comes at once; 5 would refuse some on a busy machine


@dataclass(frozen=True)
class Received:
    """One request; the names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Serves for the length of a `with` block; `statuses` are used up, then all is accepted."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.statuses: list[int] = []
        self.answer = b""
        receiver = self

        class _BoundHandler(_Handler):
            owner = receiver

        self._server = _Server(("127.0.0.1", 0), _BoundHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

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
    owner: ClassVar[Receiver]

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.received.append(Received(self.command, self.path, headers, body))
        self.send_response(self.owner.statuses.pop(0) if self.owner.statuses else 200)
        self.send_header("Content-Length", str(len(self.owner.answer)))
        self.end_headers()
        self.wfile.write(self.owner.answer)

    do_GET = do_POST = _serve  # noqa: N815 - the base's names

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's name
        """The test says what it wants to know."""
