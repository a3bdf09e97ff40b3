"""`CountingProxy`: passes bytes on to an S3 server, and counts requests and bytes both ways.

It also notes when each object was stored: what a contender says of itself is then not needed.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 256 * 1024
_PATIENCE_SECONDS = 10
_HEADER_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d+)")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:.*chunked")
# A GET of a bucket itself: its listing, or a question about it.
_OF_BUCKET = re.compile(rb"GET /[^/? ]+/?(\?| )")


@dataclass(frozen=True)
class Counted:
    """Requests by method (a GET of a bucket is a `LIST`), and bytes with their headers."""

    requests: Mapping[str, int]
    sent: int
    received: int

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())


@dataclass(frozen=True)
class Put:
    """An object that the server has acknowledged at a monotonic instant; `key` with its bucket."""

    at: float
    key: str


class _Requests:
    """Finds the requests in what one client sends on one connection."""

    def __init__(self, counter: Counter[str]) -> None:
        self._counter = counter
        self._header = b""
        self._body = 0
        self._blind = False
        self._asked = ""  # what is put by the request that is under way

    def answered(self) -> str:
        """The path of the PUT that was sent in full, when the first byte of an answer comes."""
        if self._body or not self._asked:  # an answer before the body says that it may come
            return ""
        asked, self._asked = self._asked, ""
        return asked

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""
        while data and not self._blind:
            skipped = min(self._body, len(data))
            self._body -= skipped
            data = data[skipped:]
            if not data:
                return
            self._header += data
            header, end, data = self._header.partition(_HEADER_END)
            if not end:
                return
            self._header = b""
            self._begin(header)

    def _begin(self, header: bytes) -> None:
        method = "LIST" if _OF_BUCKET.match(header) else header.split(b" ", 1)[0].decode()
        self._counter[method] += 1
        path = header.split(b" ", 2)[1].decode()
        self._asked = urlsplit(path).path.lstrip("/") if method == "PUT" else ""
        length = _LENGTH.search(header)
        self._body = int(length[1]) if length else 0
        self._blind = bool(_CHUNKED.search(header))  # no client here sends such a body


class CountingProxy:
    """A proxy on 127.0.0.1 for the length of a `with` block."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._upstream = parts.hostname, parts.port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="counting-proxy")
        self._ready = threading.Event()
        self._port = 0
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._sent = self._received = 0
        self._puts: list[Put] = []
        self.delay = 0.0  # seconds that each request waits here, as on its way to a store far away

    @property
    def endpoint(self) -> str:
        """What a client is told as its endpoint."""
        return f"http://127.0.0.1:{self._port}"

    def take(self) -> Counted:
        """What there was since the last call."""
        with self._lock:
            found = Counted(dict(self._requests), self._sent, self._received)
            self._requests.clear()
            self._sent = self._received = 0
        return found

    def puts(self, bucket: str) -> list[Put]:
        """The objects of a bucket that were stored so far, in order; their keys without it."""
        with self._lock:
            return [
                Put(one.at, one.key.removeprefix(f"{bucket}/"))
                for one in self._puts
                if one.key.startswith(f"{bucket}/")
            ]

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_PATIENCE_SECONDS):
            raise RuntimeError("the counting proxy did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_CHUNK)
        )
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = _Requests(self._requests)
        host, port = self._upstream
        upstream_reader, upstream_writer = await asyncio.open_connection(host, port, limit=_CHUNK)

        def sent(data: bytes) -> float:
            with self._lock:
                self._sent += len(data)
                before = self._requests.total()
                requests.feed(data)
                return self.delay * (self._requests.total() - before)

        def received(data: bytes) -> float:
            with self._lock:
                self._received += len(data)
                while data.startswith(b"HTTP/1.1 100"):  # that is no answer yet
                    data = data.partition(_HEADER_END)[2]
                stored = requests.answered() if data else ""
                if stored and data.startswith(b"HTTP/1.1 2"):
                    self._puts.append(Put(time.monotonic(), stored))
            return 0.0

        try:
            await asyncio.gather(
                _pass_on(reader, upstream_writer, sent), _pass_on(upstream_reader, writer, received)
            )
        except asyncio.CancelledError:
            pass  # the proxy ends, and its connections with it
        finally:
            upstream_writer.close()
            writer.close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, see: Callable[[bytes], float]
) -> None:
    """Pass on what comes, each piece as many seconds later as `see` says of it."""
    try:
        while data := await reader.read(_CHUNK):
            if seconds := see(data):
                await asyncio.sleep(seconds)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # one side hung up: so does the other
    finally:
        writer.close()
