"""`FaultProxy`: a real HTTP proxy in front of a real S3 server, which misbehaves when told to.

It passes the `Host` header on as it came, because the signature covers it, and opens a new
connection to the server for each request. Requests are counted by method; a listing, which is
a GET of the bucket, counts as `LIST`.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from shared.store.spaces_access import SpacesSettings
from tests.support.waiting import eventually

Method = Literal["GET", "PUT", "HEAD", "DELETE", "LIST"]

_NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "expect"}
_UPSTREAM_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """A request of the client. `key` is below the bucket; of a listing, it is the prefix."""

    method: Method
    key: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer for the client; `length` is the `Content-Length` that it is told.

    After a body that is shorter than that, the connection ends: orderly, or with a RST.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int
    reset: bool = False


# Does something with a request: usually it asks `forward` and spoils the answer. None means
# that the connection ends without an answer.
Fault = Callable[["FaultProxy", Request], Answer | None]


@dataclass
class _Rule:
    fault: Fault
    method: Method | None
    key: str
    skip: int
    times: int | None

    def takes(self, request: Request) -> bool:
        if self.method not in (None, request.method) or self.key not in request.key:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class FaultProxy:
    """A proxy on 127.0.0.1 for the length of a `with` block."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        assert parts.scheme == "http"
        assert parts.hostname is not None
        self._upstream = (parts.hostname, parts.port or 80)
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._requests: list[Request] = []
        self._spoiled = 0
        self.released = threading.Event()
        self._connections: set[socket.socket] = set()
        proxy = self

        class _Server(ThreadingHTTPServer):
            daemon_threads = False  # `server_close` waits for them: no thread outlives a test
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Connections that break are what this proxy is for."""

            def shutdown_request(self, request: Any) -> None:
                """Close at once: the orderly FIN of the base would come before our RST."""
                self.close_request(request)

        class _BoundHandler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), _BoundHandler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="fault-proxy"
        )

    @property
    def endpoint(self) -> str:
        """What a client is told as its endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def settings(self, behind: SpacesSettings) -> SpacesSettings:
        """The settings of a bucket behind this proxy."""
        return replace(behind, endpoint=self.endpoint, ca_bundle=None)

    def on(
        self,
        fault: Fault,
        *,
        method: Method | None = None,
        key: str = "",
        skip: int = 0,
        times: int | None = None,
    ) -> None:
        """Meet requests of `method`, with `key` in their key, with `fault`.

        The first `skip` of them pass, and after `times` (None: for ever) all do again. Of
        several rules the oldest that takes the request counts.
        """
        with self._lock:
            self._rules.append(_Rule(fault, method, key, skip, times))

    def lift(self) -> None:
        """Behave from now on, and let go of the requests that hang."""
        with self._lock:
            self._rules.clear()
        self.released.set()
        self.released = threading.Event()

    def requests(self, method: Method | None = None, key: str = "") -> list[Request]:
        """The requests so far, in order, of one method and with `key` in their key."""
        with self._lock:
            return [
                seen for seen in self._requests if method in (None, seen.method) and key in seen.key
            ]

    def counts(self) -> Counter[Method]:
        """How many requests there were by method."""
        return Counter(seen.method for seen in self.requests())

    def forget_requests(self) -> None:
        """Count requests, and faults that were met, from zero again."""
        with self._lock:
            self._requests.clear()
            self._spoiled = 0

    def wait_until_met(self, faults: int = 1) -> None:
        """Return when rules have met that many requests."""
        eventually(lambda: self._spoiled >= faults, f"{faults} faults in the proxy")

    def forward(self, request: Request) -> Answer:
        """What the real server answers."""
        method = "GET" if request.method == "LIST" else request.method
        connection = http.client.HTTPConnection(*self._upstream, timeout=_UPSTREAM_TIMEOUT_SECONDS)
        with closing(connection):
            connection.putrequest(method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in _NOT_PASSED_ON:
                    connection.putheader(name, value)
            connection.endheaders(request.body)
            with closing(connection.getresponse()) as found:
                body = found.read()
                headers = tuple(
                    (name, value)
                    for name, value in found.getheaders()
                    if name.lower() not in (*_NOT_PASSED_ON, "content-length")
                )
                length = len(body)
                if method == "HEAD":
                    length = int(found.getheader("Content-Length") or 0)
                return Answer(found.status, headers, body, length)

    def stop(self) -> None:
        """End all connections and threads."""
        self.lift()
        self._server.shutdown()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _meet(self, request: Request) -> Fault:
        with self._lock:
            self._requests.append(request)
            for rule in self._rules:
                if rule.takes(request):
                    self._spoiled += 1
                    return rule.fault
        return lambda proxy, asked: proxy.forward(asked)

    def _opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def _closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait 40 ms for the ACK of its headers
    owner: ClassVar[FaultProxy]

    def setup(self) -> None:
        super().setup()
        self.owner._opened(self.connection)

    def finish(self) -> None:
        self.owner._closed(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's name
        """The test says what it wants to know."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = _request(self.command, self.path, tuple(self.headers.items()), body)
        answer = self.owner._meet(request)(self.owner, request)
        if answer is None:
            self._reset()
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(answer.length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            if len(answer.body) < answer.length:
                self.close_connection = True
                if answer.reset:
                    self._reset()

    def _reset(self) -> None:
        """End the connection with a RST, as a router that dropped it would."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def __getattr__(self, name: str) -> Any:
        """Every `do_<method>` that the base looks for."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)


def _request(
    command: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes
) -> Request:
    parts = urlsplit(target)
    _, _, key = unquote(parts.path).lstrip("/").partition("/")
    method: Any = command
    if command == "GET" and not key:
        method, key = "LIST", parse_qs(parts.query).get("prefix", [""])[0]
    return Request(method, key, target, headers, body)


# --- faults -----------------------------------------------------------------------------


def refuse(status: int, code: str, message: str | None = None) -> Fault:
    """Answer with an error of S3, such as `refuse(503, "SlowDown")`; nothing is stored."""
    said = code if message is None else message
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{said}</Message></Error>'
    body = text.encode()
    headers = (("Content-Type", "application/xml"),)
    return lambda _proxy, _request: Answer(status, headers, body, len(body))


def web_page(status: int, text: str = "<html><body>Log in</body></html>") -> Fault:
    """Answer with a page, as a console, a captive portal or another web server would."""
    body = text.encode()
    headers = (("Content-Type", "text/html; charset=utf-8"),)
    return lambda _proxy, _request: Answer(status, headers, body, len(body))


def rewrite_host(host: str) -> Fault:
    """Pass a request on with another `Host`, as a careless proxy does."""

    def fault(proxy: FaultProxy, request: Request) -> Answer:
        kept = tuple(one for one in request.headers if one[0].lower() != "host")
        return proxy.forward(replace(request, headers=(*kept, ("Host", host))))

    return fault


def pretend() -> Fault:
    """Answer 200 and do nothing."""
    return lambda _proxy, _request: Answer(200, (("ETag", '"0"'),), b"", 0)


def flip_byte(at: int) -> Fault:
    """Change one bit of the byte at an offset of the body that the server sends."""

    def fault(proxy: FaultProxy, request: Request) -> Answer:
        answer = proxy.forward(request)
        body = bytearray(answer.body)
        body[at] ^= 1
        return replace(answer, body=bytes(body))

    return fault


def truncate(to: int) -> Fault:
    """Send the first `to` bytes of the body as if they were all."""

    def fault(proxy: FaultProxy, request: Request) -> Answer:
        answer = proxy.forward(request)
        return replace(answer, body=answer.body[:to], length=to)

    return fault


def cut(after: int, *, reset: bool = False) -> Fault:
    """Announce the whole body, send its first `after` bytes, and end the connection."""

    def fault(proxy: FaultProxy, request: Request) -> Answer:
        answer = proxy.forward(request)
        return replace(answer, body=answer.body[:after], reset=reset)

    return fault


def lose_answer() -> Fault:
    """Let the server do what it was asked to, and drop its answer."""

    def fault(proxy: FaultProxy, request: Request) -> None:
        proxy.forward(request)

    return fault


def drop() -> Fault:
    """Drop the connection without doing anything."""
    return lambda _proxy, _request: None


def last_before(fault: Fault) -> Fault:
    """Answer this request well, and meet every one after it with `fault`."""

    def last(proxy: FaultProxy, request: Request) -> Answer:
        answer = proxy.forward(request)
        proxy.on(fault)
        return answer

    return last


def hangs(fault: Fault) -> bool:
    """Whether a fault is one that has to be waited out: only then is little patience of use."""
    return fault.__qualname__.startswith(f"{hang.__qualname__}.")


def hang() -> Fault:
    """Take the request and say nothing until the fault is lifted."""

    def fault(proxy: FaultProxy, _request: Request) -> None:
        proxy.released.wait()

    return fault
