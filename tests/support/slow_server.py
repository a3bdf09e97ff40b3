"""TCP servers on 127.0.0.1 that send a byte at a time: `Trickle` alone, `SlowPipe` before another.

They serve for the length of a `with` block.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_SECONDS_A_BYTE = 0.05
_RECEIVE_BUFFER = 256 * 1024


class _Server:
    """Accepts connections, and gives each to `_meet`; the end waits for all threads."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self.connections = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def endpoint(self) -> str:
        """What a client is told as its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._meet(client)

    def _start(self, target: threading.Thread) -> None:
        self._threads.append(target)
        target.start()

    def _meet(self, client: socket.socket) -> None:
        raise NotImplementedError


class Trickle(_Server):
    """Takes any request: `at_once` whole, then dots without an end; with `silent`, nothing."""

    def __init__(self, at_once: bytes = b"", *, silent: bool = False) -> None:
        super().__init__()
        self._at_once = at_once
        self._silent = silent

    def _meet(self, client: socket.socket) -> None:
        self._start(threading.Thread(target=self._answer, args=(client,)))

    def _answer(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(65536)
            if not self._silent:
                client.sendall(self._at_once)
            while not self._stopping.wait(_SECONDS_A_BYTE):
                if not self._silent:
                    client.sendall(b".")


class SlowPipe(_Server):
    """A pipe to a server. While `slow`, what follows the head of a long answer comes byte by byte.

    `upload_rate` is how many bytes a second go up, None for no limit. Its receive buffer is
    small: a kernel that may grow it to 32 MiB would take a whole upload at once.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        parts = urlsplit(endpoint)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self.slow = False
        self.trickles = threading.Event()  # the first byte of a long answer was sent by itself
        self.upload_rate: int | None = None

    def _meet(self, client: socket.socket) -> None:
        server = socket.create_connection(self._upstream)
        for source, target, down in ((client, server, False), (server, client, True)):
            self._start(threading.Thread(target=self._pump, args=(source, target, down)))

    def _pump(self, source: socket.socket, target: socket.socket, down: bool) -> None:
        source.settimeout(0.05)
        with suppress(OSError):
            while not self._stopping.is_set():
                try:
                    chunk = source.recv(65536)
                except TimeoutError:
                    continue
                if not chunk:
                    break
                if down and self.slow and len(chunk) > 2000:
                    self._trickle(chunk, target)
                else:
                    target.sendall(chunk)
                if not down and self.upload_rate:
                    self._stopping.wait(len(chunk) / self.upload_rate)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if down:
            source.close()
            target.close()

    def _trickle(self, chunk: bytes, target: socket.socket) -> None:
        head = chunk.find(b"\r\n\r\n") + 4
        target.sendall(chunk[:head])
        self.trickles.set()
        for byte in chunk[head:]:
            if self._stopping.wait(_SECONDS_A_BYTE) or not self.slow:
                return
            target.sendall(bytes([byte]))
